"""Remove problems that are in a benchmark, word for word or slightly rewritten.

    clean:
      run: synth.decontaminate
      inputs: {problems: verified, math: math, gsm8k: gsm8k}   # every other input is a benchmark

Benchmarks are artifacts of `eval.datasets`, the same that evaluation uses. Each problem is compared with every
problem of each benchmark. The first rule that matches rejects it as `contaminated`, with the benchmark, the item
and the rule in the detail:

* `text`: both are the same sequence of words.
* `ngram`: they share `ngram` consecutive words (default 13, the longest n-gram in GPT-3's overlap analysis,
  https://arxiv.org/abs/2005.14165 appendix C). N-grams in more than `boilerplate` items of a benchmark are
  phrases of its style ("express your answer as a common fraction in lowest terms") and do not count.
* `words`: the Jaccard similarity of their sets of words is at least `words`.
* `embedding`: with an `embedder`, the cosine of their embeddings is at least `cosine`.

`synth.overlap.index.words_of` defines words. LaTeX spacing, delimiters and case are ignored, and so are numbers
unless `mask_numbers` is off. With a `judge`, a model decides about problems just below `words` or `cosine`
(`synth.overlap.overlap_judge`). Few-shot examples are checked before they are used, by
`synth.contracts.examples`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field, model_validator

from personahub.core.artifact import Artifact, open_artifact
from personahub.core.config import StageConfig
from personahub.core.duplicates.embedding import nearest
from personahub.core.embedding.config import EmbedderConfig
from personahub.core.embedding.embed import embed
from personahub.core.engines import Request
from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast, Work
from personahub.core.generation.llm_stage import forecast_requests
from personahub.core.generation.loop import CompletionShard, map_completions
from personahub.core.records import Row
from personahub.core.stage import Shard, Stage
from synth.overlap.index import BenchmarkIndex, Item, Match, read_items
from synth.overlap.overlap_judge import PROMPT_TOKENS, REPLY_TOKENS, OverlapJudge, overlap_request, parse_same

VERSION = "3"
INPUTS = ("problems", "*")
WORK = Work(cpu_seconds=0.00011, memory_bytes=120, measured_by="benchmarks.million")


class Config(StageConfig):
    """Which problems count as the same. Set `ngram` or `words` to 0 to turn the rule off."""

    ngram: int = Field(default=13, ge=0, description="Number of shared consecutive words that is a match.")
    words: float = Field(
        default=0.7, ge=0, le=1, description="Jaccard similarity of the sets of words that is a match."
    )
    mask_numbers: bool = Field(default=True, description="Treat all numbers as the same word.")
    boilerplate: int = Field(default=4, gt=0, description="N-grams in more items of a benchmark than this are ignored.")
    embedder: EmbedderConfig | None = Field(default=None, description="Compares by meaning. Null: no such comparison.")
    cosine: float = Field(default=0.9, gt=-1, le=1)
    judge: OverlapJudge | None = Field(
        default=None, description="Decides about the gray zone. Null: such problems are kept."
    )

    @model_validator(mode="after")
    def _has_gray_zone(self) -> Config:
        if self.judge is None:
            return self
        if self.words and self.judge.words >= self.words:
            raise ValueError(f"judge.words is {self.judge.words:g}: the gray zone must be below words ({self.words:g})")
        if self.embedder is not None and self.judge.cosine >= self.cosine:
            raise ValueError(
                f"judge.cosine is {self.judge.cosine:g}: the gray zone must be below cosine ({self.cosine:g})"
            )
        if not self.words and self.embedder is None:
            raise ValueError("judge: needs `words` or `embedder`, because only similarities have a gray zone")
        return self


_ROWS_AT_A_TIME = 1024


def run(stage: Stage[Config]) -> None:
    """Copy `problems` without the contaminated ones."""
    benchmarks = _benchmarks(stage)
    source = stage.input("problems")
    stage.report(benchmarks={name: artifact.num_rows for name, artifact in benchmarks.items()})
    if source.shard_names:
        schema = pq.read_schema(source.path / f"{source.shard_names[0]}.parquet").remove_metadata()
        # problems may come from any stage, so the schema is that of the input
        if stage.config.judge is None:
            stage.map_shards(_process, source, schema)
        else:
            map_completions(stage, functools.partial(_process_with_judge, stage.config.judge), source, schema)


def _benchmarks(stage: Stage[Config]) -> dict[str, Artifact]:
    benchmarks = {name: artifact for name, artifact in stage.inputs.items() if name != "problems"}
    if "problems" not in stage.inputs or not benchmarks:
        raise UserError(
            f"stages.{stage.name}.inputs: name the upstream stages of `problems` and of at least one benchmark,"
            " as in {problems: verified, math: math}"
        )
    return benchmarks


def _process(stage: Stage[Config], shard: Shard) -> None:
    rows = shard.rows()
    while batch := list(islice(rows, _ROWS_AT_A_TIME)):
        for row, match in zip(batch, _matches(stage, batch), strict=True):
            _write_or_reject(shard, row, match)


async def _process_with_judge(judge: OverlapJudge, stage: Stage[Config], shard: CompletionShard) -> None:
    config, rows = stage.config, shard.rows()

    def asking(row: Row) -> list[Request]:
        match: Match | None = row["match"]
        gray = match is not None and not _is_certain(config, match)
        return [overlap_request(judge, config.seed, row, match)] if match and gray else []

    while batch := list(islice(rows, _ROWS_AT_A_TIME)):
        matches = await asyncio.to_thread(_matches, stage, batch)
        matched = [{**row, "match": match} for row, match in zip(batch, matches, strict=True)]
        async for row, results in shard.generate(matched, asking, parse_same, judge.attempts):
            match = row.pop("match")
            if results == [False]:
                match = None
            elif results:
                match = replace(match, rule=f"{match.rule}, {'judge' if results == [True] else 'judge not readable'}")
            _write_or_reject(shard, row, match)


def _write_or_reject(shard: Shard, row: Row, match: Match | None) -> None:
    if match is None:
        shard.write(row)
    else:
        shard.reject(row, Rejected("contaminated", str(match)))


def _is_certain(config: Config, match: Match) -> bool:
    threshold = {"words": config.words, "embedding": config.cosine}.get(match.rule)
    return threshold is None or match.score >= threshold


def _matches(stage: Stage[Config], batch: Sequence[Row]) -> list[Match | None]:
    """Return the benchmark item that each row matches or, with a judge, might match."""
    config = stage.config
    benchmarks = tuple((str(artifact.path), artifact.fingerprint) for artifact in _benchmarks(stage).values())
    words, cosine = config.words, config.cosine
    if config.judge is not None:
        words, cosine = min(words, config.judge.words), config.judge.cosine
    index = _index(benchmarks, config.ngram, words, config.mask_numbers, config.boilerplate)
    matches = [index.find(row["problem"]) for row in batch]
    if config.embedder is None:
        return matches
    return _by_meaning(config, batch, matches, benchmarks, config.embedder, cosine)


_Benchmarks = tuple[
    tuple[str, str], ...
]  # path and fingerprint, because in a notebook the artifact at a path may change


# One index and one matrix per process, for all its shards.
@functools.lru_cache(maxsize=1)
def _index(benchmarks: _Benchmarks, ngram: int, words: float, mask_numbers: bool, boilerplate: int) -> BenchmarkIndex:
    return BenchmarkIndex(_items(benchmarks), ngram, words, mask_numbers, boilerplate)


@functools.lru_cache(maxsize=1)
def _vectors(benchmarks: _Benchmarks, embedder: str) -> np.ndarray:
    return embed([item.problem for item in _items(benchmarks)], EmbedderConfig.model_validate_json(embedder))


@functools.lru_cache(maxsize=1)
def _items(benchmarks: _Benchmarks) -> list[Item]:
    return read_items([open_artifact(path) for path, _ in benchmarks])


def _by_meaning(
    config: Config,
    rows: Sequence[Row],
    matches: list[Match | None],
    benchmarks: _Benchmarks,
    embedder: EmbedderConfig,
    cosine: float,
) -> list[Match | None]:
    """Compare rows by embedding if their words do not decide."""
    items = _items(benchmarks)
    open_rows = [i for i, match in enumerate(matches) if match is None or not _is_certain(config, match)]
    if not items or not open_rows:
        return matches
    vectors = embed([rows[i]["problem"] for i in open_rows], embedder)
    cosines, found = nearest(vectors, _vectors(benchmarks, embedder.model_dump_json()))
    for i, score, item in zip(open_rows, cosines[:, 0], found[:, 0], strict=True):
        match = Match(items[item], "embedding", round(float(score), 3))
        if score >= cosine and (matches[i] is None or _is_certain(config, match)):
            matches[i] = match
    return matches


_GRAY = 0.02  # share of synthetic problems in the gray zone (assumed)


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast the judge's requests. Few synthetic problems match a benchmark, so all are expected to be kept."""
    rows, requests, notes = rows_in["problems"], {}, ()
    if config.judge is not None:
        requests = forecast_requests((config.judge.engine, round(rows * _GRAY), PROMPT_TOKENS, REPLY_TOKENS))
        notes = (f"assumes that {_GRAY:.0%} of the problems are in the judge's gray zone",)
    return Forecast(rows_out=rows, requests=requests, disk_bytes=rows * 3000, notes=notes)
