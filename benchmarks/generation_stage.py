"""The stage that the generation benchmark runs: without an input it makes prompts, with one it has them answered."""

from __future__ import annotations

import pyarrow as pa

from personahub.core.config import EngineName, StageConfig
from personahub.core.engines import Completion, Message, Request, Sampling
from personahub.core.errors import Rejected
from personahub.core.generation.loop import CompletionShard, Failure, map_completions
from personahub.core.identity import derive_seed
from personahub.core.records import Row
from personahub.core.shards import shard_name
from personahub.core.stage import Stage

VERSION = "1"
INPUTS = ("prompts?",)
PROMPT = "Create a math problem with the following persona: {persona}\n" * 4
ROWS_PER_SHARD = 10_000

_PROMPTS = pa.schema([("id", pa.string()), ("prompt", pa.string())])
_ANSWERS = pa.schema([("id", pa.string()), ("answer", pa.string()), ("seed", pa.int64())])


class Config(StageConfig):
    count: int = 0
    engine: EngineName | None = None


def run(stage: Stage[Config]) -> None:
    """Write `count` prompts, or the answers to those of the input."""
    if "prompts" in stage.inputs:
        map_completions(stage, _process, stage.input("prompts"), _ANSWERS)
        return
    for shard, start in enumerate(range(0, stage.config.count, ROWS_PER_SHARD)):
        with stage.writer(shard_name(shard), _PROMPTS) as writer:
            for number in range(start, min(start + ROWS_PER_SHARD, stage.config.count)):
                writer.write({"id": str(number), "prompt": prompt(number)})


def prompt(number: int) -> str:
    """The text of one request, some 280 characters."""
    return PROMPT.format(persona=f"harbour pilot number {number}")


async def _process(stage: Stage[Config], shard: CompletionShard) -> None:
    sampling = Sampling(max_tokens=512)

    def prompts(row: Row) -> list[Request]:
        messages = (Message(role="user", content=row["prompt"]),)
        seed = derive_seed(stage.config.seed, row["id"])
        return [Request(messages, sampling, seed, engine=stage.config.engine or "")]

    def parse(request: Request, completion: Completion) -> tuple[str, int]:
        text = completion.text.strip()
        if not text.startswith("reply"):
            raise Rejected("no_reply")
        return text, request.seed

    async for row, (result,) in shard.generate(shard.rows(), prompts, parse):
        if isinstance(result, Failure):
            shard.reject(row, result.error, result.raw)
        else:
            shard.write({"id": row["id"], "answer": result[0], "seed": result[1]})
