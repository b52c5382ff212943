"""Money: what tokens cost, and a limit on it that stops a run without losing anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from personahub.core.errors import UserError
from personahub.core.journal import read_entries
from personahub.core.workers import Drain

SPENT = "spent.json"  # beside pruned journals: tokens by engine that they had on record


class BudgetSpentError(UserError, Drain):
    """The next request might cost more than is left."""


def usd(price: Any, prompt_tokens: int, completion_tokens: int) -> float:
    """The cost of tokens at `price` (USD per million); 0 where there is none."""
    if price is None:
        return 0.0
    return (prompt_tokens * price.input + completion_tokens * price.output) / 1e6


class Budget:
    """Keeps the cost below `limit`: what is spent, and what the requests under way will cost on average.

    Args:
        where: the key that the user raises, for the message.
        limit: in USD.
        spent: by earlier runs.
    """

    def __init__(self, where: str, limit: float, spent: float) -> None:
        self._where = where
        self._limit = limit
        self.spent = spent
        self._spent_here = 0.0
        self._answers = 0
        self._under_way = 0

    @staticmethod
    def of_experiment(folder: Path, engine: str, limit: float, price: Any) -> Budget:
        """The budget of an engine over all stages of the experiment in `folder`."""
        return Budget(f"engines.{engine}.max_cost_usd", limit, usd(price, *spent_tokens(folder, engine)))

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Around one request.

        Raises:
            BudgetSpentError: there is no money for it.
        """
        mean = self._spent_here / self._answers if self._answers else 0.0
        if self.spent + (self._under_way + 1) * mean > self._limit:
            raise BudgetSpentError(
                f"{self._where} is reached: ${self.spent:.4g} of ${self._limit:g} are spent, and what is under way "
                "will be kept. To go on, raise it and give the same command"
            )
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def spend(self, cost: float) -> None:
        """Count what was paid for one request."""
        self.spent += cost
        self._spent_here += cost
        self._answers += 1


def spent_tokens(folder: Path, engine: str) -> tuple[int, int]:
    """Prompt and completion tokens that all stages below `folder` have on record for an engine."""
    prompt = completion = 0
    for file in folder.glob(f"*/journal/{SPENT}"):
        recorded = json.loads(file.read_text(encoding="utf-8")).get(engine, (0, 0))
        prompt, completion = prompt + recorded[0], completion + recorded[1]
    for file in folder.glob("*/journal/*.jsonl"):
        for name, (p, c) in journal_tokens(file).items():
            if name == engine:
                prompt, completion = prompt + p, completion + c
    return prompt, completion


def journal_tokens(file: Path) -> dict[str, tuple[int, int]]:
    """Prompt and completion tokens by engine in one journal, wasted replies included."""
    tokens: dict[str, tuple[int, int]] = {}
    for _, _, _, entry in read_entries(file):
        engine = entry.get("engine", "")
        prompt, completion = tokens.get(engine, (0, 0))
        wasted = entry.get("wasted", (0, 0))
        tokens[engine] = (
            prompt + entry.get("prompt_tokens", 0) + wasted[0],
            completion + entry.get("completion_tokens", 0) + wasted[1],
        )
    return tokens
