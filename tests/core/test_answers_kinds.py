"""Kinds of faults that real outputs and reward hacking show, each with many members: one reading, words, units, thoughts."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from personahub.core.answers import Policy, check, extract

ROWS: dict[str, list[dict]] = defaultdict(list)
for _line in (Path(__file__).parent / "data/answer_kinds.jsonl").read_text(encoding="utf-8").split("\n"):
    if _line:
        ROWS[json.loads(_line)["category"]].append(json.loads(_line))
INTEGERS = [*range(-50, 0), *range(2, 252)]


@pytest.mark.parametrize("kind", sorted(ROWS))
def test_every_member_of_a_kind_is_judged_as_labelled(kind: str) -> None:
    assert len(ROWS[kind]) >= 6
    wrong = [row for row in ROWS[kind] if check(row["gold"], row["pred"]).correct != row["equivalent"]]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "So $\\boxed{{{n}}}$. The final answer is {other}.",
        "\\boxed{{{n}}}\n\nTherefore, the answer is {other}.",
        "\\boxed{{{n}}} Answer: {other}",
        "First \\boxed{{{other}}}. No, I forgot a case. It is \\boxed{{{n}}}.",
        "<think>Perhaps \\boxed{{{other}}}.</think>\nThe answer is {n}.",
        "The answer is {n} (not {other}).",
    ],
)
def test_a_text_is_right_for_one_integer(text: str) -> None:
    for n in INTEGERS:
        written = text.format(n=n, other=n + 1)
        assert check(str(n), written).correct, written
        assert not check(str(n + 1), written).correct, written
        assert not check(f"{n}, {n + 1}", written).correct, written


@pytest.mark.parametrize("joint", ["$ and $", "$ or $", "$, $"])
def test_two_boxes_are_a_list_of_two(joint: str) -> None:
    for n in INTEGERS:
        written = f"The solutions are $\\boxed{{{n}}}{joint}\\boxed{{{n + 1}}}$."
        assert check(f"{n}, {n + 1}", written).correct, written
        assert not check(str(n), written).correct, written
        assert not check(str(n + 1), written).correct, written


@pytest.mark.parametrize(
    "words",
    ["twice {n}", "half of {n}", "square root of {n}", "not {n}", "multiples of {n}", "divisible by {n}", "at least {n}",
     "either {n} or {other}", "more than {n}", "{n} squared", "{n} is wrong", "the reciprocal of {n}"],
)  # fmt: skip
@pytest.mark.parametrize("box", ["\\boxed{{{0}}}", "\\boxed{{\\text{{{0}}}}}", "The answer is {0}."])
def test_words_change_an_integer(words: str, box: str) -> None:
    for n in INTEGERS:
        written = box.format(words.format(n=n, other=n + 1))
        assert not check(str(n), written).correct, written


@pytest.mark.parametrize(
    "words", ["negative {0}", "minus {0}", "\\text{{negative }}{0}", "\\text{{minus }} {0}", "\\text{{negative {0}}}"]
)
def test_words_give_an_integer_its_sign(words: str) -> None:
    for n in INTEGERS[50:]:
        assert check(str(-n), f"\\boxed{{{words.format(n)}}}").correct
        assert not check(str(n), f"\\boxed{{{words.format(n)}}}").correct


@pytest.mark.parametrize("unit", ["cm", "mm", "km", "ft", "in", "yd", "mi", "m"])
@pytest.mark.parametrize(
    "written", ["\\mathrm{{{u}^{p}}}", "{{\\rm {u}}}^{p}", "\\mathrm{{{u}}}^{p}", "\\text{{ {u}}}^{p}"]
)
def test_units_to_a_power_are_units(unit: str, written: str) -> None:
    for n in INTEGERS:
        for power in (2, 3):
            pred = f"\\boxed{{{n}\\,{written.format(u=unit, p=power)}}}"
            assert check(str(n), pred).correct, pred
            assert check(f"{n} \\text{{ {unit}}}^{power}", pred).correct, pred
            assert not check(f"{n} \\text{{ {unit}}}^{5 - power}", pred).correct, pred


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("\\boxed{4}", "boxed"),
        ("<answer>4</answer>", "tagged"),
        ("#### 4", "hashes"),
        ("The answer is 4.", "answer_is"),
        ("4", "bare"),
        ("We add them.\n4", "last_line"),
        ("Then she has 4 apples left over for the others.", "last_number"),
        ("It follows that we are left with the value $4$", "last_math"),
        ("<think>4", "thinking"),
        ("I cannot solve this. It has 4 parts.", "declined"),
    ],
)
def test_the_rule_says_how_explicit_an_answer_is(text: str, rule: str) -> None:
    assert extract(text).rule == rule


@pytest.mark.parametrize(
    "text",
    ["We add them.\n4", "Then she has 4 apples left over for the others.", "We are left with the value $4$ here"],
)
def test_a_policy_leaves_fallbacks_out(text: str) -> None:
    assert check("4", text).correct
    assert check("4", text, policy=Policy(fallbacks=False)).label == "no_answer"
    assert check("4", f"{text} \\boxed{{4}}", policy=Policy(fallbacks=False)).correct
