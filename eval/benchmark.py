"""Accuracy of a model on problems with reference answers: the synthetic test, MATH, GSM8K, any other.

    after:
      run: eval.benchmark
      inputs: {data: sft_data, model: sft, math: math}     # every other input is an eval.datasets artifact
      config: {engine: student}

The test split of `data` is the benchmark `synthetic_test`. With an input `model`, the engine loads
that artifact's `model/`; else the model is the engine's own. Decoding is greedy, one completion per
problem, asked under the same template that `synth.sft_data` trains with.

The records are the graded completions. The summary holds for every benchmark its accuracy with a
Wilson interval, the five verdicts apart from one another, truncations, and tables by subject and
level. A problem that the engine refuses counts as `error`, so n is always the number of problems.
`asked_as_trained` says whether the prompts of `data` are those the model is asked with here.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from eval.measures import wilson_interval
from personahub.core.answers import LABELS, CheckerPool, Policy
from personahub.core.artifact import MANIFEST, Artifact, Counts, Manifest, Usage, read_manifest, read_rows, write_json
from personahub.core.config import EXECUTION, EngineName, StageConfig
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast, Requests
from personahub.core.generate import CompletionShard, Failure, map_completions
from personahub.core.identity import derive_seed
from personahub.core.records import GRADED, REFERENCE, Row
from personahub.core.shards import ShardWriter, shard_name
from personahub.core.stage import Stage
from personahub.core.student_prompt import StudentTemplate, student_prompt
from personahub.core.template import Message

VERSION = "1"
INPUTS = ("data?", "model?", "*")
SYNTHETIC_TEST = "synthetic_test"

_CHARS_PER_TOKEN = 4  # English text under GPT-style vocabularies
_PROBLEM_TOKENS = 70  # MATH's problems average 200 characters, with dense LaTeX
_TEST_PROBLEMS = 12_000  # the size of the paper's synthetic test; that of `data` is not known before it is made
_COMPLETION_TOKENS = 400  # zero-shot CoT of instruct models on MATH


class Config(StageConfig):
    """How the model is asked and its answers are graded."""

    engine: EngineName
    template: StudentTemplate = "solve"
    system_prompt: str | None = Field(default=None, description="Null: none, so a chat template may put in its own.")
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=2048)
    limit: int | None = Field(default=None, gt=0, description="At most so many problems of each benchmark, by hash.")
    answers: Policy = Field(default=Policy(), description="Contested cases of answer checking.")
    rows_per_shard: int = Field(default=500, gt=0)
    check_deadline_s: float = Field(default=5.0, gt=0, description="Wall seconds for one check; then `timeout`.")
    check_workers: Annotated[int, EXECUTION] = Field(default=2, gt=0)


def run(stage: Stage[Config]) -> None:
    """Ask, grade, and sum up."""
    config = stage.config
    models = {config.engine: stage.input("model")} if "model" in stage.inputs else {}
    with CheckerPool(config.check_workers, config.check_deadline_s, config.answers) as pool:
        questions = _questions(stage, pool)
        map_completions(stage, functools.partial(_grade_shard, pool), questions, GRADED, models)
    stage.report(**_summary(stage, questions))


def _questions(stage: Stage[Config], pool: CheckerPool) -> Artifact:
    """All benchmarks' problems as one artifact in `problems/`, their references checked against themselves."""
    folder = stage.path / "problems"
    manifest = read_manifest(folder)
    if manifest is None:
        benchmarks, skipped = _benchmarks(stage)
        summary = {"skipped": skipped, "reference_self_check": _self_check(stage, benchmarks, pool)}
        rows = [row for problems in benchmarks.values() for row in problems]
        manifest = _write_questions(stage, folder, rows, summary)
    return Artifact(folder, manifest)


