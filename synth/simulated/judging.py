"""How the simulated teacher compares two texts: answers, and problems.

It goes by the words alone: a candidate says what the reference says when its last number, or its text, is the
reference's; two problems are the same when most of their words are, whatever the numbers.
"""

from __future__ import annotations

import re
from random import Random
from typing import Any

from synth.simulated.faults import FaultRates

_PIECE = re.compile(r"\\?[A-Za-z]+|-?\d+(?:\.\d+)?|[^\s\w]")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_SAME_WORDS = 0.6  # Jaccard similarity


def same_answer(reference: str, candidate: str, rng: Random, rates: FaultRates) -> tuple[str, dict[str, Any]]:
    """A reply that ends in `Judgement: yes` or `no`, and the truth beside it."""
    told, asked = _pieces(candidate), _pieces(reference)
    while told and told[-1] in ".$":
        told.pop()
    same = bool(asked) and told[-len(asked) :] == asked
    return _reply("Judgement", same, rng, rates)


def same_problem(item: str, candidate: str, rng: Random, rates: FaultRates) -> tuple[str, dict[str, Any]]:
    """A reply that ends in `Same problem: yes` or `no`, and the truth beside it."""
    one, other = (set(_pieces(_NUMBER.sub("0", text.lower()))) for text in (item, candidate))
    same = len(one & other) >= _SAME_WORDS * len(one | other)
    return _reply("Same problem", same, rng, rates)


def _reply(label: str, same: bool, rng: Random, rates: FaultRates) -> tuple[str, dict[str, Any]]:
    fault = rates.draw(rng, "malformed")
    word = "yes" if same else "no"
    text = "It is hard to say." if fault else f"We compare what both say.\n{label}: {word}"
    return text, {"fault": fault, "same": same}


def _pieces(text: str) -> list[str]:
    return _PIECE.findall(text)
