"""The labelled pairs: every category of answers, accepted and rejected as a careful reader would."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from personahub.core.answers import check

PAIRS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "answer_pairs.jsonl").read_text(encoding="utf-8").splitlines()
]
BY_CATEGORY: dict[str, list[dict]] = defaultdict(list)
for _pair in PAIRS:
    BY_CATEGORY[_pair["category"]].append(_pair)


def test_the_set_is_large_and_balanced():
    labels = Counter(pair["equivalent"] for pair in PAIRS)
    assert len(PAIRS) >= 400
    assert 0.4 < labels[True] / len(PAIRS) < 0.6
    assert len({(pair["gold"], pair["pred"]) for pair in PAIRS}) == len(PAIRS)
    for category, pairs in BY_CATEGORY.items():
        assert {pair["equivalent"] for pair in pairs} == {True, False}, category


@pytest.mark.parametrize("category", sorted(BY_CATEGORY))
def test_every_pair_is_judged_as_labelled(category):
    wrong = []
    for pair in BY_CATEGORY[category]:
        verdict = check(pair["gold"], pair["pred"])
        if verdict.correct != pair["equivalent"]:
            wrong.append((pair["gold"], pair["pred"], verdict))
    assert wrong == []


@pytest.mark.parametrize("category", sorted(BY_CATEGORY))
def test_a_box_around_the_answer_changes_nothing(category):
    wrong = []
    for pair in BY_CATEGORY[category]:
        if category != "extraction" and check(pair["gold"], f"\\boxed{{{pair['pred']}}}").correct != pair["equivalent"]:
            wrong.append((pair["gold"], pair["pred"]))
    assert wrong == []


def test_every_reference_is_correct_against_itself():
    assert [pair["gold"] for pair in PAIRS if not check(pair["gold"], pair["gold"]).correct] == []
