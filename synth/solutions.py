"""Sample solutions to problems: CoT samples and PoT programs from one or more models.

    solutions:
      run: synth.solutions
      inputs: {problems: problems}
      config:
        samples:
          - {engine: gpt_4o, kind: cot}
          - {engine: gpt_4o, kind: pot}
          - {engine: gpt_4_turbo, kind: cot}

Each problem gives one record, with all samples in the order of the config. Samples that are empty or refused by
the engine or the model are left out. A problem is rejected only if no sample is left. Samples are not judged here:
truncated samples and samples without an answer are kept for `synth.verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from personahub.core.config import EngineName, FrozenModel, StageConfig, TemplateFolder
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.engines.base import ONLY_THINKING
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast, Work
from personahub.core.generation.llm_stage import PROBLEM_TOKENS, estimate_tokens, forecast_requests
from personahub.core.generation.loop import CompletionShard, Failure, map_completions
from personahub.core.identity import derive_seed
from personahub.core.records import SOLUTIONS, Row
from personahub.core.stage import Stage
from personahub.core.template import load_template
from personahub.core.texts.replies import find_refusal, split_thinking
from synth.prompts import PROMPTS

VERSION = "2"
INPUTS = ("problems",)
WORK = Work(cpu_seconds=0.00047, memory_bytes=90, measured_by="benchmarks.million")

_COMPLETION_TOKENS = {"cot": 550, "pot": 250}  # GPT-4-class chat models on problems of this length


class SampleGroup(FrozenModel):
    """`n` samples of one kind from one engine."""

    engine: EngineName
    kind: Literal["cot", "pot"] = "cot"
    template: Annotated[str, TemplateFolder(PROMPTS)] = Field(description="Default: solve_cot or solve_pot.")
    n: int = Field(default=1, gt=0)
    sampling: Sampling = Sampling(temperature=0.7, max_tokens=2048)

    @model_validator(mode="before")
    @classmethod
    def _template_of_kind(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("template") is None:
            return {**values, "template": f"solve_{values.get('kind', 'cot')}"}
        return values


class Config(StageConfig):
    """Which samples to draw. A group added at the end does not change the seeds of the groups before it."""

    samples: tuple[SampleGroup, ...] = Field(min_length=1)
    attempts: int = Field(default=2, gt=0, description="How often to request a sample if it is empty or refused.")


def run(stage: Stage[Config]) -> None:
    """Write the solutions of `problems`."""
    map_completions(stage, _process, stage.input("problems"), SOLUTIONS)


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    config = stage.config
    kinds = [group.kind for group in config.samples for _ in range(group.n)]
    async for problem, results in shard.generate(shard.rows(), prompts(config), parse_solution, config.attempts):
        samples = [
            {"kind": kind, **result} for kind, result in zip(kinds, results, strict=True) if isinstance(result, dict)
        ]
        if samples:
            shard.write({**problem, "samples": samples})
        else:
            failure = next(result for result in results if isinstance(result, Failure))
            detail = f"all {len(results)} failed, first: {failure.error}"
            shard.reject(problem, Rejected("no_samples", detail), failure.raw)


def prompts(config: Config) -> Callable[[Row], list[Request]]:
    """Return a function that makes a problem's requests, in the order of the config.

    `sample` counts over all groups.
    """
    groups = [(group, load_template(group.template, PROMPTS)) for group in config.samples]

    def of_problem(row: Row) -> list[Request]:
        requests: list[Request] = []
        for group, template in groups:
            messages = template.render(problem=row["problem"])
            for _ in range(group.n):
                sample = len(requests)
                seed = derive_seed(config.seed, row["id"], sample)
                requests.append(Request(messages, group.sampling, seed, sample, engine=group.engine))
        return requests

    return of_problem


def parse_solution(request: Request, completion: Completion) -> dict[str, Any]:
    """Return the fields of a sample, except its kind.

    `seed` is the seed of the successful attempt.

    Raises:
        Rejected: `empty`, `only_thinking` or `refusal`.
    """
    answer = split_thinking(completion.text)
    if not answer.text and completion.text.strip():
        raise Rejected("only_thinking", ONLY_THINKING)
    if not answer.text:
        raise Rejected("empty", f"finish_reason {completion.finish_reason}")
    if not answer.still_thinking and find_refusal(answer.text):
        raise Rejected("refusal")
    return {
        "text": completion.text,
        "model": completion.model,
        "seed": request.seed,
        "finish_reason": completion.finish_reason,
    }


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast one request per problem and sample."""
    problems = rows_in["problems"]
    groups = []
    for group in config.samples:
        prompt = estimate_tokens(load_template(group.template, PROMPTS).render(problem="")) + PROBLEM_TOKENS
        groups.append((group.engine, problems * group.n, prompt, _COMPLETION_TOKENS[group.kind]))
    return Forecast(
        rows_out=problems,
        requests=forecast_requests(*groups),
        disk_bytes=problems * sum(group.n for group in config.samples) * 2000,
        notes=("assumes {cot} tokens out per CoT sample and {pot} per PoT program".format(**_COMPLETION_TOKENS),),
    )
