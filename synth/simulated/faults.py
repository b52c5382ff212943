"""Rates at which the simulated teacher fails in the ways that LLMs fail."""

from __future__ import annotations

from random import Random
from typing import Annotated

from pydantic import Field, model_validator

from personahub.core.config import UNLESS_DEFAULT, FrozenModel

Rate = Annotated[float, Field(ge=0, le=1)]


class FaultRates(FrozenModel):
    """How often the teacher fails.

    Each rate is a share of the completions that can have the fault. A completion has at most one fault. A problem can
    have one of the first six. A solution can have one of the first three, `wrong_arithmetic` or `wrong_reading`. A
    verdict can have one of the first three and, depending on the problem, `missed_flaw` or `false_flaw`.

    refusal: an apology instead of an answer.
    truncation: the text ends in the middle.
    malformed: there is no prefix or no boxed answer, or the program fails.
    unsolvable: a problem lacks a number or contradicts itself.
    near_duplicate: a problem is one of a few that recur, with a slightly different theme.
    attached_solution: a problem comes with a title, a solution, commentary or chat, or gives its answer away.
    wrong_arithmetic: one computed number of a solution is wrong, and everything computed from it.
    wrong_reading: a solution answers a different question.
    missed_flaw: an unsound problem is judged sound.
    false_flaw: a sound problem is judged unsound.
    correlated: share of the wrong solutions of a problem that all make the same mistake. The others make individual
        mistakes, which can be the same by chance. Wrong verdicts on a problem are correlated in the same way.
    """

    refusal: Rate = 0.005
    truncation: Rate = 0.01
    malformed: Rate = 0.02
    unsolvable: Rate = 0.03
    near_duplicate: Rate = 0.03
    attached_solution: Annotated[Rate, UNLESS_DEFAULT] = 0.0
    wrong_arithmetic: Rate = 0.06
    wrong_reading: Rate = 0.05
    missed_flaw: Rate = 0.3
    false_flaw: Rate = 0.02
    correlated: Rate = 0.3

    @model_validator(mode="after")
    def _at_most_one_fault(self) -> FaultRates:
        common = self.refusal + self.truncation + self.malformed
        for names in (("unsolvable", "near_duplicate", "attached_solution"), ("wrong_arithmetic", "wrong_reading")):
            if common + sum(getattr(self, name) for name in names) > 1:
                raise ValueError(f"refusal + truncation + malformed + {' + '.join(names)} must not exceed 1")
        return self

    @classmethod
    def none(cls) -> FaultRates:
        """Rates of a teacher without faults."""
        return cls(**dict.fromkeys(cls.model_fields, 0.0))

    def draw(self, rng: Random, *names: str) -> str | None:
        """Draws one of the faults `names` at its rate, or None."""
        point = rng.random()
        for name in names:
            point -= getattr(self, name)
            if point < 0:
                return name
        return None
