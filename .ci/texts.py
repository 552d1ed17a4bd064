"""Compares the documents with the code and with the programs' own answers; needs the binaries, and no stack."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from itertools import takewhile
from pathlib import Path

from blocks import blocks, documents, table

SERVICES = ("order", "inventory", "inventory-worker")
PROGRAMS = (*SERVICES, "connect", "bench", "stack")
# Of these, only the names are known here.
FOREIGN = {"cargo", "curl", "export", "git", "journalctl", "kcat", "ls", "nix", "psql", "sleep", "systemctl", "tail"}
OPERATIONS, CONFIGURATION = Path("docs/operations.md"), Path("docs/configuration.md")
wrong = []


def fail(document, text):
    wrong.append(f"{document}: {text}")


@cache
def answer(program, *arguments):
    run = subprocess.run([f"target/debug/{program}", *arguments], capture_output=True, text=True, env=environment())
    return run.stdout + run.stderr


def environment(**more):
    """Without settings of the shell that runs this."""
    prefixes = ("ORDER_", "INVENTORY_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)} | more


def subcommands(text):
    listed = re.search(r"^Commands:\n((?:  .*\n?|\n)*)", text, re.M)
    return re.findall(r"^  ([\w-]+)", listed[1], re.M) if listed else []


def test_command(document, words):
    """What follows `./dev test`: the package and the test program exist, and what the filter names is a test or a module of them."""
    words = [word for word in words if word != "--long"]
    folder, files = Path("crates"), "*/**/*.rs"
    while words:
        match words:
            case ["-p", package, *words]:
                folder, files = Path("crates", package), "**/*.rs"
            case ["--lib", *words]:
                files = "src/**/*.rs"
            case ["--test", program, *words]:
                files = f"tests/{program}/**/*.rs" if Path(folder, "tests", program).is_dir() else f"tests/{program}.rs"
            case [option, *_] if option.startswith("-"):
                return fail(document, f"./dev test: the check does not know {option}")
            case [name, *words]:
                texts = [path.read_text() for path in folder.glob(files)]
                for part in filter(None, name.split("::")):
                    if not any(re.search(rf"^ *(?:pub )?(?:async )?(?:fn|mod) \w*{re.escape(part)}", text, re.M) for text in texts):
                        fail(document, f"{folder}/{files} has no test and no module {part}")
        if not any(folder.glob(files)):
            fail(document, f"./dev test: there is no {folder}/{files}")


def command(document, line):
    """A command line of one of the programs: its subcommands and options exist. The program must be known."""
    # A substitution is a command of its own, or gives a variable its value.
    line = re.sub(r"^\w+=\$\(([^()]*)\)$", r"\1", re.sub(r"^\w+=\$\([^()]*\) +", "", line))
    words = shlex.split(line, comments=True)
    words = list(takewhile(lambda word: word not in ("|", ">", "&&", ";"), words))
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    if not words:
        return
    program = words[0].removeprefix("target/debug/").removeprefix("outbox-cdc-")
    if words[0] == "./dev":
        usage = subprocess.run(["./dev", "help"], capture_output=True, text=True).stdout
        wanted = " ".join(words[1:3]) if words[1:2] in (["bench"], ["parts"]) else " ".join(words[1:2])
        if wanted and not re.search(rf"^  {re.escape(wanted)}\b", usage, re.M):
            fail(document, f"./dev has no command {wanted}")
        if wanted == "test":
            test_command(document, words[2:])
        return
    if program == "timeout":
        return command(document, shlex.join(words[2:]))
    if words[:2] == ["sh", "-c"]:
        return command(document, words[2].removeprefix("until "))
    if program not in PROGRAMS:
        if program not in FOREIGN:
            fail(document, f"there is no program {words[0]}")
        return
    if program == "stack" and words[1:2] == ["exec"]:
        return
    arguments = words[1:]
    path = ["dead-letters"] if program in SERVICES and arguments[:1] and arguments[0] in ("list", "show", "redrive", "discard") else []
    while arguments and arguments[0] in subcommands(answer(program, *path, "--help")):
        path.append(arguments.pop(0))
    help_text = answer(program, *path, "--help")
    if subcommands(help_text) and arguments and not arguments[0].startswith("-"):
        fail(document, f"{program} has no command {' '.join([*path, arguments[0]])}")
    for option in (word.split("=")[0] for word in arguments if word.startswith("--")):
        if not re.search(rf"{option}\b", help_text):
            fail(document, f"{program} {' '.join(path)} has no option {option}")


def commands():
    names = "|".join(PROGRAMS)
    for document in documents():
        if document.name == "CHANGELOG.md":
            continue
        for _, language, text in blocks(document):
            for line in text.splitlines():
                if language == "sh":
                    command(document, line)
                elif language == "console" and re.match(r"[$#] ", line):
                    command(document, line[2:])
        prose = re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.M | re.S)
        for span in re.findall(r"`([^`\n]+)`", prose):
            known = re.match(rf"(?:[A-Z_]+=\S+ )*(?:\./dev|(?:target/debug/|outbox-cdc-)?(?:{names})|dead-letters) [a-z-]", span)
            if known and not re.search(r"[|…{]", span):
                command(document, span.replace("dead-letters", "inventory-worker dead-letters", 1) if span.startswith("dead-letters") else span)


def every_command():
    """The table of commands has every command of the programs that an operator runs."""
    rows = "\n".join("|".join(row) for row in table(OPERATIONS, "Commands"))
    for program in (*SERVICES, "connect"):
        for name in subcommands(answer(program, "--help")):
            for leaf in [f"{name} {below}" for below in subcommands(answer(program, name, "--help"))] or [name]:
                if "help" not in leaf and f"`{leaf}`" not in rows:
                    fail(OPERATIONS, f"the table of commands lacks {leaf} of {program}")


def sources():
    """All Rust of the programs and the library, with each string in one line."""
    text = "".join(path.read_text() for path in sorted(Path("crates").glob("*/src/**/*.rs")))
    return re.sub(r"\\\n\s*", "", text).replace('\\"', '"')


def quoted_texts(source):
    """Warnings and log messages are in the code, word for word between the parts that vary."""
    for heading in ("Warnings", "Log messages"):
        section = re.search(rf"^## {heading}\n(.*?)(?=^## )", OPERATIONS.read_text(), re.M | re.S)[1]
        spans = re.findall(r"`([^`]+)`", section)
        texts = [span for span in spans if " " in span and not re.match(rf"(?:\./dev|{'|'.join(PROGRAMS)}|dead-letters) ", span)]
        for text in texts:
            for part in re.split("…", text):
                part = part.strip(" ;:()")
                if len(part) > 3 and part not in source:
                    fail(OPERATIONS, f"the code has no text {part!r} ({heading})")


# Of the errors, and of the warnings that say behind a `;` what follows, those without a row; the key is the reason.
NEED_NO_ROW = {
    "its text is another error's, which has a row": ("{error}",),
    "it goes away by itself; while it lasts, readiness or a message of the table says so": (
        "the Kafka consumer reports an error; librdkafka recovers by itself",
        "the Kafka client reports an error; librdkafka recovers by itself",
        "the rebalance failed; giving up the assignment",
        "cannot read the partition again yet; trying again",
        "cannot replace the Kafka consumer while earlier ones are still closing; trying again",
        "cannot retry dead letters now; trying again",
        "cannot count dead letters; the metric keeps the old numbers",
        "the database does not answer; readiness fails until it does",
    ),
    "the messages are settled, and delivering them again changes nothing": (
        "cannot commit an offset; the next commit has it too",
        "cannot commit offsets; the next commit has them too",
    ),
    "the service stops, and the next start repeats what did not finish, or the client does": (
        "the Kafka consumer did not close in time; Kafka may deliver its last messages again",
        "the last batch did not finish in time; Kafka delivers it again",
        "the last automatic retry did not finish in time; the next start repeats it",
    ),
}
STRING = r'"(?:\\.|[^"\\])*"'
LOGGED = re.compile(rf'\btracing::(warn|error)!\(((?:[^()"]|{STRING}|\((?:[^()"]|{STRING})*\))*)\)')


def messages():
    """Each error, and each warning that says what to do or what follows: the file and the text."""
    for path in sorted(Path("crates").glob("*/src/**/*.rs")):
        if path.name != "tests.rs" and "tests" not in path.parts:
            text = re.sub(r"\\\n\s*", "", path.read_text())
            logged = LOGGED.findall(text)
            if len(logged) != len(re.findall(r"\b(?:warn|error)!\(", text)):
                fail(".ci/texts.py", f"it cannot read each warning of {path}")
            for level, arguments in logged:
                # Beside it there may be names, as in `text("slot.name")`.
                message = max(re.findall(STRING, arguments), key=len)[1:-1]
                if level == "error" or ";" in message:
                    yield path, message


def every_message():
    """The table of log messages has each of them, or there is a reason."""
    rows = [row[2].strip("`").split("…") for row in table(OPERATIONS, "Log messages")[1:]]
    shown = [re.compile(".*".join(map(re.escape, parts))) for parts in rows]
    left_out = {message for texts in NEED_NO_ROW.values() for message in texts}
    found = list(messages())
    for path, message in found:
        if message not in left_out and not any(row.fullmatch(message) for row in shown):
            fail(OPERATIONS, f"the table of log messages lacks {message!r} of {path}")
    for message in left_out - {message for _, message in found}:
        fail(".ci/texts.py", f"the code does not log {message!r}; remove it from NEED_NO_ROW")


def metric_names(source):
    known = set(re.findall(r'"((?:outbox|orders|http)_\w+)"', source))
    for document in documents():
        # The one names what has changed, the other tests.
        if document.name in ("CHANGELOG.md", "guarantees.md"):
            continue
        pattern = r"`((?:outbox_(?:listener|slot|watched|backlog|oldest|database|removed)|orders_|http_re)\w*)"
        for name in re.findall(pattern, document.read_text()):
            if name not in known:
                fail(document, f"the code has no metric {name}")


def flat(table_, prefix=""):
    found = {}
    for key, value in table_.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            found |= flat(value, f"{path}.")
        else:
            found[path] = value
    return found


def shown_settings():
    """Of each service, each documented key and its default; None without one."""
    shown = {service: {} for service in SERVICES}
    text = CONFIGURATION.read_text()
    for section, intro in re.findall(r"^## `([a-z.]+)`\n\n(.*?)\n\n\| key", text, re.M | re.S):
        services = SERVICES if intro.startswith("All three") else [
            service for service in SERVICES if re.search(rf"`{service}`", intro.split(":")[0].split(". ")[0])]
        for key, variable, _, default, *_ in table(CONFIGURATION, f"`{section}`")[1:]:
            path = f"{section}.{key.strip('`')}"
            name = f"`…__{path.upper().replace('.', '__')}"
            if variable not in (f"{name}`", f"{name}__…`"):
                fail(CONFIGURATION, f"the variable of {path} is not {variable}")
            single = re.fullmatch(r"`([^`]*)`", default)
            each = dict(re.findall(r"`([\w-]+)`: `([^`]*)`", default))
            for service in services:
                shown[service][path] = None if default == "–" else single[1] if single else each.get(service, f"no default for {service}")
    return shown


def written(value):
    """A default as the document writes it."""
    match value:
        case bool():
            return str(value).lower()
        case list():
            return "[" + ", ".join(f'"{entry}"' for entry in value) + "]"
        case dict():
            return "{}"
        case _:
            return str(value)


def settings():
    shown = shown_settings()
    for service in SERVICES:
        printed = flat(tomllib.loads(answer(service, "check-config", "--print")))
        for key in sorted(printed.keys() | shown[service].keys()):
            default = shown[service].get(key, "not shown")
            if key in printed and written(printed[key]) != default:
                fail(CONFIGURATION, f"{service}: {key} is {written(printed[key])} by default; shown: {default}")
            elif key not in printed and default is not None:
                fail(CONFIGURATION, f"{service} has no default for {key}; shown: {default}")
            elif key not in printed:
                prefix = service.upper().replace("-", "_")
                variable = f"{prefix}__{key.upper().replace('.', '__')}"
                run = subprocess.run([f"target/debug/{service}", "check-config", "--without-files", "--print"],
                                     capture_output=True, text=True, env=environment(**{variable: "1"}))
                if "unknown key" in run.stderr or "would set nothing" in run.stderr:
                    fail(CONFIGURATION, f"{service} has no setting {key}")
    # Settings without a default are not printed: the code has them.
    sections = (path for path in Path("crates/service/src/config").glob("*.rs") if "Deserialize" in path.read_text())
    files = [path for path in (*sections, Path("crates/outbox/src/specification/settings.rs")) if path.stem != "load"]
    keys = {key.rsplit(".", 1)[1] for service in SERVICES for key in shown[service]}
    for path in files:
        for key in re.findall(r"^ {4}pub (\w+): Option<", path.read_text(), re.M):
            if key not in keys:
                fail(CONFIGURATION, f"{path} has a setting {key}, which no table shows")


def dependencies(document, given):
    """What a crate's user writes into Cargo.toml: versions and features are those with which the workspace builds."""
    workspace = tomllib.loads(Path("Cargo.toml").read_text())["workspace"]["dependencies"]
    for name, wanted in given.items():
        wanted = {"version": wanted} if isinstance(wanted, str) else wanted
        known = workspace.get(name, {})
        known = {"version": known} if isinstance(known, str) else known
        features = known.get("features", [])
        if "path" in known:
            features = tomllib.loads(Path(known["path"], "Cargo.toml").read_text())["features"]
        if not known or wanted.get("version") != known.get("version"):
            fail(document, f"the workspace has no {name} {wanted.get('version', '')}")
        if "path" in wanted and not wanted["path"].endswith(f"/{known.get('path')}"):
            fail(document, f"{name} is not in {wanted['path']}")
        for feature in set(wanted.get("features", [])) - set(features):
            fail(document, f"the workspace uses no feature {feature} of {name}")


