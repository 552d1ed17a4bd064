"""The three machines: their secrets, units, databases and Kafka Connect's REST API.

The machines may be emulated and slow: every wait polls and has a generous limit.
"""

import json
import secrets
import shlex
import time
from collections.abc import Callable
from typing import Any

# The limit of every wait, in seconds.
TIMEOUT = 1500

PORTS: dict[str, int] = FACTS["ports"]
SECRETS = {role: secrets.token_hex(16) for roles in FACTS["roles"].values() for role in roles}


def until(what: str, holds: Callable[[], Any], seconds: int = TIMEOUT) -> Any:
    """Polls `holds` until it returns something true, and returns that."""
    log.info(f"waiting until {what}")
    deadline = time.monotonic() + seconds
    while not (held := holds()):
        if time.monotonic() > deadline:
            raise Exception(f"timed out after {seconds} s waiting until {what}")
        time.sleep(0.5)
    return held


def write_secrets(machine, roles: list[str]) -> None:
    """Writes the passwords of these roles to a machine, as files that only root can read. They survive a crash."""
    directory = FACTS["secrets"]
    files = " && ".join(f"printf %s {SECRETS[role]} > {directory}/{role}" for role in roles)
    machine.succeed(f"umask 077 && mkdir -p {directory} && {files} && touch {directory}/complete && sync")


def start() -> None:
    """Starts the machines and waits until every unit and connector runs."""
    start_all()
    write_secrets(order, FACTS["roles"]["order"])
    write_secrets(inventory, FACTS["roles"]["inventory"])
    write_secrets(kafka, ["order_cdc", "inventory_cdc"])
    wait_for_units(kafka, "apache-kafka", "kafka-connect", "kafka-connect-topics", "kafka-connect-connectors")
    wait_for_units(order, "postgresql", "outbox-cdc-order-database", "outbox-cdc-order-migrations", "outbox-cdc-order")
    wait_for_units(inventory, "postgresql", "outbox-cdc-inventory-database", "outbox-cdc-inventory-migrations")
    wait_for_units(inventory, "outbox-cdc-inventory", "outbox-cdc-inventory-worker")
    for connector in ["order-outbox", "inventory-outbox"]:
        wait_for_connector(connector)


def wait_for_units(machine, *units: str) -> None:
    """Waits until units are active. systemd restarts a unit that failed because another was not ready."""
    for unit in units:
        until(f"{unit} is active", lambda: machine.execute(f"systemctl is-active {unit}.service")[0] == 0)


def rest(path: str) -> Any:
    """Kafka Connect's answer, or None if the request failed."""
    status, answer = kafka.execute(f"curl -fsS -m 60 http://127.0.0.1:{PORTS['connect']}{path} 2> /dev/null")
    return json.loads(answer) if status == 0 else None


def states(connector: str) -> list[str]:
    """The states of a connector and of its tasks."""
    status = rest(f"/connectors/{connector}/status")
    return [status["connector"]["state"], *(task["state"] for task in status["tasks"])] if status else []


def wait_for_connector(connector: str) -> None:
    until(f"connector {connector} and its task run", lambda: states(connector) == ["RUNNING", "RUNNING"])


def sql(machine, statement: str) -> str:
    """The result of a statement that the superuser runs on a machine's database, one line for each row."""
    flags = f"-p {FACTS[machine.name + '_db']} -d {machine.name}_db -qAtX -F '|' -v ON_ERROR_STOP=1"
    command = f"{FACTS['psql']} -h /run/postgresql {flags} -c {shlex.quote(statement)}"
    return machine.succeed(f"cd / && runuser -u postgres -- {command}").strip()


def rows(machine, statement: str) -> set[str]:
    return set(sql(machine, statement).splitlines())


def request(machine, url: str, *flags: str) -> tuple[int, Any]:
    """An HTTP answer: its status and its JSON body."""
    command = shlex.join(["curl", "-sS", "-m", "60", "-w", r"\n%{http_code}", *flags, url])
    text, _, status = machine.succeed(command).rpartition("\n")
    return int(status), json.loads(text)


