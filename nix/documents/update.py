"""Replaces the generated tables of options in a document.

Arguments: a JSON file with the tables by prefix, and the document.
"""

import json
import re
import sys
from pathlib import Path


def main() -> int:
    tables = json.loads(Path(sys.argv[1]).read_text())
    document = Path(sys.argv[2])
    text = document.read_text()
    missing = []
    for prefix, table in tables.items():
        name = re.escape(prefix)
        block = re.compile(rf"^<!-- options of {name}: .*?^<!-- end of the options of {name} -->\n", re.DOTALL | re.MULTILINE)
        text, count = block.subn(lambda _: table, text)
        if count == 0:
            missing.append(prefix)
    document.write_text(text)
    for prefix in missing:
        print(f"{document} has no place for the options of {prefix}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
