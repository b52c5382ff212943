"""Run the benchmarks with their defaults, each in a separate process: `python -m benchmarks [NAME ...]`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the names of all benchmarks: files whose `main` a user can call."""
    files = sorted(
        file for file in FOLDER.glob("*.py") if not file.stem.startswith("_") and not file.stem.endswith("_tools")
    )
    return [file.stem for file in files if file.read_text(encoding="utf-8").rstrip().endswith("main()")]


def main(wanted: list[str]) -> int:
    """Run the benchmarks in `wanted`, or all of them. Returns 1 if any failed."""
    if unknown := set(wanted) - set(names()):
        print(f"no benchmark {', '.join(sorted(unknown))}; available: {', '.join(names())}", file=sys.stderr)
        return 2
    failed = []
    for name in wanted or names():
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
