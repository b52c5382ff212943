"""The figure-10 protocol on known personas, and what the stages say when they cannot follow it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.persona_pairs import Config, forecast, read_pairs
from personahub.core import records
from personahub.core.artifact import Artifact
from personahub.core.embedding.config import EmbedderConfig
from personahub.core.embedding.embed import embed
from personahub.core.errors import UserError

HASHING: dict[str, Any] = {"embedder": {"kind": "hashing"}}


def test_pairs_lie_at_their_level_and_the_summary_follows_from_them(experiment: dict[str, Artifact]) -> None:
    artifact = experiment["similarity"]
    pairs = list(artifact.rows())
    config = EmbedderConfig.model_validate({"kind": "hashing"})
    assert pairs
    for pair in pairs:
        assert abs(pair["persona_similarity"] - pair["level"]) <= 0.04 + 1e-6
        for kind in ("persona", "problem"):
            a, b = embed([pair[f"{kind}_a"], pair[f"{kind}_b"]], config)
            assert pair[f"{kind}_similarity"] == pytest.approx(float(a @ b), abs=1e-5)
    (series,) = artifact.manifest.summary["series"]
    for level in series["levels"]:
        here = [pair["problem_similarity"] for pair in pairs if pair["level"] == level["level"]]
        assert level["pairs"] == len(here)
        if here:
            expected = np.quantile(here, (0.25, 0.5, 0.75))
            assert [level["q1"], level["median"], level["q3"]] == pytest.approx(expected, abs=1e-4)
            assert level["mean_interval"][0] <= level["mean"] <= level["mean_interval"][1]


def test_every_persona_stands_for_its_first_problem(experiment: dict[str, Artifact]) -> None:
    first: dict[str, str] = {}
    for problem in experiment["problems"].rows():
        first.setdefault(problem["persona_id"], problem["id"])
    for pair in experiment["similarity"].rows():
        for side in ("a", "b"):
            assert pair[f"problem_id_{side}"] == first[pair[f"persona_id_{side}"]]


def test_the_records_of_a_search_are_the_personas_of_its_pairs(experiment: dict[str, Artifact]) -> None:
    pairs = read_pairs(experiment["pairs"])
    known = {row["id"]: row for row in experiment["personas"].rows()}
    kept = {row["id"]: row for row in experiment["pairs"].rows()}
    assert kept.keys() == {pair[side] for pair in pairs for side in ("persona_id_a", "persona_id_b")}
    assert all(row == known[id_] for id_, row in kept.items())


def test_the_summary_says_what_was_not_found_and_not_greedy(experiment: dict[str, Artifact]) -> None:
    summary = experiment["similarity"].manifest.summary
    assert summary["search"]["exhaustive"] is True
    assert [level["found"] for level in summary["search"]["levels"] if level["level"] == 0.9] == [0]
    assert summary["series"][0]["greedy"] is False
    assert "hashed words" in summary["embedder"]


@pytest.fixture
def collection(build: Callable[..., Artifact], run: Any, tmp_path: Path) -> Callable[..., dict[str, Artifact]]:
    """Pairs among personas, and one problem for each persona."""

    def make(personas: list[str], problems: list[str], sampling: Any = None, **config: Any) -> dict[str, Artifact]:
        rows = [{"id": f"p{i}", "persona": text} for i, text in enumerate(personas)]
        asked = [{"id": f"q{i}", "problem": text, "persona_id": f"p{i}"} for i, text in enumerate(problems)]
        of_stage = {"sampling": sampling, "focus": "finance"} if sampling else {}
        source = build(tmp_path / "personas", "personahub.dedup", rows, records.PERSONA)
        return {
            "pairs": run(tmp_path / "pairs", "eval.persona_pairs", {"personas": source}, HASHING | config),
            "problems": build(tmp_path / "problems", "synth.problems", asked, records.PROBLEM, config=of_stage),
        }

    return make


def test_spare_pairs_stand_in_for_personas_without_a_problem(collection: Any, run: Any, tmp_path: Path) -> None:
    personas = [f"a keeper of {name}" for name in ("bees", "goats", "swans", "carp", "hens", "owls", "mules", "eels")]
    problems = [f"What is {i} times {i}?" for i in range(7)]  # none for the last persona
    levels = {"levels": [0.67], "tolerance": 0.3, "pairs_per_level": 3, "spare_pairs": 20}
    inputs = collection(personas, problems, {"temperature": 0.0}, **levels)
    assert inputs["pairs"].manifest.summary["levels"][0]["found"] > 3
    summary = run(tmp_path / "s", "eval.similarity", inputs, HASHING).manifest.summary
    assert summary["series"][0]["levels"][0]["pairs"] == 3
    assert summary["series"][0]["greedy"] is True
    assert summary["series"][0]["focus"] == "finance"


def test_what_cannot_be_compared_is_one_clear_line(
    collection: Any, run: Any, build: Any, experiment: dict[str, Artifact], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no pair of personas"):
        collection(["a miner of coal", "somebody else entirely"], ["one", "two"], levels=[0.9])
    inputs = {"pairs": experiment["pairs"]}
    with pytest.raises(UserError, match="name the problems"):
        run(tmp_path / "d1", "eval.similarity", inputs, HASHING)
    strange = [{"id": "q", "problem": "What is 2 + 2?", "persona_id": "nobody"}]
    other = build(tmp_path / "other", "synth.problems", strange, records.PROBLEM)
    with pytest.raises(UserError, match="no problem made with a persona"):
        run(tmp_path / "d2", "eval.similarity", inputs | {"problems": other}, HASHING)
    with pytest.raises(UserError, match=r"artifact of eval\.persona_pairs"):
        run(tmp_path / "d3", "eval.similarity", {"pairs": experiment["personas"], "problems": other}, HASHING)


def test_the_forecast_counts_personas() -> None:
    found = forecast(Config.model_validate({"pairs_per_level": 10, "spare_pairs": 0}), {"personas": 5000})
    assert found.rows_out == 80
    assert "5,000 personas" in found.notes[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_figure_10_on_real_personas(test_data: Path, collection: Any, run: Any, tmp_path: Path) -> None:
    """5,000 real personas and what a model wrote for them: a hundred pairs at every level that has them."""
    file = test_data / "personas" / "personahub_tool_samples.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    minilm = {"embedder": {"kind": "minilm"}}
    inputs = collection([row["input persona"] for row in rows], [row["synthesized text"] for row in rows], **minilm)
    search = inputs["pairs"].manifest.summary
    summary = run(tmp_path / "real", "eval.similarity", inputs, minilm).manifest.summary
    levels = {level["level"]: level for level in summary["series"][0]["levels"]}
    assert levels[0.4]["pairs"] == levels[0.6]["pairs"] == 100
    assert levels[0.4]["median"] < levels[0.6]["median"]
    assert search["exhaustive"] or levels[0.9]["pairs"] == 100
