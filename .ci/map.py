"""Compares the map of the code in docs/architecture.md with the source files, and the files that any document names with
those that exist; of a name in parentheses behind a file, such as `crates/stack/src/ports.rs` (`FREE`), the file has it."""

import re
import sys
from pathlib import Path

from blocks import documents

MAP = Path("docs/architecture.md")
FROM_TOP = r"(?:crates|migrations|nix|\.ci)/[A-Za-z0-9_./-]*"
wrong = []


def fail(document, text):
    wrong.append(f"{document}: {text}")


def sources():
    """Every source file but unit tests."""
    paths = Path("crates").glob("*/src/**/*.rs")
    return {str(path) for path in paths if path.name != "tests.rs" and "tests" not in path.parts}


def sections(text):
    """The parts of the document that name files, each with the folder that its names are relative to."""
    walk, _, the_map = text.partition("\n## The map of the code\n")
    yield "crates/outbox/src/listener/", walk.partition("\n## A batch's walk")[2]
    before, *rest = re.split(r"^### ", the_map, flags=re.M)
    yield "", before
    for section in rest:
        heading = re.match(r"`(crates/[a-z-]+/src[a-z_/]*)`", section)
        yield (f"{heading[1]}/" if heading else ""), section


def the_map():
    listed = []
    for base, section in sections(MAP.read_text()):
        for name in re.findall(r"`([A-Za-z0-9_.{}/-]+\.rs)`", section):
            if base and not re.match(FROM_TOP, name) and not Path(base, name).exists():
                fail(MAP, f"no file {base}{name}")
        if base and "| file | what it does |" in section:
            for cell in re.findall(r"^\| (.*?) \|", section, re.M)[2:]:
                name = re.fullmatch(r"`([A-Za-z0-9_./-]+\.rs)`", cell)
                if name:
                    listed.append(name[1] if re.match(FROM_TOP, name[1]) else base + name[1])
                else:
                    fail(MAP, f"a row of {base} has {cell} instead of one file")
    files = sources()
    for path in sorted(files - set(listed)):
        fail(MAP, f"the map has no row for {path}")
    for path in sorted(set(listed) - files):
        fail(MAP, f"the map has a row for {path}, which is no source file")
    for path in sorted({path for path in listed if listed.count(path) > 1}):
        fail(MAP, f"the map has {path} twice")
    return len(files)


def named_files():
    for document in documents():
        # It names what has changed.
        if document.name == "CHANGELOG.md":
            continue
        for path, _, names in re.findall(rf"`({FROM_TOP})`( \(((?:`[^`]+`|[^`()])*)\))?", document.read_text()):
            if not Path(path).exists():
                fail(document, f"no file {path}")
            elif Path(path).is_file():
                text = Path(path).read_text()
                for name in re.findall(r"`([\w.:]+)`", names):
                    if not all(re.search(rf"\b{word}\b", text) for word in re.findall(r"\w+", name)):
                        fail(document, f"{path} has no {name}")


count = the_map()
named_files()
if wrong:
    sys.exit("\n".join(dict.fromkeys(wrong)))
print(f"the map has each of {count} source files, and every file that a document names exists")
