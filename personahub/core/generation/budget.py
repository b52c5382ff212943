"""A limit on money that stops a run without losing anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from personahub.core.engines.price import Price, usd
from personahub.core.errors import UserError
from personahub.core.generation.journal import read_entries
from personahub.core.generation.window import Drain

SPENT = "spent.json"  # beside pruned journals: tokens by engine that they had on record


class BudgetSpentError(UserError, Drain):
    """The next request might cost more than is left."""


@dataclass(frozen=True)
class Spent:
    """Answers and what they took, replies that were paid for in vain included."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: Spent) -> Spent:
        """The sum of both."""
        return Spent(
            self.answers + other.answers,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


class Budget:
    """Keeps the cost below `limit`: what is spent, and what the answers under way will cost on average.

    The first requests of all go out before any cost is known.

    Args:
        where: the key that the user raises, for the message.
        limit: in USD.
        price: of tokens.
        earlier: what earlier runs took.
    """

    def __init__(self, where: str, limit: float, price: Price | None, earlier: Spent) -> None:
        self._where = where
        self._limit = limit
        self._spent = usd(price, earlier.prompt_tokens, earlier.completion_tokens)
        self._answers = earlier.answers
        self._under_way = 0

    @staticmethod
    def of_experiment(folder: Path, engine: str, limit: float, price: Price | None) -> Budget:
        """The budget of an engine over all stages of the experiment in `folder`."""
        return Budget(f"engines.{engine}.max_cost_usd", limit, price, spent_by_experiment(folder, engine))

    @contextmanager
    def reserve(self, answers: int = 1) -> Iterator[None]:
        """Around one request for `answers` completions.

        Raises:
            BudgetSpentError: there is no money for it.
        """
        mean = self._spent / self._answers if self._answers else 0.0
        if self._spent + (self._under_way + answers) * mean > self._limit:
            raise BudgetSpentError(
                f"{self._where} is reached: ${self._spent:.4g} of ${self._limit:g} are spent, and what is under way "
                "will be kept. To go on, raise it and give the same command"
            )
        self._under_way += answers
        try:
            yield
        finally:
            self._under_way -= answers

    def spend(self, cost: float) -> None:
        """Count what was paid for one answer, or for a request in vain."""
        self._spent += cost
        self._answers += 1


def spent_by_experiment(folder: Path, engine: str) -> Spent:
    """What all stages below `folder` have on record for an engine."""
    total = Spent()
    for file in folder.glob(f"*/journal/{SPENT}"):
        recorded = json.loads(file.read_text(encoding="utf-8"))
        total = total.plus(Spent(**recorded.get(engine, {})))
    for file in folder.glob("*/journal/*.jsonl"):
        total = total.plus(spent_by_engine(file).get(engine, Spent()))
    return total


def spent_by_engine(file: Path) -> dict[str, Spent]:
    """What one journal has on record, by engine."""
    spent: dict[str, Spent] = {}
    for _, _, _, entry in read_entries(file):
        prompt, completion = entry.get("wasted", (0, 0))
        tokens = (entry.get("prompt_tokens", 0) + prompt, entry.get("completion_tokens", 0) + completion)
        engine = entry.get("engine", "")
        spent[engine] = spent.get(engine, Spent()).plus(Spent(1, *tokens))
    return spent
