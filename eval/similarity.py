"""Measures how problem similarity depends on persona similarity.

See figure 10 of the paper.

    similarity:
      run: eval.similarity
      inputs: {pairs: pairs, no_focus: problems, fixed_focus: focused_problems, other_teacher: others}
      config: {embedder: {kind: minilm}}

`pairs` is an artifact of `eval.persona_pairs`. Every other input is an artifact of `synth.problems` made with
its personas: one teacher or several, with or without a fixed focus. Each input is a series of boxes: the
cosine of the two problems, by the cosine of the two personas. Only the first problem of each persona counts.
The paper decodes greedily, so that problems differ only by their persona; `greedy` says whether the same is
true here.

The records are the pairs with both problems. Cosines of different embedding models are not comparable in
absolute terms, so use the same embedder for personas and problems.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pydantic import Field

from eval.persona_pairs import read_pairs
from eval.stats.measures import bootstrap_mean, quartiles
from personahub.core.artifact import Artifact
from personahub.core.config import StageConfig
from personahub.core.embedding.config import EmbedderConfig, describe
from personahub.core.embedding.embed import embed
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.records import Row
from personahub.core.stage import Stage

VERSION = "2"
INPUTS = ("pairs", "*")

COMPARED = pa.schema(
    [
        ("series", pa.string()),
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
    """How to compare problems."""

    embedder: EmbedderConfig = Field(default=EmbedderConfig(kind="minilm"), description="Embedder for the problems.")
    bootstrap_samples: int = Field(default=1000, gt=0, description="Bootstrap resamples per interval of a mean.")


def run(stage: Stage[Config]) -> None:
    """Embeds the problems of the paired personas and compares them, series by series."""
    source = stage.input("pairs")
    pairs = read_pairs(source)
    personas = {row["id"]: row["persona"] for row in source.rows(["id", "persona"])}
    names = [name for name in stage.inputs if name != "pairs"]
    if not names:
        raise UserError(f"stages.{stage.name}.inputs: name the problems to compare, in addition to `pairs`")
    series = []
    with stage.writer("00000", COMPARED) as writer:
        for name in names:
            rows = _compare(stage, name, pairs, personas)
            for row in rows:
                writer.write(row)
            series.append(_series(stage, name, rows))
    stage.report(series=series, search=source.manifest.summary, embedder=describe(stage.config.embedder))


def _compare(stage: Stage[Config], name: str, pairs: Sequence[Row], personas: Mapping[str, str]) -> list[Row]:
    """Returns pairs whose personas both have a problem. Keeps up to `pairs_per_level` for each level."""
    artifact = stage.input(name)
    first: dict[str, Row] = {}
    for problem in artifact.rows(["id", "problem", "persona_id"]):
        if problem["persona_id"] in personas:
            first.setdefault(problem["persona_id"], problem)
    if not first:
        raise UserError(f"{artifact.path}: has no problem made with a persona of {stage.input('pairs').path}")
    with stage.progress(len(first), "problems") as progress:
        vectors = embed([row["problem"] for row in first.values()], stage.config.embedder, progress.update)
    vector_of = dict(zip(first, vectors, strict=True))
    wanted = stage.input("pairs").manifest.summary["pairs_per_level"]
    rows: list[Row] = []
    taken: dict[float, int] = {}
    for pair in pairs:
        a, b = pair["persona_id_a"], pair["persona_id_b"]
        if a in first and b in first and taken.get(pair["level"], 0) < wanted:
            taken[pair["level"]] = taken.get(pair["level"], 0) + 1
            rows.append(_row(name, pair, float(vector_of[a] @ vector_of[b]), first, personas))
    return rows


def _row(name: str, pair: Row, problems: float, first: Mapping[str, Row], personas: Mapping[str, str]) -> Row:
    row: Row = {"series": name, "level": pair["level"]}
    row |= {"persona_similarity": pair["similarity"], "problem_similarity": problems}
    for side in ("a", "b"):
        persona_id = pair[f"persona_id_{side}"]
        row[f"persona_id_{side}"] = persona_id
        row[f"persona_{side}"] = personas[persona_id]
        row[f"problem_id_{side}"] = first[persona_id]["id"]
        row[f"problem_{side}"] = first[persona_id]["problem"]
    return row


def _series(stage: Stage[Config], name: str, rows: Sequence[Row]) -> dict[str, Any]:
    artifact, config = stage.input(name), stage.config
    levels = []
    for level in (entry["level"] for entry in stage.input("pairs").manifest.summary["levels"]):
        here = [row for row in rows if row["level"] == level]
        values = [row["problem_similarity"] for row in here]
        entry: dict[str, Any] = {"level": level, "pairs": len(here)}
        if here:
            entry["distinct_personas"] = len({row[f"persona_id_{side}"] for row in here for side in "ab"})
            entry |= {key: round(value, 4) for key, value in dataclasses.asdict(quartiles(values)).items()}
            interval = bootstrap_mean(values, config.seed, config.bootstrap_samples)
            entry["mean_interval"] = [round(interval.low, 4), round(interval.high, 4)]
        levels.append(entry)
    return {
        "name": name,
        "focus": artifact.manifest.config.get("focus"),
        "model": _model(artifact),
        "greedy": _greedy(artifact),
        "levels": levels,
    }


def _model(problems: Artifact) -> str | None:
    """Returns the model that wrote the problems."""
    engine = problems.manifest.identity.get("engine")
    return str(engine.get("model")) if isinstance(engine, Mapping) else None


def _greedy(problems: Artifact) -> bool | None:
    """Returns whether the problems were decoded greedily; None if their stage has no sampling."""
    sampling = problems.manifest.config.get("sampling")
    return sampling.get("temperature") == 0 if isinstance(sampling, Mapping) else None


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:  # noqa: ARG001  (same signature for all stages)
    """Estimates all pairs in each series. Embedding runs in this process and uses no engine."""
    pairs = rows_in["pairs"] // 2
    series = len(rows_in) - 1
    note = f"embeds about {series * rows_in['pairs']:,} problems"
    return Forecast(rows_out=series * pairs, disk_bytes=1000 * series * pairs, notes=(note,))
