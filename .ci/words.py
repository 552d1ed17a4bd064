"""Finds words of earlier states in every file, inverted sentences, and identifiers that the glossary names otherwise."""

import re
import subprocess
import sys
from pathlib import Path

# CHANGELOG.md names what has changed; this file has the words.
LEFT_OUT = {"CHANGELOG.md", "Cargo.lock", "flake.lock", ".ci/words.py", "LICENSE-APACHE", "LICENSE-MIT"}
# In any text; `~` is a gap, which may be a line's end.
WORDS = (
    r"(?<!dead-)(?<!dead_)letters?", r"(?<!dead-)lettered", r"put~aside", r"deferrals?", r"passed[ _]over",
    r"spoilt", r"(?:the~|original~)seed", r"made~again", r"begins~again", r"in~hand", r"somebody", r"nobody", r"whoever",
    r"tells?", r"told", r"untried", r"judge[sd]?", r"breathes?",
    r"due(?!~to\b)",
    r"(?:dropped|discarded)_letter", r"dead_letters~(?:list|show|redrive|drop)", r"in~vain",
    # The subject comes first.
    r"(?-i:Nor)~(?:is|are|was|were|do|does|did|can|could|may|must|has|have|will)",
)
# In any text too, and before the right use of a word, such as `dead letter`, is blanked.
PHRASES = (r"gives?~(?:a~dead~letter|dead~letters|one|it)~up",)
OLD, PHRASE = (
    re.compile(r"\b(?:%s)\b" % "|".join(words).replace("~", r"\s+(?://[/!]? +|-- +|# +)?"), re.I) for words in (WORDS, PHRASES)
)
# As a part of a name in Rust or SQL, such as `due` in `dead_letter_due`.
PARTS = {
    "due", "behind", "told", "tell", "turn", "turns", "look", "judge", "judges", "fate", "spoilt", "usable", "untried", "tries",
    "breathe", "deferral", "rights", "room", "probes", "keeping",
}
# As the name of a method in Rust; as another name it may be the right word.
METHODS = re.compile(r"\bfn (?:note|hand|rest|opened|spoil|give_up)\((?:mut self|self|&)")
CODE = re.compile(r'r#"(?:.|\n)*?"#|"(?:\\[\s\S]|[^"\\])*"|//[^\n]*|--[^\n]*|\'(?:\\.|[^\\\'\n])\'')
# `nobody` is a system's user, a letter one of the alphabet, and rights are the licence's or the reader's.
PLAIN = re.compile(
    r"letters? (?:beyond|of the alphabet)|(?:capital|small|upper-case|lower-case|ASCII) letters?|letters(?:, | and |/)digits"
    r"|dead\s+(?://[/!]? +|-- +)?letter(?:s|ed)?\b"
    r'|\["postgres", "nobody"\]|`nobody`|user `?nobody', re.I
)


def wrong(path, text):
    plain = PLAIN.sub(lambda found: " " * len(found[0]), text)
    for found in (*OLD.finditer(plain), *PHRASE.finditer(text)):
        yield text.count("\n", 0, found.start()) + 1, found[0]
    if Path(path).suffix in (".rs", ".sql"):
        code = CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), plain)
        for found in re.finditer(r"\b[A-Za-z_]\w*", code):
            if PARTS & set(re.sub(r"([a-z])([A-Z])", r"\1_\2", found[0]).lower().split("_")):
                yield text.count("\n", 0, found.start()) + 1, found[0]
        for found in METHODS.finditer(code):
            yield text.count("\n", 0, found.start()) + 1, found[0].split("(")[0]


files = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout.split("\0")
hits = []
for name in sorted(set(files) - LEFT_OUT - {""}):
    try:
        content = Path(name).read_text()
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        continue
    hits += [f"{name}:{line}: {word!r}" for line, word in wrong(name, content)]
if hits:
    sys.exit("\n".join([*dict.fromkeys(hits), f"{len(hits)} old words; docs/glossary.md has the present ones"]))
print("no old word in any file")
