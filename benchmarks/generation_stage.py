"""The stage of the generation benchmark. Without an input it makes prompts; with one it has them answered."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from personahub.core.config import EngineName, StageConfig
from personahub.core.engines import Completion, Message, Request, Sampling
from personahub.core.errors import Rejected
from personahub.core.generation.llm_stage import generate_records
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
    """Write `count` prompts, or the answers to the prompts of the input."""
    if "prompts" in stage.inputs:
        generate_records(stage, stage.input("prompts"), _ANSWERS, prompts(stage.config), parse, record, attempts=3)
        return
    for shard, start in enumerate(range(0, stage.config.count, ROWS_PER_SHARD)):
        with stage.writer(shard_name(shard), _PROMPTS) as writer:
            for number in range(start, min(start + ROWS_PER_SHARD, stage.config.count)):
                writer.write({"id": str(number), "prompt": prompt(number)})


def prompt(number: int) -> str:
    """Return the text of one request, about 280 characters."""
    return PROMPT.format(persona=f"harbour pilot number {number}")


def prompts(config: Config) -> Callable[[Row], list[Request]]:
    """Return the one request of a row."""
    sampling = Sampling(max_tokens=512)

    def of_row(row: Row) -> list[Request]:
        messages = (Message(role="user", content=row["prompt"]),)
        return [Request(messages, sampling, derive_seed(config.seed, row["id"]), engine=config.engine or "")]

    return of_row


def parse(request: Request, completion: Completion) -> tuple[str, int]:
    """Return text and seed of a reply. Raises `Rejected` if it does not start as expected."""
    text = completion.text.strip()
    if not text.startswith("reply"):
        raise Rejected("no_reply")
    return text, request.seed


def record(row: Row, _: int, answer: tuple[str, int]) -> Row:
    """Return the output record of a row."""
    return {"id": row["id"], "answer": answer[0], "seed": answer[1]}
