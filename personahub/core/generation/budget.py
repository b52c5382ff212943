"""A cost limit that stops a run without losing completions that are paid for."""

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

SPENT = "spent.json"  # next to pruned journals: the tokens by engine that they recorded


class BudgetSpentError(UserError, Drain):
    """The next request might exceed the budget."""


@dataclass(frozen=True)
class Spent:
    """Completions and their tokens. Includes replies that were paid for but not usable."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def plus(self, other: Spent) -> Spent:
        """Return the sum of both."""
        return Spent(
            self.answers + other.answers,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )


class Budget:
    """Keeps the cost below `limit`.

    Counts the money that is spent, and estimates the requests in flight at the average cost of an answer.
    The first requests are sent before any cost is known.

    Args:
        where: the config key to raise, for the error message.
        limit: in USD.
        price: price of tokens.
        earlier: tokens used by earlier runs.
    """

    def __init__(self, where: str, limit: float, price: Price | None, earlier: Spent) -> None:
        self._where = where
        self._limit = limit
        self._spent = usd(price, earlier.prompt_tokens, earlier.completion_tokens)
        self._answers = earlier.answers
        self._in_flight = 0

    @staticmethod
    def of_experiment(folder: Path, engine: str, limit: float, price: Price | None) -> Budget:
        """Return the budget of an engine over all stages of the experiment in `folder`."""
        return Budget(f"engines.{engine}.max_cost_usd", limit, price, spent_by_experiment(folder, engine))

    @contextmanager
    def reserve(self, answers: int = 1) -> Iterator[None]:
        """Reserve money during one request for `answers` completions.

        Raises:
            BudgetSpentError: the request might exceed the budget.
        """
        mean = self._spent / self._answers if self._answers else 0.0
        if self._spent + (self._in_flight + answers) * mean > self._limit:
            raise BudgetSpentError(
                f"{self._where} is reached: ${self._spent:.4g} of ${self._limit:g} are spent, and completions in flight "
                "will be kept. To continue, raise it and run the same command again"
            )
        self._in_flight += answers
        try:
            yield
        finally:
            self._in_flight -= answers

    def spend(self, cost: float) -> None:
        """Add the cost of one answer, or of a request that failed."""
        self._spent += cost
        self._answers += 1


def spent_by_experiment(folder: Path, engine: str) -> Spent:
    """Return what all stages below `folder` have recorded for an engine."""
    total = Spent()
    for file in folder.glob(f"*/journal/{SPENT}"):
        recorded = json.loads(file.read_text(encoding="utf-8"))
        total = total.plus(Spent(**recorded.get(engine, {})))
    for file in folder.glob("*/journal/*.jsonl"):
        total = total.plus(spent_by_engine(file).get(engine, Spent()))
    return total


def spent_by_engine(file: Path) -> dict[str, Spent]:
    """Return what one journal has recorded, by engine."""
    spent: dict[str, Spent] = {}
    for _, _, _, entry in read_entries(file):
        prompt, completion = entry.get("wasted", (0, 0))
        tokens = (entry.get("prompt_tokens", 0) + prompt, entry.get("completion_tokens", 0) + completion)
        engine = entry.get("engine", "")
        spent[engine] = spent.get(engine, Spent()).plus(Spent(1, *tokens))
    return spent
