"""Problems that a benchmark already holds, word for word or thinly rewritten, are taken out.

    clean:
      run: synth.decontaminate
      inputs: {problems: verified, math: math, gsm8k: gsm8k}   # every other input is a benchmark

Benchmarks are artifacts of `eval.datasets`, the same that evaluation grades against. A problem is
compared with every problem of each under these rules; the first that matches rejects it as
`contaminated`, with the benchmark, the item and the rule in the detail.

* `text`: both are the same sequence of words.
* `ngram`: they share `ngram` words in a row (default 13, the longest run in GPT-3's overlap
  analysis, https://arxiv.org/abs/2005.14165 appendix C). Runs that more than `boilerplate` items of a
  benchmark share are its house style ("express your answer as a common fraction in lowest
  terms"), not its content, and do not count.
* `words`: the Jaccard similarity of their sets of words, in whatever order, is at least `words`.
* `embedding`: with an `embedder`, the cosine of their embeddings is at least `cosine`.

What counts as a word is in `synth.overlap.words_of`: LaTeX spacing, delimiters, case and, unless
`mask_numbers` is off, the numbers do not tell two problems apart.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field

from personahub.core.artifact import Artifact, open_artifact
from personahub.core.config import StageConfig
from personahub.core.duplicates.embedding import nearest
from personahub.core.embedding import EmbedderConfig, embed
from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast
from personahub.core.records import Row
from personahub.core.stage import Shard, Stage
from synth.overlap import BenchmarkIndex, Item, Match

VERSION = "1"
INPUTS = ("problems", "*")


class Config(StageConfig):
    """What counts as the same problem. 0 turns `ngram` or `words` off."""

    ngram: int = Field(default=13, ge=0, description="Words in a row that two problems may not share.")
    words: float = Field(default=0.7, ge=0, le=1, description="Jaccard similarity of the sets of words.")
    mask_numbers: bool = Field(default=True, description="All numbers count as the same word.")
    boilerplate: int = Field(
        default=4, gt=0, description="An n-gram in more items of a benchmark than this is ignored."
    )
    embedder: EmbedderConfig | None = Field(default=None, description="Null: no comparison by meaning.")
    cosine: float = Field(default=0.9, gt=-1, le=1)


_ROWS_AT_A_TIME = 1024


def run(stage: Stage[Config]) -> None:
    """Copy `problems` without the contaminated ones."""
    benchmarks = _benchmarks(stage)
    source = stage.input("problems")
    stage.report(benchmarks={name: artifact.num_rows for name, artifact in benchmarks.items()})
    if source.shard_names:
        schema = pq.read_schema(source.path / f"{source.shard_names[0]}.parquet").remove_metadata()
        stage.map_shards(_process, source, schema)  # problems pass in whatever state they are


def _benchmarks(stage: Stage[Config]) -> dict[str, Artifact]:
    benchmarks = {name: artifact for name, artifact in stage.inputs.items() if name != "problems"}
    if "problems" not in stage.inputs or not benchmarks:
        raise UserError(
            f"stages.{stage.name}.inputs: name the upstream stages of `problems` and of at least one benchmark,"
            " as in {problems: verified, math: math}"
        )
    return benchmarks


def _process(stage: Stage[Config], shard: Shard) -> None:
    config = stage.config
    paths = tuple(str(artifact.path) for artifact in _benchmarks(stage).values())
    index = _index(paths, config.ngram, config.words, config.mask_numbers, config.boilerplate)
    rows = shard.rows()
    while batch := list(islice(rows, _ROWS_AT_A_TIME)):
        matches = [index.find(row["problem"]) for row in batch]
        if config.embedder is not None:
            matches = _by_meaning(batch, matches, paths, config.embedder, config.cosine)
        for row, match in zip(batch, matches, strict=True):
            if match is None:
                shard.write(row)
            else:
                shard.reject(row, Rejected("contaminated", str(match)))


# One index and one matrix per process, however many shards it works on.
@functools.lru_cache(maxsize=1)
def _index(paths: tuple[str, ...], ngram: int, words: float, mask_numbers: bool, boilerplate: int) -> BenchmarkIndex:
    return BenchmarkIndex(_items(paths), ngram, words, mask_numbers, boilerplate)


@functools.lru_cache(maxsize=1)
def _vectors(paths: tuple[str, ...], embedder: str) -> np.ndarray:
    return embed([item.problem for item in _items(paths)], EmbedderConfig.model_validate_json(embedder))


@functools.lru_cache(maxsize=1)
def _items(paths: tuple[str, ...]) -> list[Item]:
    return [
        Item(row["benchmark"], row["item"], row["problem"])
        for path in paths
        for row in open_artifact(path).rows(["benchmark", "item", "problem"])
    ]


def _by_meaning(
    rows: Sequence[Row], matches: list[Match | None], paths: tuple[str, ...], embedder: EmbedderConfig, cosine: float
) -> list[Match | None]:
    """Look up by embedding what was not found by its words."""
    items, open_rows = _items(paths), [i for i, match in enumerate(matches) if match is None]
    if not items or not open_rows:
        return matches
    vectors = embed([rows[i]["problem"] for i in open_rows], embedder)
    cosines, found = nearest(vectors, _vectors(paths, embedder.model_dump_json()))
    for i, score, item in zip(open_rows, cosines[:, 0], found[:, 0], strict=True):
        if score >= cosine:
            matches[i] = Match(items[item], "embedding", round(float(score), 3))
    return matches


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:  # noqa: ARG001  (same signature for all stages)
    """Asks no engine. Few synthetic problems match a benchmark, so all are expected to stay."""
    return Forecast(rows_out=rows_in["problems"], disk_bytes=rows_in["problems"] * 3000)
