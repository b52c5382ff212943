"""The browser of a run that verified nothing shows its personas and what was made with them, with their lineage."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.report.lineage import lineage_samples
from eval.report.summary import in_order
from personahub.core import records
from personahub.core.artifact import Artifact
from tests.eval.example_use_cases import talk_row, text_row

Run = Callable[..., Artifact]


@pytest.fixture(scope="module")
def samples(collection: dict[str, Artifact]) -> list[dict[str, Any]]:
    return lineage_samples(in_order(list(collection.values())), count=36, seed=0)


def by_outcome(samples: list[dict[str, Any]]) -> Counter[str]:
    return Counter(sample["stage"] or sample["reason"] for sample in samples)


def test_every_stage_and_every_reason_has_its_records(samples: list[dict[str, Any]]) -> None:
    shown = by_outcome(samples)
    kept = {name for name in shown if ": " not in name}
    assert kept == {"personas", "npcs", "unique", "dialogues", "interfaces", "tools", "puzzles"}
    assert max(shown[name] for name in kept) - min(shown[name] for name in kept) <= 1
    assert {name for name in shown if ": " in name} == {
        "first_personas: refusal",
        "npcs: refusal",
        "related_personas: no_relation",
        "personas: near_duplicate",
        "unique: near_duplicate_surface",
        "dialogues: no_prefix",
        "tools: no_function",
    }
    assert len(samples) == 36


def test_few_samples_are_a_third_rejected_unless_there_are_more_reasons(collection: dict[str, Artifact]) -> None:
    for count, rejected in ((0, 0), (3, 2), (12, 6), (21, 7)):
        found = lineage_samples(in_order(list(collection.values())), count, seed=0)
        assert len(found) == count
        assert sum(sample["outcome"] == "rejected" for sample in found) == rejected


def test_each_leads_back_to_its_text(collection: dict[str, Artifact]) -> None:
    samples = lineage_samples(in_order(list(collection.values())), count=90, seed=0)
    known = {row["id"]: row for row in collection["personas"].rows()}
    related = [sample for sample in samples if known.get(sample["persona_id"], {}).get("parent_id")]
    assert related
    for sample in related:
        first, last = sample["personas"]
        row = known[sample["persona_id"]]
        assert (last["persona"], last["relation"], last["hop"]) == (row["persona"], row["relation"], 1)
        assert (first["persona"], first["mode"]) == (known[row["parent_id"]]["persona"], "write")
        assert sample["document"]["id"] == row["document_id"]
    (profile,) = {tuple(sample["profile"]) for sample in samples if sample["profile"]}
    assert profile == (("occupation", "deckhand"), ("interests", "knots; tidal pools"))


def test_the_draw_does_not_depend_on_the_order_of_rows(
    collection: dict[str, Artifact], build: Any, tmp_path: Path
) -> None:
    rows = list(collection["personas"].rows())
    forth = build(tmp_path / "forth", "personahub.quality", rows, records.PERSONA)
    back = build(tmp_path / "back", "personahub.quality", rows[::-1], records.PERSONA)
    drawn = [[sample["id"] for sample in lineage_samples([artifact], 5, seed=3)] for artifact in (forth, back)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 5
    assert drawn[0] != [sample["id"] for sample in lineage_samples([forth], 5, seed=4)]


def test_the_page_says_what_each_record_is(collection: dict[str, Artifact], run: Run, tmp_path: Path) -> None:
    path = run(tmp_path / "report", "eval.report", collection, {"samples": 60}).path
    html = (path / "index.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))
    for shown in (
        "Game character npc · zero_shot · simulated-teacher",
        "Instruction instruction · zero_shot · the persona was not shown",
        "Conversation 4 turns · dialogue · simulated-teacher Persona How do I begin? Partner With a list.",
        "Interface tool_interface · simulated-teacher",
        "occupation deckhand",
        "kept by tools; license CC0-1.0",
        "Reply import os # nothing else Verdict rejected by tools: no_function: order",
        "Reply I cannot write about this person.",
    ):
        assert shown in text, shown
    assert '<optgroup label="kept">' in html
    assert "def order(stock):\n    return max(0, 12 - stock)" in html


def test_a_run_that_verified_problems_shows_these_alone(experiment: dict[str, Artifact]) -> None:
    found = lineage_samples(in_order(list(experiment.values())), count=36, seed=0)
    assert {sample["outcome"] for sample in found} == {"test", "train", "rejected"}
    assert {part["title"] for sample in found for part in sample["parts"]} == {"Problem"}


def test_long_records_leave_the_page_small(
    collection: dict[str, Artifact], build: Any, run: Run, tmp_path: Path
) -> None:
    people = list(collection["personas"].rows())
    long = [text_row(people[0], "article", "<b>" * 20_000) | {"id": str(number)} for number in range(150)]
    talks = [talk_row(people[1], people[1]["id"], ["x" * 9000] * 40, people[2]) | {"id": str(n)} for n in range(150)]
    made = {
        "articles": build(tmp_path / "articles", "synth.usecases", long, records.SYNTHETIC),
        "dialogues": build(tmp_path / "dialogues", "synth.conversations", talks, records.CONVERSATION),
    }
    path = run(tmp_path / "report", "eval.report", collection | made, {"samples": 200}).path
    html = (path / "index.html").read_text(encoding="utf-8")
    assert "40 turns · " in html
    assert "(57,000 more characters)" in html
    assert len(html.encode()) < 5_000_000
