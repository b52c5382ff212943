"""Solves problems for the simulated teacher, correctly or with typical mistakes.

Each function takes an instance and returns an `Attempt`: the steps, their answer, and a program with the same answer.
All chance comes from the `rng`, so with the same `rng` every sample of a problem makes the same mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from synth.simulated.grammar import Answer, Instance, Params, Scratch, Working, tex


@dataclass(frozen=True, slots=True)
class Attempt:
    """A solution. `program` sets the variable `answer`. If `answer` is None, the solver gives up."""

    steps: tuple[str, ...]
    answer: Answer | None
    program: str


def right(instance: Instance) -> Attempt:
    """Solves an instance correctly. The instance must have a solution."""
    return _computed(instance, instance.params, instance.work(instance.params, Scratch()))


def slipped(instance: Instance, rng: Random) -> Attempt:
    """Makes one intermediate result wrong, and computes the rest from it."""
    note = Scratch()
    truth = tex(instance.work(instance.params, note).answer)
    places = list(range(len(note.values)))
    rng.shuffle(places)
    for place in places:
        done = _work(instance, instance.params, Scratch(place, rng))
        if done is not None and tex(done.answer) != truth:
            return _by_hand(instance, done.steps, done.answer)
    raise ValueError(
        f"family {instance.family.name}: no wrong intermediate result changes the answer of {instance.params}"
    )


def misread(instance: Instance, rng: Random) -> Attempt:
    """Answers another question: gives an intermediate result, or mixes up numbers."""
    note = Scratch()
    done = instance.work(instance.params, note)
    truth = tex(done.answer)
    if rng.random() < 0.25 and len(note.values) > 1 and tex(note.values[-2]) != truth:
        return _by_hand(instance, done.steps[:-1], note.values[-2])
    for params in _misreadings(instance.params, rng):
        other = _work(instance, params, Scratch())
        if other is not None and tex(other.answer) != truth and _alike(other.answer, done.answer):
            return _computed(instance, params, other)
    return slipped(instance, rng)


def without_solution(instance: Instance, rng: Random) -> Attempt:
    """Attempts an unsolvable instance. Mostly guesses or ignores the contradiction."""
    if rng.random() < 0.1:
        return Attempt(("Something is missing here, or the conditions contradict each other.",), None, "answer = None")
    if instance.withheld is None:
        done = instance.work(instance.params, Scratch())
        if instance.bound is None or rng.random() < 0.5:
            return _computed(instance, instance.params, done)
        forced = instance.bound + rng.randint(1, 3)
        return _by_hand(instance, (*done.steps, f"It must be greater than {instance.bound}."), forced)
    for _ in range(20):
        params = {**instance.params, instance.withheld: rng.randint(2, 12)}
        done = _work(instance, params, Scratch())
        if done is not None:
            return _computed(instance, params, done)
    return _by_hand(instance, (), rng.randint(2, 60))


def blind(problem: str, rng: Random) -> Attempt:
    """Attempts a problem of an unknown kind by combining some of its numbers."""
    numbers = [int(digits) for digits in re.findall(r"[0-9]{1,6}", problem)[:8]]
    first, second = (rng.choice(numbers) if numbers else rng.randint(1, 20) for _ in range(2))
    sign, value = rng.choice((("+", first + second), ("*", first * second), ("-", first - second)))
    steps = ("We combine the given numbers.", f"{first} {sign} {second} = {value}.")
    return Attempt(steps, value, f"answer = {first} {sign} {second}")


def _computed(instance: Instance, params: Params, done: Working) -> Attempt:
    return Attempt((instance.family.idea, *done.steps), done.answer, instance.code(params))


def _by_hand(instance: Instance, steps: tuple[str, ...], answer: Answer) -> Attempt:
    """Writes a program that only states the result, with the steps as comments."""
    value = repr(tex(answer)) if isinstance(answer, str) or answer.denominator > 1 else str(answer)
    program = "\n".join((*(f"# {step}" for step in steps), f"answer = {value}"))
    return Attempt((instance.family.idea, *steps), answer, program)


def _work(instance: Instance, params: Params, note: Scratch) -> Working | None:
    """Works an instance. None if the family is not defined for the wrong numbers."""
    try:
        return instance.work(params, note)
    except (ArithmeticError, ValueError):
        return None


def _misreadings(params: Params, rng: Random) -> Iterator[dict[str, int]]:
    """Yields `params` with two numbers swapped or one changed, in random order."""
    names = list(params)
    exchanged = [
        {**params, a: params[b], b: params[a]}
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if params[a] != params[b]
    ]
    off = [{**params, name: params[name] + step} for name in names for step in (-1, 1, 2, 10)]
    for candidates in (exchanged, off):
        rng.shuffle(candidates)
        yield from candidates


def _alike(answer: Answer, other: Answer) -> bool:
    """Returns whether `answer` is plausible next to `other`. An integer must match an integer of the same sign."""
    if isinstance(answer, str) or isinstance(other, str):
        return True
    return answer.denominator == 1 if other.denominator == 1 and (answer > 0) == (other > 0) else other.denominator > 1
