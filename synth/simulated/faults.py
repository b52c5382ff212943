"""The rates at which the simulated teacher fails, each in a way that LLMs do."""

from __future__ import annotations

from random import Random
from typing import Annotated

from pydantic import Field, model_validator

from personahub.core.config import FrozenModel

Rate = Annotated[float, Field(ge=0, le=1)]


class FaultRates(FrozenModel):
    """How often the teacher fails, each way as a share of the completions that can fail so.

    A completion has one fault at most. A problem can have the first five faults, a solution the first three and
    the next two, a verdict the first three and, by the problem's state, one of the two after those.

    refusal: an apology instead of an answer.
    truncation: the text breaks off in the middle.
    malformed: no prefix, no boxed answer, or a program that fails.
    unsolvable: a problem lacks a number, or contradicts itself.
    near_duplicate: a problem is one of a few that are posed again and again, in a slightly different theme.
    wrong_arithmetic: one computed number of a solution is wrong, and so what follows.
    wrong_reading: a solution answers another question than the one asked.
    missed_flaw: an unsound problem is judged sound.
    false_flaw: a sound problem is judged unsound.
    correlated: share of the wrong solutions of a problem that make the mistake it invites, all the same. The rest
        make one of their own, which can by chance be the same too. Wrong verdicts on one problem are shared alike.
    """

    refusal: Rate = 0.005
    truncation: Rate = 0.01
    malformed: Rate = 0.02
    unsolvable: Rate = 0.03
    near_duplicate: Rate = 0.03
    wrong_arithmetic: Rate = 0.06
    wrong_reading: Rate = 0.05
    missed_flaw: Rate = 0.3
    false_flaw: Rate = 0.02
    correlated: Rate = 0.3

    @model_validator(mode="after")
    def _at_most_one_fault(self) -> FaultRates:
        common = self.refusal + self.truncation + self.malformed
        for names in (("unsolvable", "near_duplicate"), ("wrong_arithmetic", "wrong_reading")):
            if common + sum(getattr(self, name) for name in names) > 1:
                raise ValueError(f"refusal + truncation + malformed + {' + '.join(names)} exceed 1")
        return self

    @classmethod
    def none(cls) -> FaultRates:
        """A teacher without faults."""
        return cls(**dict.fromkeys(cls.model_fields, 0.0))

    def draw(self, rng: Random, *names: str) -> str | None:
        """One of the faults `names` at its rate, or None."""
        point = rng.random()
        for name in names:
            point -= getattr(self, name)
            if point < 0:
                return name
        return None
