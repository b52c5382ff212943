"""MATH's references: correct against themselves and in the forms models write, wrong against each other."""

from __future__ import annotations

import json
import random

import pytest

from benchmarks.answer_checker import rewritten
from personahub.core.answers import check, extract
from personahub.core.answers.extract import last_box


@pytest.fixture(scope="module")
def rows(test_data):
    lines = (test_data / "math" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_every_reference_is_correct_against_itself(rows):
    assert [row["answer"] for row in rows if not check(row["answer"], row["answer"]).correct] == []


def test_every_reference_is_found_in_its_own_solution(rows):
    """Of a solution that boxes several answers, the data keeps only the last; the solution's reading is their list."""
    wrong = [row for row in rows if not check(row["answer"], row["solution"]).correct]
    assert [row for row in rows if not check(row["solution"], row["answer"]).correct] == wrong
    assert len(wrong) <= 9
    for row in wrong:
        listed = str(extract(row["solution"]).answer)
        assert listed.endswith((f", {last_box(row['solution'])}", f" or {last_box(row['solution'])}"))


@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_rewritten_forms_are_correct(rows, step):
    forms = [(row["answer"], form) for row in rows[::step] for form in rewritten(row["answer"])]
    lost = [(answer, form) for answer, form in forms if not check(answer, form).correct]
    assert len(lost) / len(forms) < 0.002, lost[:20]


def test_references_of_different_problems_are_wrong_for_each_other(rows):
    draw = random.Random(0)
    bare = [
        row["answer"] for row in rows if not any(mark in row["answer"] for mark in ("circ", "text", "mbox", "=", "$"))
    ]
    accepted = []
    for _ in range(5_000):
        a, b = draw.choice(bare), draw.choice(bare)
        verdict = check(a, b)
        if verdict.correct and verdict.rule not in ("same text", "exact", "same expression", "numeric"):
            accepted.append((a, b, verdict.rule))
    assert accepted == []


def test_gsm8k_references_and_a_wrong_number(test_data):
    lines = (test_data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        number = row["answer"].split("####")[1].strip()
        assert check(row["answer"], f"So it is {number}.").correct
        assert not check(row["answer"], f"So it is {number}1.").correct