def _write_questions(stage: Stage[Config], folder: Path, rows: Sequence[Row], summary: dict[str, Any]) -> Manifest:
    folder.mkdir(exist_ok=True)
    size = stage.config.rows_per_shard
    shards = {}
    for index, start in enumerate(range(0, len(rows), size)):
        with ShardWriter(folder, shard_name(index), REFERENCE) as writer:
            for row in rows[start : start + size]:
                writer.write(row)
        shards[writer.name] = len(rows[start : start + size])
    spec = stage.spec.model_dump(
        include={"experiment", "stage", "module", "version", "fingerprint", "config", "identity", "inputs"}
    )
    manifest = Manifest(
        **spec,
        shards=shards,
        counts=Counts(rows_out=len(rows)),
        usage=Usage(),
        summary=summary,
        seconds=0.0,
        created="",
        versions={},
        command="",
    )
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _benchmarks(stage: Stage[Config]) -> tuple[dict[str, list[Row]], dict[str, str]]:
    """Problems by benchmark, and the reasons of those that could not be had."""
    found: dict[str, list[Row]] = {}
    skipped: dict[str, str] = {}
    for name, artifact in stage.inputs.items():
        if name == "model":
            continue
        benchmark = SYNTHETIC_TEST if name == "data" else artifact.manifest.summary.get("benchmark")
        if not benchmark:
            raise UserError(f"stages.{stage.name}.inputs.{name}: {artifact.path} is no benchmark of eval.datasets")
        if benchmark in found or benchmark in skipped:
            raise UserError(f"stages.{stage.name}.inputs.{name}: another input is the benchmark {benchmark!r} already")
        rows = _synthetic_test(artifact) if name == "data" else artifact.rows()
        found[benchmark] = _limited(rows, stage.config)
        if not found[benchmark]:
            del found[benchmark]
            skipped[benchmark] = artifact.manifest.summary.get("skipped", f"{artifact.path} holds no problems for it")
    if not found and not skipped:
        raise UserError(f"stages.{stage.name}.inputs: name a benchmark, as in {{data: sft_data, math: math}}")
    return found, skipped


def _synthetic_test(data: Artifact) -> Iterable[Row]:
    for row in data.rows(["id", "split", "problem", "answer"]):
        if row["split"] == "test":
            kept = {key: row[key] for key in ("id", "problem", "answer")}
            yield {**kept, "benchmark": SYNTHETIC_TEST, "item": row["id"], "subject": None, "level": None}


def _limited(rows: Iterable[Row], config: Config) -> list[Row]:
    if config.limit is None:
        return list(rows)
    chosen = heapq.nsmallest(config.limit, rows, key=lambda row: derive_seed(config.seed, "limit", row["id"]))
    return sorted(chosen, key=lambda row: row["id"])


def _self_check(stage: Stage[Config], benchmarks: Mapping[str, list[Row]], pool: CheckerPool) -> dict[str, Any]:
    """A checker that rejects a reference against itself would grade right answers wrong."""
    results = {}
    for name, rows in benchmarks.items():
        with stage.progress(len(rows), "references") as progress:
            failed = []
            for row, verdict in zip(rows, pool.check_many((row["answer"],) * 2 for row in rows), strict=True):
                if not verdict.correct:
                    failed.append({"id": row["id"], "answer": row["answer"], "verdict": verdict.label})
                progress.update()
        results[name] = {"checked": len(rows), "correct": len(rows) - len(failed), "failed": failed[:20]}
    return results


async def _grade_shard(pool: CheckerPool, stage: Stage[Config], shard: CompletionShard) -> None:
    answered: list[tuple[Row, Completion | Failure]] = []
    ask = student_prompt(stage.config.template, stage.config.system_prompt)
    request = functools.partial(_request, stage.config, ask)
    async for row, results in shard.generate(shard.rows(), request, _as_it_is, attempts=1):
        answered.append((row, results[0]))
    _refuse_if_all_failed(stage, [result for _, result in answered])
    pairs = [(row["answer"], result.text) for row, result in answered if isinstance(result, Completion)]
    # in a thread: the other shards' requests go on meanwhile
    verdicts = iter(await asyncio.to_thread(lambda: list(pool.check_many(pairs))))
    for row, result in answered:
        graded = {key: row[key] for key in ("id", "benchmark", "problem", "subject", "level")}
        graded["reference"] = row["answer"]
        if isinstance(result, Failure):
            shard.write({**graded, "verdict": "error", "rule": f"engine: {result.error}"})
            continue
        verdict = next(verdicts)
        shard.write(
            {
                **graded,
                "predicted": verdict.extracted,
                "verdict": verdict.label,
                "rule": f"{verdict.extraction}: {verdict.rule}",
                "completion": result.text,
                "finish_reason": result.finish_reason,
                "completion_tokens": result.completion_tokens,
            }
        )


