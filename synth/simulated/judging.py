"""How the simulated teacher compares two answers or two problems.

It looks only at the words. A candidate agrees with the reference if it ends with the same number or text. Two problems
are the same if they share most of their words, whatever their numbers.
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
    """Returns a reply that ends in `Judgement: yes` or `no`, and the truth."""
    given, expected = _pieces(candidate), _pieces(reference)
    while given and given[-1] in ".$":
        given.pop()
    same = bool(expected) and given[-len(expected) :] == expected
    return _reply("Judgement", same, rng, rates)


def same_problem(item: str, candidate: str, rng: Random, rates: FaultRates) -> tuple[str, dict[str, Any]]:
    """Returns a reply that ends in `Same problem: yes` or `no`, and the truth."""
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
