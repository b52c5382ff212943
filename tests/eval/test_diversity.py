"""Diversity by number of texts: what a curve says of collections whose diversity is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from eval.diversity import MEASURES, Collection, Config, forecast, measure, measure_curve, sizes_up_to
from personahub.core import records
from personahub.core.artifact import Artifact
from personahub.core.errors import UserError

HASHING: dict[str, Any] = {"embedder": {"kind": "hashing"}}


@pytest.fixture
def problems(build: Callable[..., Artifact], tmp_path: Path) -> Callable[..., Artifact]:
    def make(name: str, texts: list[str]) -> Artifact:
        rows = [{"id": f"{name}{i}", "problem": text} for i, text in enumerate(texts)]
        return build(tmp_path / name, "synth.problems", rows, records.PROBLEM)

    return make


def last(summary: dict[str, Any], collection: str, measure: str) -> float:
    return summary["collections"][collection]["curves"][measure][-1][1]


def test_a_collection_that_repeats_itself_is_told_from_one_that_does_not(
    problems: Any, run: Any, tmp_path: Path
) -> None:
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
    varied = [" ".join(words[(7 * i + 11 * j) % len(words)] for j in range(9)) for i in range(120)]
    repeated = [f"{text} {i % 3}" for i, text in enumerate(varied[:4] * 30)]
    inputs = {"problems-varied": problems("varied", varied), "problems-repeated": problems("repeated", repeated)}
    summary = run(tmp_path / "d", "eval.diversity", inputs, HASHING | {"topics": 12}).manifest.summary
    for name in ("vendi", "distinct_2", "topics_covered", "effective_topics"):
        assert last(summary, "problems-varied", name) > last(summary, "problems-repeated", name), name
    for name in ("mean_cosine", "nearest_cosine", "duplicate_rate", "compression_ratio"):
        assert last(summary, "problems-varied", name) < last(summary, "problems-repeated", name), name
    saturated = [point[1] for point in summary["collections"]["problems-repeated"]["curves"]["vendi"]]
    rising = [point[1] for point in summary["collections"]["problems-varied"]["curves"]["vendi"]]
    assert saturated[-1] / saturated[0] < 1.2 < 1.5 < rising[-1] / rising[0]


def test_records_and_summary_hold_the_same_curves(experiment: dict[str, Artifact]) -> None:
    artifact = experiment["diversity"]
    rows = list(artifact.rows())
    for collection, found in artifact.manifest.summary["collections"].items():
        for name in MEASURES:
            here = [row for row in rows if (row["collection"], row["measure"]) == (collection, name)]
            assert [row["size"] for row in here] == sizes_up_to(found["texts"])
            assert found["curves"][name] == [
                [row["size"], *(round(row[key], 4) for key in ("value", "low", "high"))] for row in here
            ]
            assert all(row["low"] <= row["value"] <= row["high"] for row in here)


def test_intervals_hold_what_other_samples_give() -> None:
    """Of a collection that can be drawn from again and again, in most samples the interval holds the mean of the others."""
    chance = np.random.default_rng(3)
    words = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
    popular = 1 / np.arange(1, len(words) + 1)
    centres = chance.normal(size=(15, 16))

    def drawn(size: int) -> Collection:
        labels = chance.choice(15, size, p=np.arange(15, 0, -1) / 120)
        vectors = centres[labels] + 0.7 * chance.normal(size=(size, 16))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        texts = [" ".join(chance.choice(words, 8, p=popular / popular.sum())) for _ in range(size)]
        return Collection("problems", "problem", size, texts, vectors, labels, 15)

    config = Config.model_validate({"duplicate_threshold": 0.85})
    curves = [row for _ in range(40) for row in measure_curve(drawn(80), config)]
    for size in (25, 80):
        others = [measure(drawn(size), np.arange(size), 0.85) for _ in range(60)]
        for name in MEASURES:
            points = [row for row in curves if (row["size"], row["measure"]) == (size, name)]
            values = [each[name] for each in others]
            held = np.mean([point["low"] <= np.mean(values) <= point["high"] for point in points])
            width = np.mean([point["high"] - point["low"] for point in points])
            assert held >= 0.8, (size, name)
            assert width < 2 * 2 * 1.96 * np.std(values) + 0.05, (size, name)  # at most twice as wide as it must be


def test_that_no_duplicate_was_seen_does_not_mean_that_there_is_none(problems: Any, run: Any, tmp_path: Path) -> None:
    texts = [f"{word} asks about {word}ness" for word in ("bread", "ships", "glass", "wool", "honey", "clocks")]
    summary = run(tmp_path / "d", "eval.diversity", {"problems": problems("p", texts)}, HASHING).manifest.summary
    _, value, low, high = summary["collections"]["problems"]["curves"]["duplicate_rate"][-1]
    assert (value, low) == (0, 0)
    assert high == pytest.approx(0.3903, abs=1e-3)  # Wilson's interval of 0 of 6


def test_the_map_has_the_texts_and_keeps_like_with_like(problems: Any, run: Any, tmp_path: Path) -> None:
    bread = [f"The baker sells loaf number {i} of rye bread at dawn" for i in range(30)]
    ships = [f"A tanker leaves the harbour with pilot {i} at slack water" for i in range(30)]
    inputs = {"problems-a": problems("a", bread), "problems-b": problems("b", ships)}
    folder = run(tmp_path / "d", "eval.diversity", inputs, HASHING | {"map_texts": 40}).path
    rows = pq.read_table(folder / "map.parquet").to_pylist()
    assert len(rows) == 40
    assert {row["collection"] for row in rows} == set(inputs)
    places = np.array([(row["x"], row["y"]) for row in rows])
    distances = ((places[:, None] - places[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    assert all(rows[i]["collection"] == rows[int(j)]["collection"] for i, j in enumerate(nearest))
    assert all(row["text"] in bread + ships for row in rows)
    assert not (run(tmp_path / "n", "eval.diversity", inputs, HASHING | {"map_texts": 0}).path / "map.parquet").exists()


def test_duplicates_are_measured(problems: Any, run: Any, tmp_path: Path) -> None:
    texts = ["How many apples are left?", "How many apples are left?", "Integrate the cosine of x over a period."]
    summary = run(tmp_path / "d", "eval.diversity", {"problems": problems("p", texts)}, HASHING).manifest.summary
    rates = {entry["threshold"]: entry["rate"] for entry in summary["collections"]["problems"]["duplicate_rates"]}
    assert rates[0.99] == pytest.approx(2 / 3, abs=1e-4)


def test_topics_are_shared_and_named_by_their_words(problems: Any, run: Any, tmp_path: Path) -> None:
    bread = [f"The baker sells loaf number {i} of rye bread at dawn" for i in range(30)]
    ships = [f"A tanker leaves the harbour with pilot {i} at slack water" for i in range(30)]
    inputs = {"problems-one": problems("one", bread), "problems-both": problems("both", bread[:15] + ships[:15])}
    summary = run(tmp_path / "d", "eval.diversity", inputs, HASHING | {"topics": 2}).manifest.summary
    topics = summary["topics"]["problem"]
    assert [topic["texts"] for topic in topics] == [
        {"problems-one": 30, "problems-both": 15},
        {"problems-one": 0, "problems-both": 15},
    ]
    assert set(topics[0]["words"].split(", ")) <= set(" ".join(bread).lower().split())
    assert last(summary, "problems-one", "topics_covered") == 0.5
    assert last(summary, "problems-both", "effective_topics") == pytest.approx(2, abs=0.01)


def test_samples_do_not_depend_on_the_order_of_rows(build: Any, run: Any, tmp_path: Path) -> None:
    rows = [{"id": f"p{i}", "problem": f"What is {i} times {i + 3} eggs?"} for i in range(60)]
    found = []
    for name, order in (("once", rows), ("again", rows[::-1])):
        artifact = build(tmp_path / name, "synth.problems", order, records.PROBLEM)
        config = HASHING | {"max_texts": 40, "topics": 4}
        found.append(run(tmp_path / f"d_{name}", "eval.diversity", {"problems": artifact}, config))
    assert found[0].manifest.summary["collections"]["problems"]["texts"] == 40
    assert found[0].manifest.summary == found[1].manifest.summary


def test_what_cannot_be_measured_is_one_clear_line(problems: Any, run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two texts, not 1"):
        run(tmp_path / "d1", "eval.diversity", {"problems": problems("p", ["one"])}, HASHING)
    with pytest.raises(UserError, match=r"config\.columns: .* no column 'solution'"):
        run(tmp_path / "d2", "eval.diversity", {"solutions": problems("q", ["one", "two"])}, HASHING)
    with pytest.raises(UserError, match="name what to measure"):
        run(tmp_path / "d3", "eval.diversity", {}, HASHING)


def test_the_forecast_counts_texts() -> None:
    found = forecast(Config.model_validate({"max_texts": 100}), {"personas": 5000, "problems": 40})
    assert "140 texts" in found.notes[0]
    assert found.rows_out == len(MEASURES) * (len(sizes_up_to(100)) + len(sizes_up_to(40)))


def test_sizes_double_up_to_the_whole() -> None:
    assert sizes_up_to(20) == [20]
    assert sizes_up_to(25) == [25]
    assert sizes_up_to(130) == [25, 50, 100, 130]
    assert np.diff(sizes_up_to(5000)).min() > 0
