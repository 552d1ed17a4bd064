"""What both tests do with the three machines: secrets, orders, waiting, and the invariant over sets of ids.

Machines may be emulated and slow: nothing is expected by a certain time, only in the end.
"""

import json
import secrets
import shlex
import time
from collections.abc import Callable
from typing import Any

MOUSE = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
# How long anything may take.
PATIENCE = 1500

PORTS: dict[str, int] = FACTS["ports"]
SECRETS = {role: secrets.token_hex(16) for roles in FACTS["roles"].values() for role in roles}


def until(what: str, holds: Callable[[], Any], seconds: int = PATIENCE) -> Any:
    """Waits until something holds, and returns it."""
    log.info(f"waiting until {what}")
    deadline = time.monotonic() + seconds
    while not (held := holds()):
        if time.monotonic() > deadline:
            raise Exception(f"not within {seconds} s: {what}")
        time.sleep(0.5)
    return held


def bring_secrets(machine, roles: list[str]) -> None:
    """Gives a machine the secrets of these roles, as files that only root may read; they outlive a crash."""
    folder = FACTS["secrets"]
    files = " && ".join(f"printf %s {SECRETS[role]} > {folder}/{role}" for role in roles)
    machine.succeed(f"umask 077 && mkdir -p {folder} && {files} && touch {folder}/complete && sync")


def start() -> None:
    """Starts the machines, and waits until all of it runs."""
    start_all()
    bring_secrets(order, FACTS["roles"]["order"])
    bring_secrets(inventory, FACTS["roles"]["inventory"])
    bring_secrets(kafka, ["order_cdc", "inventory_cdc"])
    runs(kafka, "apache-kafka", "kafka-connect", "kafka-connect-topics", "kafka-connect-connectors")
    runs(order, "postgresql", "outbox-cdc-order-database", "outbox-cdc-order-migrations", "outbox-cdc-order")
    runs(inventory, "postgresql", "outbox-cdc-inventory-database", "outbox-cdc-inventory-migrations")
    runs(inventory, "outbox-cdc-inventory", "outbox-cdc-inventory-worker")
    for connector in ["order-outbox", "inventory-outbox"]:
        connector_runs(connector)


def runs(machine, *units: str) -> None:
    """Waits until units are active. One that failed for want of another is started again by systemd."""
    for unit in units:
        until(f"{unit} runs", lambda: machine.execute(f"systemctl is-active {unit}.service")[0] == 0)


def rest(path: str) -> Any:
    """What Kafka Connect answers, or nothing."""
    status, answer = kafka.execute(f"curl -fsS -m 60 http://127.0.0.1:{PORTS['connect']}{path} 2> /dev/null")
    return json.loads(answer) if status == 0 else None


def states(connector: str) -> list[str]:
    """The states of a connector and of its tasks."""
    status = rest(f"/connectors/{connector}/status")
    return [status["connector"]["state"], *(task["state"] for task in status["tasks"])] if status else []


def connector_runs(connector: str) -> None:
    until(f"connector {connector} runs", lambda: states(connector) == ["RUNNING", "RUNNING"])


def sql(machine, statement: str) -> str:
    """What the superuser of a machine's database sees, a line a row."""
    flags = f"-p {FACTS[machine.name + '_db']} -d {machine.name}_db -qAtX -F '|' -v ON_ERROR_STOP=1"
    command = f"{FACTS['psql']} -h /run/postgresql {flags} -c {shlex.quote(statement)}"
    return machine.succeed(f"cd / && runuser -u postgres -- {command}").strip()


def rows(machine, statement: str) -> set[str]:
    return set(sql(machine, statement).splitlines())


def request(machine, url: str, *flags: str) -> tuple[int, Any]:
    """An answer's status, and what it says."""
    command = shlex.join(["curl", "-sS", "-m", "60", "-w", r"\n%{http_code}", *flags, url])
    text, _, status = machine.succeed(command).rpartition("\n")
    return int(status), json.loads(text)


def orders_url(machine=None) -> str:
    return f"http://{'127.0.0.1' if machine is None else 'order'}:{PORTS['order']}/orders"


def post(body: str, machine=None) -> tuple[int, Any]:
    """Places an order, from the machine of the service or from another one."""
    return request(machine or order, orders_url(machine), "-d", body)


def body(product: str, price: int, quantity: int) -> str:
    return json.dumps({"product_id": product, "estimated_price": price, "quantity": quantity})


def place(product: str, price: int, quantity: int) -> str:
    status, answer = post(body(product, price, quantity))
    t.assertEqual(status, 201, answer)
    return answer["id"]


