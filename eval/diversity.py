"""Diversity of problems, and how it follows from that of personas (figure 10 of the paper).

    diversity:
      run: eval.diversity
      inputs: {personas: personas, problems: problems}
      config: {embedder: {kind: minilm}, pairs_per_level: 100}

The protocol: find pairs of personas whose cosine is 0.4, 0.6, 0.8 or 0.9, each within 0.01, and
take the cosine of the two problems that were made with them, one problem per persona. The paper
decodes greedily, so its problems differ by their persona alone; `greedy` in the summary says
whether these were. Cosines of different embedding models are not comparable in absolute terms.

The records are the pairs. The summary holds the quartiles of each level beside the paper's, mean
pairwise and nearest-neighbour similarity of the problems, their duplicate rate and distinct-n.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from eval.measures import (
    Interval,
    bootstrap_mean,
    bootstrap_pairwise_cosine,
    distinct_n,
    mean_pairwise_cosine,
    nearest_cosine,
    quartiles,
)
from eval.pair_search import PairSearch, find_pairs
from personahub.core.artifact import Artifact
from personahub.core.config import StageConfig
from personahub.core.embedding import EmbedderConfig, describe, embed
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.identity import derive_seed
from personahub.core.records import Row
from personahub.core.stage import Stage

VERSION = "1"
INPUTS = ("personas", "problems")

PAIR = pa.schema(
    [
        ("level", pa.float64()),
        ("persona_similarity", pa.float64()),
        ("problem_similarity", pa.float64()),
        ("persona_id_a", pa.string()),
        ("persona_id_b", pa.string()),
        ("problem_id_a", pa.string()),
        ("problem_id_b", pa.string()),
        ("persona_a", pa.string()),
        ("persona_b", pa.string()),
        ("problem_a", pa.string()),
        ("problem_b", pa.string()),
    ]
)


class Config(StageConfig):
    """What is compared, and how much of it."""

    embedder: EmbedderConfig = Field(default=EmbedderConfig(kind="minilm"), description="Of personas and problems.")
    levels: tuple[float, ...] = Field(default=(0.4, 0.6, 0.8, 0.9), description="Persona similarities to look at.")
    tolerance: float = Field(default=0.01, gt=0, le=1, description="A pair is at level L within L +- tolerance.")
    pairs_per_level: int = Field(default=100, gt=0, description="Persona pairs wanted at each level.")
    max_personas: int = Field(default=50_000, gt=1, description="A seeded sample of this size is searched for pairs.")
    max_comparisons: int = Field(default=2_000_000_000, gt=0, description="The search for pairs ends after these.")
    max_problems: int = Field(default=5_000, gt=1, description="Diversity is measured on a seeded sample of this size.")
    duplicate_thresholds: tuple[float, ...] = Field(
        default=(0.7, 0.8, 0.85, 0.9, 0.95, 0.99), description="Cosines to the nearest problem that count as duplicate."
    )
    bootstrap_samples: int = Field(default=200, gt=0, description="Resamples behind each interval.")


def run(stage: Stage[Config]) -> None:
    """Embed, search, compare, and measure."""
    config = stage.config
    problems = list(stage.input("problems").rows(["id", "problem", "persona_id"]))
    if len(problems) < 2:
        raise UserError(f"{stage.input('problems').path}: diversity needs two problems at least, not {len(problems)}")
    personas = _personas_of(problems, stage.input("personas"), config)
    search = find_pairs(
        _embed(stage, [row["persona"] for row in personas]),
        config.levels,
        config.tolerance,
        config.pairs_per_level,
        config.seed,
        config.max_comparisons,
    )
    measured = _sample(problems, config.max_problems, config.seed)
    texts = {row["id"]: row["problem"] for row in measured}
    paired = [personas[number]["problem"] for pairs in search.pairs.values() for a, b, _ in pairs for number in (a, b)]
    texts |= {row["id"]: row["problem"] for row in paired}
    vectors = dict(zip(texts, _embed(stage, list(texts.values())), strict=True))
    pairs = _pairs(search, personas, vectors)
    with stage.writer("00000", PAIR) as writer:
        writer.rows_in = len(problems)
        for pair in pairs:
            writer.write(pair)
    stage.report(
        similarity=_similarity(pairs, search, config),
        greedy=_greedy(stage.input("problems")),
        personas=len(personas),
        embedder=describe(config.embedder),
        diversity=_diversity(
            [row["problem"] for row in measured], np.stack([vectors[r["id"]] for r in measured]), config
        ),
    )


def _embed(stage: Stage[Config], texts: Sequence[str]) -> np.ndarray:
    with stage.progress(len(texts), "texts") as progress:
        return embed(texts, stage.config.embedder, progress.update)


def _personas_of(problems: Sequence[Row], personas: Artifact, config: Config) -> list[Row]:
    """Personas (id, persona) that have a problem, each with its first `problem`."""
    first: dict[str, Row] = {}
    for problem in problems:
        first.setdefault(problem["persona_id"], problem)
    rows = [{**row, "problem": first[row["id"]]} for row in personas.rows(["id", "persona"]) if row["id"] in first]
    if not rows:
        raise UserError(f"{personas.path}: holds none of the personas that the problems were made with")
    return _sample(rows, config.max_personas, config.seed)


def _sample(rows: Sequence[Row], size: int, seed: int) -> list[Row]:
    """`size` rows chosen by their ids, so that neither order nor sharding matters; in their order."""
    if len(rows) <= size:
        return list(rows)
    numbers = heapq.nsmallest(
        size, range(len(rows)), key=lambda number: derive_seed(seed, "sample", rows[number]["id"])
    )
    return [rows[number] for number in sorted(numbers)]


def _pairs(search: PairSearch, personas: Sequence[Row], vectors: Mapping[str, np.ndarray]) -> list[Row]:
    rows = []
    for level, pairs in search.pairs.items():
        for a, b, similarity in pairs:
            first, second = personas[a], personas[b]
            problems = float(vectors[first["problem"]["id"]] @ vectors[second["problem"]["id"]])
            rows.append(_pair(level, similarity, problems, first, second))
    return rows


def _pair(level: float, personas: float, problems: float, a: Row, b: Row) -> Row:
    row: Row = {"level": level, "persona_similarity": personas, "problem_similarity": problems}
    for side, persona in (("a", a), ("b", b)):
        row[f"persona_id_{side}"] = persona["id"]
        row[f"persona_{side}"] = persona["persona"]
        row[f"problem_id_{side}"] = persona["problem"]["id"]
        row[f"problem_{side}"] = persona["problem"]["problem"]
    return row


def _similarity(pairs: Sequence[Row], search: PairSearch, config: Config) -> dict[str, Any]:
    levels = []
    for level in config.levels:
        here = [pair for pair in pairs if pair["level"] == level]
        values = [pair["problem_similarity"] for pair in here]
        entry: dict[str, Any] = {"level": level, "pairs": len(here)}
        if here:
            entry["distinct_personas"] = len({pair[f"persona_id_{side}"] for pair in here for side in "ab"})
            entry |= _rounded(dataclasses.asdict(quartiles(values)))
            entry["mean_interval"] = _ends(bootstrap_mean(values, config.seed, config.bootstrap_samples))
        levels.append(entry)
    return {
        "levels": levels,
        "tolerance": config.tolerance,
        "wanted_per_level": config.pairs_per_level,
        "compared_pairs": search.compared,
        "possible_pairs": search.possible,
        "exhaustive": search.exhaustive,
    }


def _diversity(texts: Sequence[str], vectors: np.ndarray, config: Config) -> dict[str, Any]:
    nearest = nearest_cosine(vectors)
    samples = config.bootstrap_samples
    return {
        "problems": len(texts),
        "mean_pairwise": round(mean_pairwise_cosine(vectors), 4),
        "mean_pairwise_interval": _ends(bootstrap_pairwise_cosine(vectors, config.seed, samples)),
        "mean_nearest": round(float(nearest.mean()), 4),
        "mean_nearest_interval": _ends(bootstrap_mean(nearest.tolist(), config.seed, samples)),
        "duplicate_rate": [
            {"threshold": threshold, "rate": round(float(np.mean(nearest >= threshold)), 4)}
            for threshold in config.duplicate_thresholds
        ],
        "distinct": {str(n): round(distinct_n(texts, n), 4) for n in (1, 2, 3, 4)},
    }


def _greedy(problems: Artifact) -> bool | None:
    """Whether the problems were decoded greedily; None when their stage has no sampling."""
    sampling = problems.manifest.config.get("sampling")
    return sampling.get("temperature") == 0 if isinstance(sampling, dict) else None


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) for key, value in values.items()}


def _ends(interval: Interval) -> list[float]:
    return [round(interval.low, 4), round(interval.high, 4)]


def forecast(config: Config, rows_in: dict[str, int]) -> Forecast:
    """At most `pairs_per_level` pairs a level; embedding runs here and is charged to no engine."""
    texts = min(rows_in["personas"], config.max_personas) + min(rows_in["problems"], config.max_problems)
    pairs = len(config.levels) * config.pairs_per_level
    return Forecast(rows_out=pairs, disk_bytes=1000 * pairs, notes=(f"embeds about {texts:,} texts",))
