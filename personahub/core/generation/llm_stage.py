"""An LLM stage from four functions: prompts, parse, record, forecast.

    def run(stage: Stage[Config]) -> None:
        config = stage.config
        template = load_template(config.template, PROMPTS)
        generate_records(
            stage, stage.input("personas"), PROBLEM, prompts(config, template), parse, record(config), config.attempts
        )

    def prompts(config, template):                     # row -> its requests
        def of_persona(row: Row) -> list[Request]:
            messages = template.render(persona=row["persona"])
            seed = derive_seed(config.seed, row["id"])
            return [Request(messages, config.sampling, seed, engine=config.engine)]
        return of_persona

    def parse(request, completion) -> str:             # completion -> value, or raises Rejected
        return parse_problem(completion)

    def record(config):                                # row, sample index, value -> output record
        def of_reply(persona: Row, sample: int, problem: str) -> Row:
            return {"id": content_id("problem", problem, persona["id"], sample), "problem": problem, ...}
        return of_reply

    def forecast(config, rows_in) -> Forecast:         # what `personahub plan` prints
        prompt = estimate_tokens(load_template(config.template, PROMPTS).render(persona="")) + PERSONA_TOKENS
        count = rows_in["personas"]
        return Forecast(count, forecast_requests((config.engine, count, prompt, PROBLEM_TOKENS)))

A stage whose output is not one record per reply iterates `usable_results` in its own `process`
(`personahub.text_to_persona`), and a stage that looks at all replies to a row together iterates
`shard.generate` (`synth.check_problems`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from personahub.core.artifact import Artifact
from personahub.core.engines.base import Completion, Request
from personahub.core.forecast import Requests
from personahub.core.generation.loop import CompletionShard, Failure, map_completions
from personahub.core.records import Row
from personahub.core.stage import Stage
from personahub.core.template import Message

T = TypeVar("T")

CHARS_PER_TOKEN = 4  # English text under GPT-style vocabularies; OpenAI's rule of thumb
PERSONA_TOKENS = 25  # the personas of the paper's release average 20 to 30
PROBLEM_TOKENS = 130  # one word problem with its quantities and LaTeX


def generate_records(
    stage: Stage[Any],
    source: Artifact,
    schema: pa.Schema,
    prompts: Callable[[Row], Sequence[Request]],
    parse: Callable[[Request, Completion], T],
    record: Callable[[Row, int, T], Row],
    attempts: int,
    noted: Callable[[T], Mapping[str, int]] | None = None,
) -> None:
    """Ask for every row of `source` and write one record per usable reply.

    A request that gave nothing usable after all attempts is rejected as its row with a field `sample`.

    Args:
        stage: the running stage.
        source: the artifact whose rows are asked about, shard by shard.
        schema: of the output records.
        prompts: the requests for a row.
        parse: value of a completion; raises `Rejected` to ask again with another seed.
        record: output record of a row, the index of the request among those for the row, and its value.
        attempts: how often one request is asked at most.
        noted: counts to add up over all values, in `Counts.noted`.
    """

    async def process(_: Stage[Any], shard: CompletionShard) -> None:
        async for row, sample, value in usable_results(shard, shard.rows(), prompts, parse, attempts, _with_sample):
            shard.write(record(row, sample, value))
            for name, number in noted(value).items() if noted else ():
                shard.count(name, number)

    map_completions(stage, process, source, schema)


def _with_sample(row: Row, sample: int) -> Row:
    return {**row, "sample": sample}


async def usable_results(
    shard: CompletionShard,
    rows: Iterable[Row],
    prompts: Callable[[Row], Sequence[Request]],
    parse: Callable[[Request, Completion], T],
    attempts: int,
    rejected_row: Callable[[Row, int], Row] | None = None,
) -> AsyncIterator[tuple[Row, int, T]]:
    """Yield (row, request index, value) per usable reply, in order.

    Others are rejected.

    Args:
        shard: asks its engines and takes the rejected rows.
        rows: the rows to ask about.
        prompts, parse, attempts: as for `generate_records`.
        rejected_row: what to keep for a failed request, from its row and index; the row itself by default.
    """
    async for row, results in shard.generate(rows, prompts, parse, attempts):
        for index, result in enumerate(results):
            if isinstance(result, Failure):
                shard.reject(row if rejected_row is None else rejected_row(row, index), result.error, result.raw)
            else:
                yield row, index, result


def estimate_tokens(messages: Sequence[Message]) -> int:
    """Expected tokens of a rendered prompt, from its characters."""
    return sum(len(message["content"]) for message in messages) // CHARS_PER_TOKEN


def forecast_requests(*groups: tuple[str, int, int, int]) -> dict[str, Requests]:
    """Total requests and tokens by engine.

    Replies that have to be asked for again are not foreseen.

    Args:
        groups: each an engine's name, a number of requests, and the expected prompt and completion tokens of each.
    """
    totals: dict[str, Requests] = {}
    for engine, count, prompt, completion in groups:
        known = totals.get(engine, Requests(0, 0, 0))
        totals[engine] = Requests(
            known.count + count,
            known.prompt_tokens + count * prompt,
            known.completion_tokens + count * completion,
        )
    return totals