def _refuse_if_all_failed(stage: Stage[Config], results: Sequence[Completion | Failure]) -> None:
    """A shard without a single answer is a mistake in the config, and no measurement."""
    failures = [result for result in results if isinstance(result, Failure)]
    if failures and len(failures) == len(results):
        raise UserError(
            f"stages.{stage.name}: the engine {stage.config.engine!r} refused all of {len(results)} problems, the first"
            f" with {failures[0].error}; see sampling.max_tokens and the engine's own limits"
        )


def _request(config: Config, ask: Callable[[str], tuple[Message, ...]], row: Row) -> list[Request]:
    return [Request(ask(row["problem"]), config.sampling, derive_seed(config.seed, row["id"]), engine=config.engine)]


def _as_it_is(_: Request, completion: Completion) -> Completion:
    return completion


def _summary(stage: Stage[Config], questions: Artifact) -> dict[str, Any]:
    graded: dict[str, list[Row]] = {}
    columns = ["benchmark", "verdict", "finish_reason", "completion_tokens", "subject", "level"]
    for name in questions.shard_names:
        for row in read_rows(stage.path / f"{name}.parquet", columns):
            graded.setdefault(row["benchmark"], []).append(row)
    return {
        "benchmarks": {name: _result(name, rows) for name, rows in graded.items()},
        **questions.manifest.summary,
        "asked_as_trained": _asked_as_trained(stage),
    }


def _asked_as_trained(stage: Stage[Config]) -> bool | None:
    """Whether the prompts of `data` are those asked with here; None without `data`."""
    if "data" not in stage.inputs:
        return None
    ask = student_prompt(stage.config.template, stage.config.system_prompt)
    first = next(stage.input("data").rows(["problem", "prompt"]), None)
    return first is None or list(ask(first["problem"])) == first["prompt"]


def _result(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    verdicts = Counter(row["verdict"] for row in rows)
    truncated = sum(row["finish_reason"] == "length" for row in rows)
    return {
        "kind": SYNTHETIC_TEST if name == SYNTHETIC_TEST else "benchmark",
        **_score(rows),
        "verdicts": {label: verdicts[label] for label in LABELS},
        "truncated": truncated,
        "truncation_rate": round(truncated / len(rows), 4),
        "mean_completion_tokens": round(sum(row["completion_tokens"] or 0 for row in rows) / len(rows), 1),
        "by_subject": _by(rows, "subject"),
        "by_level": _by(rows, "level"),
        "by_subject_and_level": {
            subject: _by([row for row in rows if row["subject"] == subject], "level")
            for subject in _values(rows, "subject")
        },
    }


def _values(rows: Iterable[Row], column: str) -> list[str]:
    return sorted({row[column] for row in rows if row[column] is not None})


def _by(rows: Sequence[Row], column: str) -> dict[str, Any]:
    return {value: _score([row for row in rows if row[column] == value]) for value in _values(rows, column)}


def _score(rows: Sequence[Row]) -> dict[str, Any]:
    correct = sum(row["verdict"] == "correct" for row in rows)
    interval = wilson_interval(correct, len(rows))
    return {
        "n": len(rows),
        "correct": correct,
        "accuracy": round(correct / len(rows), 4),
        "low": round(interval.low, 4),
        "high": round(interval.high, 4),
    }


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """One request per problem."""
    sizes = {name: rows for name, rows in rows_in.items() if name != "model"}
    if "data" in sizes:
        sizes["data"] = min(sizes["data"], _TEST_PROBLEMS)
    count = sum(min(rows, config.limit or rows) for rows in sizes.values())
    messages = student_prompt(config.template, config.system_prompt)("")
    prompt = _PROBLEM_TOKENS + sum(len(message["content"]) for message in messages) // _CHARS_PER_TOKEN
    completion = min(_COMPLETION_TOKENS, config.sampling.max_tokens)
    return Forecast(
        rows_out=count,
        requests={config.engine: Requests(count, count * prompt, count * completion)},
        disk_bytes=count * 2000,
        notes=(
            f"assumes {prompt} tokens in and {completion} out per problem, at most {_TEST_PROBLEMS:,} tests in `data`",
        ),
    )
