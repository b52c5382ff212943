"""Measures a model's accuracy on problems with reference answers.

Examples are MATH and the synthetic test.

    after:
      run: eval.benchmark
      inputs: {data: sft_data, model: sft, math: math}     # every other input is an eval.datasets artifact
      config: {engine: student}
      # config: {engine: student, samples: 8, sampling: {temperature: 0.6, top_p: 0.95, max_tokens: 2048}}
      # config: {engine: base, template: few_shot, few_shot: {count: 4}}

The test split of `data` is the benchmark `synthetic_test`. With an input `model`, the engine loads
that artifact's `model/`; otherwise it uses its own model. The default is greedy decoding, one
completion per problem, and the template that `synth.sft_data` trains with. With `samples: n` every
problem is asked n times, and the summary has pass@k and maj@k.

The records are the graded samples. For every benchmark the summary has the accuracy with an interval,
separate counts of the five verdicts, truncations, and tables by subject and level. A problem that the
engine refuses counts as `error`, so n is always the number of problems. `asked_as_trained` is true if
the prompts in `data` are the ones used here. With `judge: {engine: ...}` a model gives a second
opinion on the rules' verdicts. docs/evaluation.md explains the protocols; `eval.regrade` grades the
same completions again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from pydantic import Field, model_validator

from eval.grading.grade import GradingConfig, grade, grading_summary
from eval.grading.questions import count_questions, gather_questions
from eval.grading.scores import summarize
from personahub.core.answers import CheckerPool
from personahub.core.config import EngineName
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast
from personahub.core.generation.llm_stage import estimate_tokens, forecast_requests
from personahub.core.generation.loop import CompletionShard, Failure, map_completions
from personahub.core.identity import derive_seed
from personahub.core.records import GRADED, Row
from personahub.core.stage import Stage
from personahub.core.template import Message
from personahub.core.texts.student_prompt import (
    FewShot,
    StudentTemplate,
    load_examples,
    shows_examples,
    stop_strings,
    student_prompt,
)

VERSION = "4"
INPUTS = ("data?", "model?", "*")

_PROBLEM_TOKENS = 70  # MATH problems average 200 characters of dense LaTeX
_TEST_PROBLEMS = 12_000  # the size of the paper's synthetic test; the size of `data` is unknown until it is made
_COMPLETION_TOKENS = 400  # zero-shot CoT of instruct models on MATH


class Config(GradingConfig):
    """How to ask the model and how to grade its answers."""

    engine: EngineName
    template: StudentTemplate = Field(default="solve", description="solve, few_shot, base, simple_evals, or a .md file")
    few_shot: FewShot | None = Field(default=None, description="Worked examples, for templates that show them.")
    system_prompt: str | None = Field(default=None, description="Null: none; a chat template may then insert its own.")
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=2048)
    samples: int = Field(
        default=1, gt=0, description="Completions per problem; with several, the summary has pass@k and maj@k."
    )
    limit: int | None = Field(
        default=None, gt=0, description="Ask at most this many problems of each benchmark, chosen by hash."
    )
    rows_per_shard: int = Field(default=500, gt=0)

    @model_validator(mode="after")
    def _check_combination(self) -> Config:
        if self.samples > 1 and self.sampling.temperature == 0:
            raise ValueError(
                f"samples: {self.samples} greedy completions of a problem are all the same; set"
                " sampling.temperature above 0, or samples to 1"
            )
        shown = shows_examples(self.template)
        if shown and self.few_shot is None:
            raise ValueError(f"template {self.template} shows worked examples: add few_shot: {{count: 4}}")
        if self.few_shot is not None and not shown:
            raise ValueError(f"few_shot: template {self.template} shows no examples; use template few_shot")
        return self

    def ask(self) -> Callable[[str], tuple[Message, ...]]:
        """Returns a function that renders a problem into the prompt."""
        return student_prompt(self.template, self.system_prompt, load_examples(self.few_shot))

    def sampling_with_stop(self) -> Sampling:
        """Returns `sampling` with the template's stop strings added."""
        stop = tuple(dict.fromkeys((*self.sampling.stop, *stop_strings(self.template))))
        return self.sampling.model_copy(update={"stop": stop})


def run(stage: Stage[Config]) -> None:
    """Asks, grades and summarizes."""
    config = stage.config
    models = {config.engine: stage.input("model")} if "model" in stage.inputs else {}
    with config.open_pool() as pool:
        questions = gather_questions(stage, pool)
        map_completions(stage, functools.partial(_grade_shard, pool), questions, GRADED, models)
    stage.report(
        benchmarks=summarize(stage, questions.shard_names),
        **questions.manifest.summary,
        asked_as_trained=_asked_as_trained(stage),
        grading=grading_summary(stage),
    )


async def _grade_shard(pool: CheckerPool, stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    request = functools.partial(_requests, config, config.ask(), config.sampling_with_stop())
    samples: list[Row] = []
    async for row, results in shard.generate(shard.rows(), request, _unchanged, attempts=1):
        samples += [_sample(row, number, result) for number, result in enumerate(results)]
    _refuse_if_all_failed(stage, samples)
    for row in await grade(config, pool, shard, samples):
        shard.write(row)


def _requests(config: Config, ask: Callable[[str], tuple[Message, ...]], sampling: Sampling, row: Row) -> list[Request]:
    messages = ask(row["problem"])
    return [
        Request(messages, sampling, derive_seed(config.seed, row["id"], sample), sample, engine=config.engine)
        for sample in range(config.samples)
    ]


def _unchanged(_: Request, completion: Completion) -> Completion:
    return completion


def _sample(row: Row, number: int, result: Completion | Failure) -> Row:
    known = {key: row[key] for key in ("id", "benchmark", "problem", "subject", "level")}
    known |= {"reference": row["answer"], "sample": number}
    if isinstance(result, Failure):
        return {**known, "completion": None, "rule": f"engine: {result.error}"}
    return {
        **known,
        "completion": result.text,
        "finish_reason": result.finish_reason,
        "completion_tokens": result.completion_tokens,
    }


def _refuse_if_all_failed(stage: Stage[Config], samples: Sequence[Row]) -> None:
    """Raises if a whole shard has no answer. This indicates a mistake in the config, not a bad model."""
    if samples and all(row["completion"] is None for row in samples):
        raise UserError(
            f"stages.{stage.name}: the engine {stage.config.engine!r} refused all {len(samples)} requests, the first"
            f" with {samples[0]['rule'].removeprefix('engine: ')}; check sampling.max_tokens and the engine's limits"
        )


def _asked_as_trained(stage: Stage[Config]) -> bool | None:
    """Returns whether the prompts in `data` are the ones used here; None without `data`."""
    if "data" not in stage.inputs:
        return None
    first = next(stage.input("data").rows(["problem", "prompt"]), None)
    return first is None or list(stage.config.ask()(first["problem"])) == first["prompt"]


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Estimates `samples` requests per problem."""
    problems = count_questions(config.limit, rows_in, _TEST_PROBLEMS)
    count = problems * config.samples
    prompt = _PROBLEM_TOKENS + estimate_tokens(config.ask()(""))
    completion = min(_COMPLETION_TOKENS, config.sampling.max_tokens)
    judge_note = ("the judge's requests are not included: at most one per answer",) if config.judge else ()
    return Forecast(
        rows_out=count,
        requests=forecast_requests((config.engine, count, prompt, completion)),
        disk_bytes=count * 2000,
        notes=(
            f"assumes {prompt} tokens in and {completion} out per request, at most {_TEST_PROBLEMS:,} tests in `data`",
            *judge_note,
        ),
    )
