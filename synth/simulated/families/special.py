"""Families whose working is an algorithm that formulas cannot express."""

from __future__ import annotations

from random import Random

from synth.simulated.grammar import Difficulty, Scratch, Working, require


def sample_from_base(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    base = rng.randint(3, 9)
    digits = rng.randint(*{"easy": (2, 2), "medium": (3, 3), "hard": (4, 5)}[difficulty])
    number = rng.randint(1, base - 1)
    for _ in range(digits - 1):
        number = 10 * number + rng.randint(0, base - 1)
    return {"number": number, "base": base}


def work_from_base(note: Scratch, number: int, base: int) -> Working:
    require(number >= 0, "the number must not be negative")
    digits = [int(digit) for digit in str(number)]
    require(max(digits) < base, f"{number} is not written in base {base}")
    value, steps = digits[0], []
    for digit in digits[1:]:
        scaled = note(value * base)
        total = note(scaled + digit)
        steps.append(f"{value} * {base} = {scaled} and {scaled} + {digit} = {total}.")
        value = total
    return Working(value, tuple(steps))


ALGORITHMS = {"from_base": (sample_from_base, work_from_base)}