def configurations():
    """A TOML block is a file of the Order Service's settings, or has a crate's dependencies."""
    for document in documents():
        for line, language, text in blocks(document):
            if language != "toml":
                continue
            if text.startswith("[dependencies]\n"):
                dependencies(document, tomllib.loads(text)["dependencies"])
                continue
            with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
                file.write(text)
                file.flush()
                run = subprocess.run(["target/debug/order", "check-config", "--without-files", "--config", file.name],
                                     capture_output=True, text=True, env=environment())
            if run.returncode:
                fail(document, f"line {line}: {run.stderr.strip()}")


def tables():
    """SQL that creates a table or a role is that of a migration; of another context, when its names are replaced."""
    def plain(text):
        return re.sub(r"\s+", " ", re.sub(r"--.*", "", text)).strip()

    migrations = [*Path("crates/outbox/migrations").rglob("*.sql"), *Path("migrations").rglob("*.sql")]
    statements = " ".join(plain(path.read_text()) for path in migrations)
    for document in documents():
        for line, language, text in blocks(document):
            if language != "sql" or text.startswith("-- "):
                continue
            context = re.match(r"create role (\w+)_owner ", text)
            # The stack and the modules create the databases.
            for statement in re.split(r"(?<=;)\s", plain(re.sub(r"\bcreate database .*;", "", text))) if context else [plain(text)]:
                if (statement.replace(f"{context[1]}_", "order_") if context else statement) not in statements:
                    fail(document, f"line {line}: no migration has this statement; a statement to execute begins with its database "
                                   f"and role: {statement}")


source = sources()
for check in (commands, every_command, settings, configurations, tables):
    check()
quoted_texts(source)
every_message()
metric_names(source)
if wrong:
    sys.exit("\n".join(dict.fromkeys(wrong)))
print("commands, options, warnings, log messages, metrics, settings and configurations of the documents are those of the code")
