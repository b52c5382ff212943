"""Finds pairs of personas at given similarities in a whole collection.

See figure 10 of the paper.

    pairs:
      run: eval.persona_pairs
      inputs: {personas: personas}
      config: {levels: [0.4, 0.6, 0.8, 0.9], pairs_per_level: 100, tolerance: 0.01}

The records are the personas in the pairs, so that `synth.problems` makes only the problems that
`eval.similarity` compares. The pairs themselves are in `pairs.parquet` next to them. The summary says how
many pairs were found at each level, and whether the search covered all possible pairs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from eval.vectors.pair_search import PairSearch, find_pairs
from personahub.core.artifact import Artifact
from personahub.core.config import StageConfig
from personahub.core.embedding.config import EmbedderConfig, describe
from personahub.core.embedding.embed import embed
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.identity import derive_seed
from personahub.core.records import PERSONA, Row
from personahub.core.shards import shard_name
from personahub.core.stage import Stage

VERSION = "2"
INPUTS = ("personas",)

PAIRS = "pairs.parquet"
PAIR = pa.schema(
    [
        ("level", pa.float64()),
        ("similarity", pa.float64()),
        ("persona_id_a", pa.string()),
        ("persona_id_b", pa.string()),
    ]
)


class Config(StageConfig):
    """Which pairs to find. The defaults follow the paper's protocol."""

    embedder: EmbedderConfig = Field(default=EmbedderConfig(kind="minilm"), description="Embedder for the personas.")
    levels: tuple[float, ...] = Field(
        default=(0.4, 0.6, 0.8, 0.9), min_length=1, description="Cosine similarities at which to find pairs."
    )
    tolerance: float = Field(
        default=0.01, gt=0, le=1, description="A pair belongs to level L if its cosine is within L +- tolerance."
    )
    pairs_per_level: int = Field(default=100, gt=0, description="Pairs to compare at each level.")
    spare_pairs: int = Field(
        default=25,
        ge=0,
        description="Extra pairs at each level, to replace pairs for which the teacher fails to write a problem.",
    )
    max_personas: int = Field(default=50_000, gt=1, description="Search a seeded sample of at most this size.")
    max_comparisons: int = Field(
        default=2_000_000_000, gt=0, description="Stop the search after this many comparisons."
    )


def run(stage: Stage[Config]) -> None:
    """Embeds, searches, and writes the personas of the pairs.

    Raises:
        UserError: there are fewer than two personas, or no pair at any level.
    """
    config, source = stage.config, stage.input("personas")
    personas = _sample(source.rows(PERSONA.names), config.max_personas, config.seed)
    if len(personas) < 2:
        raise UserError(f"{source.path}: a pair needs two personas")
    with stage.progress(len(personas), "personas") as progress:
        vectors = embed([row["persona"] for row in personas], config.embedder, progress.update)
    wanted = config.pairs_per_level + config.spare_pairs
    search = find_pairs(vectors, config.levels, config.tolerance, wanted, config.seed, config.max_comparisons)
    if not any(search.pairs.values()):
        raise UserError(
            f"{source.path}: no pair of personas is within {config.tolerance:g} of a level in {list(config.levels)};"
            " change `levels` or `tolerance` in the config"
        )
    _write(stage, personas, search)
    stage.report(
        levels=[{"level": level, "found": len(pairs)} for level, pairs in search.pairs.items()],
        personas=len(personas),
        pairs_per_level=config.pairs_per_level,
        tolerance=config.tolerance,
        compared_pairs=search.compared,
        possible_pairs=search.possible,
        exhaustive=search.exhaustive,
        embedder=describe(config.embedder),
    )


def _sample(rows: Iterable[Row], size: int, seed: int) -> list[Row]:
    """Chooses `size` rows by id, in their order, and holds no others. Order and sharding do not affect the choice."""
    chosen = heapq.nsmallest(size, enumerate(rows), key=lambda row: derive_seed(seed, "sample", row[1]["id"]))
    return [row for _, row in sorted(chosen, key=lambda row: row[0])]


def _write(stage: Stage[Config], personas: Sequence[Row], search: PairSearch) -> None:
    pairs = [
        {"level": level, "similarity": cosine, "persona_id_a": personas[a]["id"], "persona_id_b": personas[b]["id"]}
        for level, found in search.pairs.items()
        for a, b, cosine in found
    ]
    pq.write_table(pa.Table.from_pylist(pairs, PAIR), stage.path / PAIRS)
    used = {pair[side] for pair in pairs for side in ("persona_id_a", "persona_id_b")}
    with stage.writer(shard_name(0), PERSONA) as writer:
        writer.rows_in = stage.input("personas").num_rows
        for row in personas:
            if row["id"] in used:
                writer.write(row)


def read_pairs(artifact: Artifact) -> list[dict[str, Any]]:
    """Reads the pairs next to an artifact of this stage, level by level.

    Raises:
        UserError: the artifact has no pairs.
    """
    file = Path(artifact.path) / PAIRS
    if not file.exists():
        raise UserError(f"{artifact.path}: has no {PAIRS}; the input must be an artifact of eval.persona_pairs")
    return pq.read_table(file).to_pylist()


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Estimates two personas per pair. Embedding runs in this process and uses no engine."""
    personas = min(rows_in["personas"], config.max_personas)
    out = min(personas, 2 * len(config.levels) * (config.pairs_per_level + config.spare_pairs))
    return Forecast(rows_out=out, disk_bytes=400 * out, notes=(f"embeds about {personas:,} personas",))
