"""Garbled text always gets a verdict, and no worker dies."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from personahub.core.answers import CheckerPool

PAIRS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "answer_pairs.jsonl").read_text(encoding="utf-8").splitlines()
]
PIECES = [
    *"{}()[]\\$^_&%0123456789.,+-*/=<>!|:;'\" \n\x00\x08\ud800²٣½√∛∞≤·％＄（｛＝−€…。\u200b\u0304",
    *[
        r"\frac",
        r"\sqrt",
        r"\boxed{",
        r"^{",
        r"_{",
        r"\left(",
        r"\right)",
        r"\begin{pmatrix}",
        r"\end{pmatrix}",
        r"\int",
        r"\sum_{k=1}^{",
        r"\lim",
        r"\cup",
        r"\text{",
    ],
    *[
        r"\overline{",
        r"\pm",
        r"\binom",
        r"\log_",
        r"\in",
        r"\{",
        r"\}",
        r"\\",
        r"!!",
        r"10^{",
        r"1,234",
        r"0.",
        r"####",
        r"^\circ",
        r"\choose",
    ],
    *(" answer is ", " and ", " or ", " noon ", "two", "hundred", "million", "9" * 60, "(" * 40, "x=", "a.m."),
]


def garbled(text: str, draw: random.Random) -> str:
    """`text` with parts lost, doubled, repeated many times, or replaced by pieces of notation."""
    letters = list(text)
    for _ in range(draw.choice([1, 2, 4, 8, 20, 60])):
        at, kind = draw.randrange(len(letters) + 1), draw.random()
        if kind < 0.25:
            del letters[at : at + draw.choice([1, 1, 2, 5, 30])]
        elif kind < 0.75:
            letters.insert(at, draw.choice(PIECES))
        elif kind < 0.9:
            start = draw.randrange(len(letters) + 1)
            times = draw.choice([1, 1, 5, 30, 150])
            letters[at:at] = letters[start : start + draw.choice([1, 3, 10, 60])] * times
        else:
            letters[at:at] = draw.choice("0123456789({^") * draw.choice([5, 30, 200, 2_000])
    return "".join(letters)


def babble(draw: random.Random) -> str:
    return "".join(draw.choice(PIECES) for _ in range(draw.choice([1, 3, 10, 40, 400])))


def graded(texts: list[tuple[str, str]], seed: int, count: int) -> Counter[str]:
    """Labels of `count` garbled texts against their references, which are garbled too now and then."""
    draw = random.Random(seed)
    pairs = []
    for _ in range(count):
        gold, text = draw.choice(texts)
        pred = babble(draw) if draw.random() < 0.2 else garbled(text, draw)
        gold = garbled(gold, draw) if draw.random() < 0.1 else gold
        pairs.append((gold, f"\\boxed{{{pred}}}" if draw.random() < 0.4 else pred))
    labels: Counter[str] = Counter()
    with CheckerPool(1, deadline_s=20) as pool:
        for pair, verdict in zip(pairs, pool.check_many(pairs), strict=True):
            labels[verdict.label] += 1
            assert verdict.label in ("correct", "wrong", "no_answer") or verdict.rule == "the reference is empty", (
                verdict,
                pair,
            )
    return labels


def test_garbled_answers_get_verdicts():
    labels = graded([(pair["gold"], pair["pred"]) for pair in PAIRS], seed=0, count=500)
    assert min(labels["correct"], labels["wrong"], labels["no_answer"]) >= 5


@pytest.mark.slow
def test_garbled_solutions_get_verdicts(test_data):
    lines = (test_data / "math" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    solutions = [
        (row["answer"], row["solution"]) for row in map(json.loads, lines) if row["answer"] and row["solution"]
    ]
    labels = graded(solutions, seed=1, count=20_000)
    assert min(labels["correct"], labels["wrong"]) > 2_000
