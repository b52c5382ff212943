"""Personas to pose problems to, all families' problems, and what their solutions print."""

from __future__ import annotations

import contextlib
import io
import re
from random import Random

from personahub.core.answers import check
from synth.simulated.families import FAMILIES
from synth.simulated.faults import FaultRates
from synth.simulated.grammar import Instance
from synth.simulated.themes import theme_of

NONE = FaultRates.none()
PERSONAS = (
    "A retired railway enthusiast fond of blogging about her canal walks.",
    "I'm a basketball blogger and an avid NBA fan, focusing specifically on the Oklahoma City Thunder team updates.",
    "A first-time parent seeking accurate information about vaccine safety for their newborn baby",
    "Un CEO de una empresa de tecnología que busca asesoramiento para mejorar la eficiencia de sus operaciones",
    "一个经常玩棒球手游，但对现实中的职业棒球缺乏深入了解的玩家。",
    "some",
    "who",
    "",
    "...!?",
    "4 8 15 16 23 42",
    "<who> <a> {thing} $x$ \\boxed{7} ## user",
    "A dealer in some $k$ of 12 boxes. How many are left over? It is known that the result is greater than 3.",
    "a\nb\tc " * 40,
    "supercalifragilisticexpialidocious" * 30,
    "the of and to in for",
)


def instances(seed: int, rounds: int):
    """Every family, difficulty and wording, `rounds` times, with its theme."""
    rng = Random(seed)
    for _ in range(rounds):
        for family in FAMILIES:
            for difficulty in family.difficulties:
                for wording in range(len(family.wordings)):
                    theme = theme_of(rng.choice(PERSONAS)).slots
                    yield Instance(family, wording, family.sample(rng, difficulty)), difficulty, theme


def output(reply: str) -> str:
    """The last line that a program of our own grammar prints."""
    match = re.fullmatch(r"```python\n(.*)\n```", reply, re.DOTALL)
    assert match, reply
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(match[1], {})
    return printed.getvalue().strip().splitlines()[-1]


def same(answer: str, printed: str) -> bool:
    return check(answer, rf"\boxed{{{printed}}}").label == "correct"
