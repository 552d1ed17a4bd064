"""Compares what the packaged programs print, the settings of the modules and the downloaded archive with the files that
./dev uses too.

Argument: a JSON file, written by nix/routes.nix.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# The HTTP port and the database port of each service, by their names in routes.json.
PORTS = {
    "order": ("order", "order_db"),
    "inventory": ("inventory", "inventory_db"),
    "inventory-worker": ("worker", "inventory_db"),
}
# The settings that name a role.
ROLES = ("database", "owner", "connector", "keeper")

Facts = dict[str, object]


def output(program: str, *arguments: str) -> str:
    return subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def printed(program: str) -> dict:
    return tomllib.loads(output(program, "check-config", "--print"))


def of_settings(source: str, service: str, settings: dict) -> Facts:
    """The addresses in a service's settings."""
    found = {
        f"{source} {service}, http.listen": settings["http"]["listen"],
        f"{source} {service}, database.port": settings["database"]["port"],
    }
    if "kafka" in settings:
        found[f"{source} {service}, kafka.bootstrap_servers"] = settings["kafka"]["bootstrap_servers"]
    return found


def shared_settings(source: str, service: str, ports: dict, kafka: bool) -> Facts:
    http, database = PORTS[service]
    settings: dict = {"http": {"listen": f"127.0.0.1:{ports[http]}"}, "database": {"port": ports[database]}}
    if kafka:
        settings["kafka"] = {"bootstrap_servers": f"127.0.0.1:{ports['kafka']}"}
    return of_settings(source, service, settings)


def created_roles(source: Path, context: str) -> list[str]:
    text = (source / "migrations" / context / "roles.sql").read_text()
    return sorted(re.findall(r"^\s*create role (\w+)", text, re.MULTILINE))


def used_roles(programs: list[dict]) -> list[str]:
    return sorted({settings[section]["user"] for settings in programs for section in ROLES if section in settings})


def of_connector(context: str, connector: dict) -> Facts:
    """A connector's configuration and topics, with the reference to its password in a form that both ways share."""
    config = dict(connector["config"])
    if re.fullmatch(rf"\$\{{dir:/[^:]+:{context}_cdc\}}", config["database.password"]):
        config["database.password"] = f"the file {context}_cdc"
    found: Facts = {f"connector of {context}, {key}": value for key, value in config.items()}
    return found | {f"topic of {context}, {topic['name']}": topic for topic in connector["topics"]}


def main() -> int:
    expected = json.loads(Path(sys.argv[1]).read_text())
    programs, source = expected["programs"], Path(expected["source"])
    own = {name: printed(program) for name, program in programs.items()}
    found: Facts = {}
    wanted: Facts = {}

    for service in PORTS:
        kafka = service != "inventory"
        found |= of_settings("the program", service, own[service])
        found |= of_settings("the module", service, expected["settings"][service])
        for kind in ("the program", "the module"):
            wanted |= shared_settings(kind, service, expected["routes"]["ports"], kafka)

    for context, roles in expected["roles"].items():
        services = [settings for name, settings in own.items() if name.startswith(context)]
        wanted[f"roles of {context}, the module's"] = created_roles(source, context)
        found[f"roles of {context}, the module's"] = sorted(roles)
        wanted[f"roles of {context}, the programs'"] = created_roles(source, context)
        found[f"roles of {context}, the programs'"] = used_roles(services)

        connector = json.loads(output(programs[context], "connector"))
        wanted |= of_connector(context, connector)
        declared = Path(expected["connectors"]) / f"{connector['name']}.json"
        if declared.exists():
            found |= of_connector(context, json.loads(declared.read_text()))
    wanted["connectors"] = len(expected["roles"])
    found["connectors"] = len(list(Path(expected["connectors"]).glob("*.json")))

    # The name of a store path starts with 32 characters and a hyphen.
    archive = Path(expected["archive"])
    found["Debezium"] = [archive.name[33:], hashlib.sha256(archive.read_bytes()).hexdigest()]
    parts = source / "crates/stack/parts"
    version = ElementTree.parse(parts / "pom.xml").findtext("./{*}properties/{*}debezium.version")
    plugin = f"debezium-connector-postgres-{version}-plugin.tar.gz"
    sums = dict(line.split("  ")[::-1] for line in (parts / "parts.sha256").read_text().splitlines())
    wanted["Debezium"] = [plugin, sums[f"archives/{plugin}"]]

    wrong = [what for what in sorted(found.keys() | wanted.keys()) if found.get(what) != wanted.get(what)]
    for what in wrong:
        print(f"{what}: {found.get(what)!r} with Nix, {wanted.get(what)!r} with ./dev", file=sys.stderr)
    print(f"{len(wrong)} differences" if wrong else f"{len(wanted)} values are the same with ./dev and Nix")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
