"""The figure-10 protocol on known personas, and what the stage says when it cannot follow it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.diversity import Config, forecast
from personahub.core import records
from personahub.core.artifact import Artifact
from personahub.core.embedding import EmbedderConfig, embed
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
    for level in artifact.manifest.summary["similarity"]["levels"]:
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


def test_the_summary_says_what_was_not_found_and_not_greedy(experiment: dict[str, Artifact]) -> None:
    summary = experiment["similarity"].manifest.summary
    assert summary["similarity"]["exhaustive"] is True
    assert [level["pairs"] for level in summary["similarity"]["levels"] if level["level"] == 0.9] == [0]
    assert summary["greedy"] is False
    assert "hashed words" in summary["embedder"]
    assert summary["personas"] == 15


@pytest.fixture
def collection(build: Callable[..., Artifact], tmp_path: Path) -> Callable[..., dict[str, Artifact]]:
    """Personas and one problem for each, from texts."""

    def make(personas: list[str], problems: list[str], sampling: Any = None) -> dict[str, Artifact]:
        rows = [{"id": f"p{i}", "persona": text} for i, text in enumerate(personas)]
        asked = [{"id": f"q{i}", "problem": text, "persona_id": f"p{i}"} for i, text in enumerate(problems)]
        config = {"sampling": sampling} if sampling else {}
        return {
            "personas": build(tmp_path / "personas", "personahub.dedup", rows, records.PERSONA),
            "problems": build(tmp_path / "problems", "synth.problems", asked, records.PROBLEM, config=config),
        }

    return make


def test_duplicates_are_measured(collection: Any, run: Any, tmp_path: Path) -> None:
    problems = ["How many apples are left?", "How many apples are left?", "Integrate the cosine of x over a period."]
    inputs = collection(["a miner", "a nurse", "a smith"], problems, {"temperature": 0.0})
    summary = run(tmp_path / "diversity", "eval.diversity", inputs, HASHING).manifest.summary
    rates = {entry["threshold"]: entry["rate"] for entry in summary["diversity"]["duplicate_rate"]}
    assert rates[0.99] == pytest.approx(2 / 3, abs=1e-4)
    assert summary["diversity"]["problems"] == 3
    assert summary["greedy"] is True


def test_samples_do_not_depend_on_sharding(collection: Any, run: Any, tmp_path: Path) -> None:
    texts = [f"a keeper of {i} bees and {i * 7} goats" for i in range(30)]
    inputs = collection(texts, [f"What is {i} times {i}?" for i in range(30)])
    config = HASHING | {"max_problems": 10, "max_personas": 12}
    once = run(tmp_path / "once", "eval.diversity", inputs, config)
    again = run(tmp_path / "again", "eval.diversity", inputs, config)
    assert once.manifest.summary["diversity"]["problems"] == 10
    assert once.manifest.summary["personas"] == 12
    assert once.manifest.summary == again.manifest.summary
    assert list(once.rows()) == list(again.rows())


def test_too_little_to_compare_is_one_clear_line(collection: Any, run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two problems at least, not 1"):
        run(tmp_path / "d1", "eval.diversity", collection(["a", "b"], ["only one"]), HASHING)


def test_personas_of_another_run_are_refused(
    collection: Any, run: Any, build: Any, experiment: dict[str, Artifact], tmp_path: Path
) -> None:
    inputs = collection(["a", "b"], ["one", "two"]) | {"personas": experiment["personas"]}
    with pytest.raises(UserError, match="none of the personas"):
        run(tmp_path / "d2", "eval.diversity", inputs, HASHING)


def test_the_forecast_counts_texts() -> None:
    found = forecast(Config.model_validate({"max_personas": 100}), {"personas": 5000, "problems": 40})
    assert found.rows_out == 400
    assert "140 texts" in found.notes[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_figure_10_on_real_personas(test_data: Path, collection: Any, run: Any, tmp_path: Path) -> None:
    """5,000 real personas and what a model wrote for them: a hundred pairs at every level that has them."""
    file = test_data / "personas" / "personahub_tool_samples.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    inputs = collection([row["input persona"] for row in rows], [row["synthesized text"] for row in rows])
    config = {"max_problems": 200}
    summary = run(tmp_path / "real", "eval.diversity", inputs, config).manifest.summary
    levels = {level["level"]: level for level in summary["similarity"]["levels"]}
    assert levels[0.4]["pairs"] == levels[0.6]["pairs"] == 100
    assert levels[0.4]["median"] < levels[0.6]["median"]
    assert summary["similarity"]["exhaustive"] or levels[0.9]["pairs"] == 100
