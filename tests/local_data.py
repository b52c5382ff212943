"""Locations of the real data sets on this machine, if there are any.

`python tests/local_data.py math/test.jsonl` prints the file's path, or nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def local_data() -> Path:
    """Folder named by PERSONAHUB_TEST_DATA, by default `shared/data` next to the repository."""
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("PERSONAHUB_TEST_DATA", default))


def require_files(*files: Path) -> None:
    """End a benchmark in one line where a file is missing."""
    for file in files:
        if not file.is_file():
            sys.exit(
                f"{file} is not there: name a file of your own, or set PERSONAHUB_TEST_DATA to a folder with "
                "personas/personahub_tool_personas.jsonl, math/test.jsonl, gsm8k/test.jsonl and webtext/documents.jsonl"
            )


if __name__ == "__main__":
    file = local_data() / sys.argv[1]
    print(file if file.is_file() else "")
