"""Holds what the packaged programs say of themselves, and what was fetched, to what both ways to run share.

The only argument is a file of JSON: nix/routes.nix writes it.
"""

import hashlib
import json
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# The address and the database's port of each service, by their names in routes.json, and whether it talks to Kafka.
SERVICES = {
    "order": ("order", "order_db", True),
    "inventory": ("inventory", "inventory_db", False),
    "inventory-worker": ("worker", "inventory_db", True),
}


def output(program: str, *arguments: str) -> str:
    return subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def addresses(expected: dict) -> dict:
    """What each service does without settings."""
    found = {}
    for name, program in expected["programs"].items():
        settings = tomllib.loads(output(program, "check-config", "--print"))
        found[f"{name}: http.listen"] = settings["http"]["listen"]
        found[f"{name}: database.port"] = settings["database"]["port"]
        if "kafka" in settings:
            found[f"{name}: kafka.bootstrap_servers"] = settings["kafka"]["bootstrap_servers"]
    return found


def shared_addresses(expected: dict) -> dict:
    ports = expected["routes"]["ports"]
    wanted = {}
    for name, (http, database, kafka) in SERVICES.items():
        wanted[f"{name}: http.listen"] = f"127.0.0.1:{ports[http]}"
        wanted[f"{name}: database.port"] = ports[database]
        if kafka:
            wanted[f"{name}: kafka.bootstrap_servers"] = f"127.0.0.1:{ports['kafka']}"
    return wanted


def debezium(expected: dict) -> dict:
    """What was fetched for Nix."""
    archive = Path(expected["archive"])
    # A store path's name begins with 32 characters and a hyphen.
    return {"Debezium": (archive.name[33:], hashlib.sha256(archive.read_bytes()).hexdigest())}


def shared_debezium(expected: dict) -> dict:
    parts = Path(expected["parts"])
    pom = ElementTree.parse(parts / "pom.xml")
    version = pom.findtext("./{*}properties/{*}debezium.version")
    name = f"debezium-connector-postgres-{version}-plugin.tar.gz"
    lines = (parts / "parts.sha256").read_text().splitlines()
    sums = {path: digest for digest, path in (line.split("  ") for line in lines)}
    return {"Debezium": (name, sums[f"archives/{name}"])}


def main() -> int:
    expected = json.loads(Path(sys.argv[1]).read_text())
    found = addresses(expected) | debezium(expected)
    wanted = shared_addresses(expected) | shared_debezium(expected)
    wrong = [key for key in sorted(found.keys() | wanted.keys()) if found.get(key) != wanted.get(key)]
    for key in wrong:
        print(f"{key}: Nix has {found.get(key)!r}, both ways share {wanted.get(key)!r}", file=sys.stderr)
    print(f"{len(wanted)} things are the same on both ways" if not wrong else f"{len(wrong)} things differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