def place_many(count: int, product: str, price: int) -> set[str]:
    """Places orders of one piece each, one after the other; every one is taken."""
    # A number that the service does not look at makes one request of each.
    url = f"{orders_url()}?[1-{count}]"
    command = shlex.join(["curl", "-sS", "-w", r"\n%{http_code}\n", "-d", body(product, price, 1), url])
    lines = order.succeed(command).split()
    t.assertEqual(lines[1::2], ["201"] * count)
    ids = {json.loads(line)["id"] for line in lines[0::2]}
    t.assertEqual(len(ids), count)
    return ids


def settled(id: str) -> Any:
    """An order, once it has its outcome."""

    def look() -> Any:
        status, answer = request(order, f"{orders_url()}/{id}")
        t.assertEqual(status, 200)
        return answer if answer["status"] != "pending" else None

    return until(f"order {id} is settled", look)


def stock(product: str) -> int:
    """The stock as the Inventory Service shows it."""
    _, products = request(inventory, f"http://127.0.0.1:{PORTS['inventory']}/products")
    return {shown["id"]: shown["stock"] for shown in products}[product]


def listed(ids: set[str]) -> str:
    return "(" + ",".join(f"'{id}'" for id in sorted(ids)) + ")"


def pending(orders: set[str]) -> set[str]:
    return rows(order, f"select id from orders where id in {listed(orders)} and status = 'pending'")


def none_pending() -> bool:
    return sql(order, "select count(*) from orders where status = 'pending'") == "0"


def carried(topic: str) -> set[str]:
    """Whose event of what id Kafka carries on a topic: `order|event`."""
    consumer = f"{FACTS['consumer']} --bootstrap-server 127.0.0.1:{PORTS['kafka_internal']} --topic {topic}"
    out = kafka.succeed(
        f"KAFKA_HEAP_OPTS=-Xmx128m {consumer} --from-beginning --timeout-ms 60000"
        " --property print.key=true --property print.headers=true --property print.value=false 2> /dev/null"
    )
    found = set()
    for line in out.splitlines():
        headers, _, key = line.partition("\t")
        if key:
            named = dict(header.split(":", 1) for header in headers.split(","))
            found.add(f"{key.strip()}|{named['id']}")
    return found


def invariant_holds(orders: set[str], product: str, initial: int, confirmed: int) -> None:
    """Over exactly these orders, of one piece of one product each: each has one event and one outcome, Kafka carries
    both, and each is settled on the other side; the two sides agree; stock fell by what was confirmed; slots are drained."""
    until("every order is settled", none_pending)
    within = f"aggregateid in {listed(orders)}"
    placed = rows(order, f"select aggregateid, id from outbox where aggregatetype = 'order' and {within}")
    outcomes = rows(inventory, f"select aggregateid, id from outbox where aggregatetype = 'reservation' and {within}")
    for what, events, topic, settles, listener in [
        ("order.placed", placed, "order", inventory, "inventory-worker"),
        ("outcome", outcomes, "reservation", order, "order"),
    ]:
        about = [event.split("|")[0] for event in events]
        t.assertEqual(sorted(about), sorted(orders), f"every order has exactly one {what}")
        ids = {event.split("|")[1] for event in events}
        t.assertEqual(events - carried(topic), set(), f"Kafka carries every {what}")
        inbox = rows(settles, f"select id from inbox where listener = '{listener}' and id in {listed(ids)}")
        t.assertEqual(inbox, ids, f"every {what} is settled")
        dead letters = sql(settles, f"select count(*) from dead_letter where id in {listed(ids)}")
        t.assertEqual(dead letters, "0", f"no {what} was dead-lettered")
    fates = rows(order, f"select id, status, coalesce(reason, '') from orders where id in {listed(orders)}")
    decisions = rows(
        inventory,
        "select order_id, case when reason is null then 'confirmed' else 'rejected' end, coalesce(reason, '')"
        f" from reservations where order_id in {listed(orders)}",
    )
    t.assertEqual(fates, decisions, "an order's status is inventory's decision")
    t.assertEqual(sum("|confirmed|" in fate for fate in fates), confirmed)
    t.assertEqual(stock(product), initial - confirmed)
    for machine in [order, inventory]:
        now = sql(machine, "select pg_current_wal_lsn()")
        drained = f"select pg_wal_lsn_diff('{now}', confirmed_flush_lsn) <= 0 from pg_replication_slots"
        until(f"the slot of {machine.name} is drained", lambda: sql(machine, drained) == "t")
