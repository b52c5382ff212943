"""The table of contested cases in docs/answers.md says what the checker does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from personahub.core.answers import Policy, check

PAGE = Path(__file__).parents[2] / "docs" / "answers.md"
ROW = re.compile(r"^\| ([^|]+) \| `([^|]+)` \| `([^|]+)` \| (same|different) \| (same|different) \| (?:`(\w+)` )?\|$")
ROWS = [match.groups() for line in PAGE.read_text(encoding="utf-8").splitlines() if (match := ROW.match(line))]


def test_the_table_is_found_and_covers_every_switch():
    section = PAGE.read_text(encoding="utf-8").split("## Contested cases")[1].split("\n## ")[0]
    assert len(ROWS) == section.count("\n| ") - 1 > 30  # all lines but the head (the rule below it has no space)
    assert {switch for *_, switch in ROWS if switch} == set(Policy.model_fields)


@pytest.mark.parametrize(("case", "gold", "pred", "lenient", "strict", "switch"), ROWS, ids=[row[0] for row in ROWS])
def test_the_table_is_true(case, gold, pred, lenient, strict, switch):
    assert check(gold, pred).correct == (lenient == "same")
    assert check(gold, pred, policy=Policy.strict()).correct == (strict == "same")


@pytest.mark.parametrize(
    ("gold", "pred", "switch"), [(row[1], row[2], row[5]) for row in ROWS if row[3] == "same" and row[5]]
)
def test_the_switch_named_decides(gold, pred, switch):
    off = None if switch == "rounding_digits" else False
    assert not check(gold, pred, policy=Policy(**{switch: off})).correct
