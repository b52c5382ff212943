"""Measure decontamination by words: planted rewrites that it finds, and unrelated problems that it does not match.

    python -m benchmarks.decontamination MATH/test.jsonl MATH/train.jsonl GSM8K/test.jsonl

The index holds the test problems of MATH and GSM8K, with the defaults of `synth.decontaminate`
and without an embedder.

1. Recall: problems from the index, rewritten in one way or in one to four ways together. A problem counts as
   found if any item matches.
2. The leak inside MATH: training problems that match the index of the test problems.
3. False alarms: GSM8K test problems against the index of MATH test problems.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from synth.decontaminate import Config
from synth.overlap.index import BenchmarkIndex, Item
from tests.local_data import local_data, require_files


def numbers_changed(text: str, rng: random.Random) -> str:
    """Replace every number by another of about the same length."""
    return re.sub(r"\d+", lambda number: str(rng.randint(2, 10 ** len(number[0]) + 5)), text)


def spacing_changed(text: str, rng: random.Random) -> str:
    """Change spaces around operators and inside dollar signs, and the form of fractions."""
    text = re.sub(r"[=+*-]", lambda sign: rng.choice([" {} ", "{}", r"\, {} \,"]).format(sign[0]), text)
    return text.replace(r"\frac", r"\dfrac").replace("$", " $ ")


def order_changed(text: str, rng: random.Random) -> str:
    """Shuffle the sentences."""
    sentences = re.split(r"(?<=[.?])\s+", text)
    rng.shuffle(sentences)
    return " ".join(sentences)


_NAMES = ("Maria", "Ahmed", "Chen", "Olga", "Kwame", "Ingrid", "Tomas", "Priya", "Luca", "Freya")
_NO_NAMES = frozenset(("The", "If", "What", "How", "She", "Each", "There", "For", "When", "And", "His", "Her"))


def names_changed(text: str, rng: random.Random) -> str:
    """Replace each capitalized word within sentences, consistently, by another name."""
    names = rng.sample(_NAMES, len(_NAMES))
    given: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        return match[0] if match[0] in _NO_NAMES else given.setdefault(match[0], names[len(given) % len(names)])

    return re.sub(r"(?<![\\A-Za-z.?!] )(?<!^)(?<![\\A-Za-z])[A-Z][a-z]{2,}\b", rename, text)


REWRITES: dict[str, Callable[[str, random.Random], str]] = {
    "numbers": numbers_changed,
    "LaTeX spacing": spacing_changed,
    "sentence order": order_changed,
    "names": names_changed,
}


def plant(items: Sequence[Item], count: int, kind: str | None = None, seed: int = 0) -> list[str]:
    """Draw `count` problems from `items` and rewrite them in one way, or in one to four ways together."""
    rng = random.Random(seed)
    planted = []
    for item in rng.sample(items, count):
        problem = item.problem
        for name in [kind] if kind else rng.sample(sorted(REWRITES), rng.randint(1, len(REWRITES))):
            problem = REWRITES[name](problem, rng)
        planted.append(problem)
    return planted


def build_index(items: Sequence[Item]) -> BenchmarkIndex:
    """Build the index as the stage does with its defaults."""
    config = Config()
    return BenchmarkIndex(items, config.ngram, config.words, config.mask_numbers, config.boilerplate)


def read_items(file: Path, benchmark: str) -> list[Item]:
    """Read problems of MATH or GSM8K. The id is the file's own `idx`, or the row's number."""
    rows = [json.loads(line) for line in file.open(encoding="utf-8")]
    return [
        Item(benchmark, str(row.get("idx", i)), row.get("problem") or row["question"]) for i, row in enumerate(rows)
    ]


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = local_data()
    parser.add_argument("math_test", type=Path, nargs="?", default=data / "math" / "test.jsonl")
    parser.add_argument("math_train", type=Path, nargs="?", default=data / "math" / "train.jsonl")
    parser.add_argument("gsm8k_test", type=Path, nargs="?", default=data / "gsm8k" / "test.jsonl")
    parser.add_argument("--rewrites", type=int, default=500, help="planted problems of each kind")
    options = parser.parse_args()
    require_files(options.math_test, options.math_train, options.gsm8k_test)
    math, gsm8k = read_items(options.math_test, "math"), read_items(options.gsm8k_test, "gsm8k")

    index = build_index(math + gsm8k)
    print("| rewritten | planted | found | by rule |\n|---|---|---|---|")
    for kind in (*REWRITES, None):
        matches = [index.find(problem) for problem in plant(math + gsm8k, options.rewrites, kind)]
        rules = Counter(match.rule for match in matches if match)
        by_rule = ", ".join(f"{rule} {number}" for rule, number in rules.most_common())
        print(f"| {kind or 'one to four of them'} | {len(matches)} | {rules.total() / len(matches):.1%} | {by_rule} |")

    math_index = build_index(math)
    leaks = [
        (item, match) for item in read_items(options.math_train, "train") if (match := math_index.find(item.problem))
    ]
    same = [
        f"{item.id} = test {match.item.id}" for item, match in leaks if match.rule == "text" and _same(item, match.item)
    ]
    print(f"\nMATH train against MATH test: {len(leaks)} match; the same text up to layout: {', '.join(same)}")
    started = time.process_time()
    alarms = sum(math_index.find(item.problem) is not None for item in gsm8k)
    seconds = time.process_time() - started
    print(
        f"GSM8K test against MATH test: {alarms} of {len(gsm8k)} match ({alarms / len(gsm8k):.2%});"
        f" {len(gsm8k) / seconds:,.0f} problems per CPU second"
    )


def _same(item: Item, other: Item) -> bool:
    return re.sub(r"\W", "", item.problem) == re.sub(r"\W", "", other.problem)


if __name__ == "__main__":
    main()
