"""The documents' blocks, and what a running stack says about them.

write FOLDER   writes each block of commands, their output or SQL to a file, in the order of the documents
compare FILE   compares a block of output with that of the command before it
execute        executes a block of SQL, whose first line names database and role: -- order_db, as order_service
metrics        compares the table of metrics in docs/operations.md with what the running services serve
"""

import json
import re
import sys
import urllib.request
from pathlib import Path

ROUTES = json.loads(Path("crates/stack/parts/routes.json").read_text())["ports"]


def documents():
    """All of them, in the order in which a newcomer reads them; last those of crates, which have users of their own."""
    first = ["README.md", "docs/architecture.md", "docs/operations.md", "docs/configuration.md"]
    others = sorted(str(path) for path in Path("docs").glob("*.md"))
    crates = sorted(str(path) for path in Path("crates").glob("*/README.md"))
    names = [*first, *others, "CONTRIBUTING.md", "CHANGELOG.md", *crates]
    return [Path(name) for name in dict.fromkeys(names) if Path(name).is_file()]


def blocks(document):
    """A document's blocks: the line, the language, and the text without the block's own indentation."""
    language, start, lines = None, 0, []
    for number, line in enumerate(document.read_text().splitlines(), 1):
        fence = re.match(r"( *)```(\w*)$", line)
        if fence and language is None:
            language, start, lines, indent = fence[2], number, [], len(fence[1])
        elif fence and not fence[2]:
            yield start, language, "\n".join(lines)
            language = None
        elif language is not None:
            lines.append(line[indent:] if line[:indent].isspace() else line)
    if language is not None:
        sys.exit(f"{document}:{start}: the block has no end")


def write(folder):
    for order, document in enumerate(documents()):
        before = None
        for line, language, text in blocks(document):
            statement = language == "sql" and text.startswith("-- ")
            output = language in ("json", "text") and before == "sh"
            before = language
            if language == "sh" or statement or output:
                name = f"{order:02}-{document.stem}-{line:04}.{language}"
                (Path(folder) / name).write_text(text + "\n")


def execute(text):
    from pg8000.native import Connection

    head = re.match(r"-- (order|inventory)_db, as (\w+)\n", text)
    if not head:
        sys.exit(f"the first line names no database and role:\n{text}")
    context, role = head.groups()
    password = Path(f".stack/state/secrets/{role}").read_text().strip()
    connection = Connection(
        role, host="127.0.0.1", port=ROUTES[f"{context}_db"], database=f"{context}_db", password=password
    )
    for row in connection.run(text) or []:
        print(*row, sep=" | ")
    connection.close()


def pattern(shown):
    """What an output may look like: other numbers and ids, any text for `…`, and lines broken elsewhere."""
    parts = {
        r"\s+": r"\s*", "…": ".*?", r"[0-9a-f]{8}-[0-9a-f-]{27}": r"[0-9a-f-]{36}", r"[0-9a-f]{8}(?=-…)": r"[0-9a-f]{8}",
        r"\d+": r"\d+", r"[^\s\d…]": None,
    }
    found = re.finditer("|".join(f"({part})" for part in parts), shown.strip())
    return "".join(list(parts.values())[one.lastindex - 1] or re.escape(one[0]) for one in found)


def compare(file, output):
    shown = Path(file).read_text()
    if not re.fullmatch(pattern(shown), output.strip(), re.S):
        sys.exit(f"{Path(file).name} shows\n{shown}\nthe command prints\n{output}")


def table(document, heading):
    """The rows of the tables below a heading, each a list of cells."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", document.read_text(), re.M | re.S)
    if not section:
        sys.exit(f"{document} has no section {heading}")
    rows = [re.split(r"(?<!\\)\|", line.strip())[1:-1] for line in section[1].splitlines() if line.lstrip().startswith("|")]
    return [[cell.strip() for cell in row] for row in rows if not set("".join(row)) <= set("- ")]


def metrics():
    served, labels = {}, {}
    for service in ("order", "inventory", "worker"):
        with urllib.request.urlopen(f"http://127.0.0.1:{ROUTES[service]}/metrics") as answer:
            text = answer.read().decode()
        served |= dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
        for name, given in re.findall(r"^(\w+)\{(.*)\} ", text, re.M):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            name = base if base in served else name
            labels.setdefault(name, set()).update(re.findall(r'(\w+)="', given))
    shown, further = {}, {}
    for name, kind, more, *_ in table(Path("docs/operations.md"), "Metrics")[1:]:
        name = name.strip("`")
        shown[name], further[name] = kind, set(re.findall(r"`(\w+)`", more))
    wrong = [f"{name}: served as {served.get(name)}, shown as {shown.get(name)}"
             for name in sorted(served.keys() | shown.keys()) if served.get(name) != shown.get(name)]
    for name in shown:
        found = labels.get(name, set()) - {"outbox", "listener", "le", "quantile"}
        if found != further[name]:
            wrong.append(f"{name}: labels {sorted(found)}, shown are {sorted(further[name])}")
    if wrong:
        sys.exit("docs/operations.md, metrics:\n  " + "\n  ".join(wrong))
    print(f"{len(shown)} metrics are served as docs/operations.md shows them")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["write", folder]:
            write(folder)
        case ["compare", file]:
            compare(file, sys.stdin.read())
        case ["execute"]:
            execute(sys.stdin.read())
        case ["metrics"]:
            metrics()
        case _:
            sys.exit(__doc__)
