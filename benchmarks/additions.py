"""Measure the rules that find what models write around a problem.

    PERSONAHUB_TEST_DATA=DATA python -m benchmarks.additions

Reads DATA/math/{test,train}.jsonl and DATA/gsm8k/test.jsonl, whose problems have no additions, and
DATA/valimath/dev.jsonl (ValiMath, Apache-2.0), whose label `format` says whether a problem is free of format errors and
leaked text. Prints every problem that the rules change or reject among the former, and how many of the latter they
change or reject by label. Also prints how often the reference answer occurs in the problem, and how often
`find_stated_answer` takes it for a stated result.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from personahub.core.errors import Rejected
from synth.contracts.additions import asks, find_stated_answer, strip_additions

CLEAN = ("math/test.jsonl", "math/train.jsonl", "gsm8k/test.jsonl")


def main() -> None:
    """Print both tables."""
    data = Path(os.environ["PERSONAHUB_TEST_DATA"])
    print("| problems | number | cut | rejected | answer occurs | answer stated |\n|---|---|---|---|---|---|")
    for file in CLEAN:
        outcomes: Counter[str] = Counter()
        for row in _rows(data / file):
            problem, answer = row.get("problem") or row["question"], row["answer"].rpartition("####")[2].strip()
            result = outcome(problem)
            outcomes[result] += 1
            outcomes["occurs"] += _occurs(answer, problem)
            outcomes["stated"] += find_stated_answer(problem, answer) is not None
            if result != "kept":
                print(f"    {result}: {problem[-160:]!r}")
        total = sum(outcomes[key] for key in ("kept", "cut", "rejected"))
        numbers = (total, *(outcomes[key] for key in ("cut", "rejected", "occurs", "stated")))
        print(f"| {file} | {' | '.join(f'{number:,}' for number in numbers)} |")
    labels: Counter[tuple[str, str]] = Counter()
    for row in _rows(data / "valimath/dev.jsonl"):
        label = "bad format" if not row["format"] else "valid" if row["valid"] else "good format, not valid"
        labels[label, outcome(row["problem"])] += 1
    print("\n| ValiMath | number | cut | rejected |\n|---|---|---|---|")
    for label in ("bad format", "valid", "good format, not valid"):
        cut, rejected, kept = (labels[label, result] for result in ("cut", "rejected", "kept"))
        print(f"| {label} | {cut + rejected + kept} | {cut} | {rejected} |")


def outcome(problem: str) -> str:
    """Return `kept`, `cut` or `rejected`."""
    try:
        stripped = strip_additions(problem)
    except Rejected:
        return "rejected"
    return "rejected" if not asks(stripped) else "kept" if stripped == problem.strip() else "cut"


def _occurs(answer: str, problem: str) -> bool:
    number = re.escape(answer.strip("$").replace(",", ""))
    return re.search(rf"(?<![\w.]){number}(?![\w]|\.\d)", problem.replace(",", "")) is not None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


if __name__ == "__main__":
    main()
