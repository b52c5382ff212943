r"""The simulated teacher's grammar: problem families, and text from numbers.

A `Family` has data (wordings and a PoT program with slots) and two functions, which draw the parameters and work the
problem. `synth.simulated.families` makes both from a YAML file. Everything else is derived here:

* `Wording.render` writes a problem. The same wording, compiled to a regex, reads it back, so the text of a problem is
  all that is needed to solve it.
* `work` passes every computed number through a `Scratch`, which can make one of them wrong. The wrong value then
  affects the rest of the solution, as in the solution of an LLM.

Slots: `<a>` is an integer. `<b?>` is an integer that may be withheld to make the problem unsolvable: then "some", or
inside a formula the letter k, takes its place. `<who>`, `<Who>`, `<thing>` and `<place>` take theme words, which never
affect the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from random import Random
from typing import Literal, TypeVar

Difficulty = Literal["easy", "medium", "hard"]
DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "medium", "hard")

Params = Mapping[str, int]
Answer = int | Fraction | str  # a string is LaTeX
Number = TypeVar("Number", int, Fraction)

SLOT = re.compile(r"<([A-Za-z]\w*)(\??)>")
THEME_SLOTS = frozenset({"who", "Who", "thing", "place"})
# At most five digits, so that a hostile exponent or factorial cannot keep the teacher busy.
_INTEGER = r"-?[0-9]{1,5}"
_WITHHELD = ("some", "k")
_TAIL_PARTS = frozenset({"modulus", "fold", "bound"})
_THEME_TEXT = r"[^\d.,;:?!$<>]{1,100}?"
_LONGEST = 2000  # characters of a problem; longer text is not read, so that no regex becomes slow


def tex(value: Answer) -> str:
    r"""Formats an answer as LaTeX: `7`, `\frac{3}{4}`, or the string itself."""
    if isinstance(value, str):
        return value
    if value.denominator == 1:
        return str(value.numerator)
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


class Scratch:
    """Records each computed number in order, and changes the one at `slip_at`."""

    def __init__(self, slip_at: int | None = None, rng: Random | None = None) -> None:
        self.values: list[int | Fraction] = []
        self._slip_at = slip_at
        self._rng = rng

    def __call__(self, value: Number) -> Number:
        if self._rng is not None and len(self.values) == self._slip_at:
            value = _slipped(value, self._rng)
        self.values.append(value)
        return value


def _slipped(value: Number, rng: Random) -> Number:
    """Returns a wrong value near `value` with the same sign: off by one, two or ten."""
    for step in (rng.choice((1, -1, 2, -2, 10, -10)), 1):
        moved = value + step
        if (moved > 0) == (value > 0) and moved != 0:
            return moved
    return value - 1


@dataclass(frozen=True, slots=True)
class Working:
    """A worked problem: the steps in words, and their answer."""

    answer: Answer
    steps: tuple[str, ...]


# What may follow a question. `Instance` explains the parts.
_TAIL = (
    r"(?: Give the remainder when the result is divided by (?P<modulus>[1-9][0-9]{0,4})\.)?"
    r"(?P<fold> Write the result in lowest terms and give the sum of its numerator and denominator\.)?"
    r"(?: It is known that the result is greater than (?P<bound>-?[0-9]{1,12})\.)?"
)


class Wording:
    """One phrasing of a family. It renders problems and reads them back."""

    def __init__(self, source: str) -> None:
        pieces = SLOT.split(source)
        self._literals: list[str] = pieces[0::3]
        self._slots: list[str] = pieces[1::3]
        self.may_withhold = tuple(name for name, mark in zip(pieces[1::3], pieces[2::3], strict=True) if mark)
        # Text without this literal cannot match, and a substring test takes a tenth of the time of a failing regex.
        self._anchor = max(self._literals, key=len)
        self._pattern = re.compile(self._regex())

    def _regex(self) -> str:
        parts, seen = [re.escape(self._literals[0])], set()
        for name, literal in zip(self._slots, self._literals[1:], strict=True):
            number = "|".join((_INTEGER, *_WITHHELD)) if name in self.may_withhold else _INTEGER
            body = _THEME_TEXT if name in THEME_SLOTS else number
            parts += [f"(?P={name})" if name in seen else f"(?P<{name}>{body})", re.escape(literal)]
            seen.add(name)
        return "".join(parts) + _TAIL

    def render(self, params: Params, theme: Mapping[str, str], withheld: str | None = None) -> str:
        parts = [self._literals[0]]
        for name, literal in zip(self._slots, self._literals[1:], strict=True):
            if name in THEME_SLOTS:
                parts.append(theme[name])
            elif name == withheld:
                parts.append(_WITHHELD["".join(parts).count("$") % 2])
            else:
                parts.append(str(params[name]))
            parts.append(literal)
        return "".join(parts)

    def parse(self, text: str) -> dict[str, str | None] | None:
        """Returns the slots and tail of `text` by name. None if it has another wording."""
        match = self._pattern.fullmatch(text) if self._anchor in text else None
        return match.groupdict() if match else None


@dataclass(frozen=True)
class Family:
    """A parametrized kind of problem.

    Attributes:
        name: name of the family.
        subject: MATH subject.
        wordings: texts with slots. Every wording contains all parameters.
        idea: how to solve it, in one sentence.
        sample: `sample(rng, difficulty)` draws the parameters, which are integers.
        work: `work(note, **params)` solves the problem, and passes each computed number through `note`.
        program: Python code with slots that sets `answer`.
        difficulties: difficulties at which the family exists.
    """

    name: str
    subject: str
    wordings: tuple[str, ...]
    idea: str
    sample: Callable[[Random, Difficulty], dict[str, int]]
    work: Callable[..., Working]
    program: str
    difficulties: tuple[Difficulty, ...] = DIFFICULTIES

    @cached_property
    def compiled(self) -> tuple[Wording, ...]:
        return tuple(Wording(source) for source in self.wordings)

    def solve(self, params: Params) -> Answer:
        return self.work(Scratch(), **params).answer

    def code(self, params: Params) -> str:
        return SLOT.sub(lambda slot: str(params[slot.group(1)]), self.program)


@dataclass(frozen=True)
class Instance:
    """One problem: a family with numbers, and additions to its question.

    Attributes:
        family: the family.
        wording: index of the wording.
        params: parameters by name.
        modulus: if set, asks for the remainder of the answer.
        fold: whether it asks for numerator plus denominator.
        bound: if set, claims that the result is greater than this. A false claim contradicts the other conditions.
        withheld: the parameter that the text does not state. `params` lacks it if it was read from a text.
    """

    family: Family
    wording: int
    params: dict[str, int]
    modulus: int | None = None
    fold: bool = False
    bound: int | None = None
    withheld: str | None = None

    @cached_property
    def answer(self) -> Answer | None:
        """The right answer, or None if a condition is missing or contradicts the others.

        Raises:
            ArithmeticError, ValueError: the family is not defined for `params`.
        """
        if self.withheld is not None:
            return None
        value = self.work(self.params, Scratch()).answer
        contradicted = self.bound is not None and isinstance(value, int | Fraction) and value <= self.bound
        return None if contradicted else value

    def work(self, params: Params, note: Scratch) -> Working:
        """Solves the whole question with `params` as a solver reads them.

        Raises:
            ArithmeticError, ValueError: same as for `answer`.
        """
        done = self.family.work(note, **params)
        value = done.answer
        if isinstance(value, str):
            return done
        if self.modulus is not None:
            require(value.denominator == 1, "a fraction has no remainder")
            rest = note(int(value) % self.modulus)
            return Working(rest, (*done.steps, f"{value} divided by {self.modulus} leaves {rest}."))
        if self.fold:
            top, bottom = value.numerator, value.denominator
            total = note(top + bottom)
            return Working(total, (*done.steps, f"In lowest terms: ${tex(value)}$, and {top} + {bottom} = {total}."))
        return done

    def code(self, params: Params) -> str:
        """Returns the PoT program without the line that prints `answer`."""
        lines = [self.family.code(params)]
        if self.modulus is not None:
            lines.append(f"answer = answer % {self.modulus}")
        if self.fold:
            lines.append("answer = answer.numerator + answer.denominator")
        return "\n".join(lines)

    def text(self, theme: Mapping[str, str]) -> str:
        """Returns the text of the problem."""
        parts = [self.family.compiled[self.wording].render(self.params, theme, self.withheld)]
        if self.modulus is not None:
            parts.append(f"Give the remainder when the result is divided by {self.modulus}.")
        if self.fold:
            parts.append("Write the result in lowest terms and give the sum of its numerator and denominator.")
        if self.bound is not None:
            parts.append(f"It is known that the result is greater than {self.bound}.")
        return " ".join(parts)


def recognize(text: str, families: Iterable[Family]) -> Instance | None:
    """Reads the instance from `text`, ignoring line breaks and spacing. Returns None if no family matches."""
    text = " ".join(text.split())
    if len(text) > _LONGEST:
        return None
    for family in families:
        for index, wording in enumerate(family.compiled):
            values = wording.parse(text)
            if values is not None:
                return _instance(family, index, values)
    return None


def _instance(family: Family, wording: int, values: Mapping[str, str | None]) -> Instance | None:
    """Builds an instance. None if the family is not defined for the numbers."""
    numbers = {name: value for name, value in values.items() if name not in THEME_SLOTS | _TAIL_PARTS}
    withheld = [name for name, value in numbers.items() if value in _WITHHELD]
    instance = Instance(
        family,
        wording,
        {name: int(value) for name, value in numbers.items() if value is not None and name not in withheld},
        int(values["modulus"]) if values["modulus"] else None,
        values["fold"] is not None,
        int(values["bound"]) if values["bound"] else None,
        withheld[0] if withheld else None,
    )
    try:
        _ = instance.answer
    except (ArithmeticError, ValueError):
        return None
    return instance if len(withheld) < 2 else None


def seeded(*parts: str | int) -> Random:
    """Returns a generator that depends only on `parts`, on any machine."""
    return Random(":".join(map(str, parts)))  # noqa: S311 - not for secrets


def require(condition: bool, what: str) -> None:
    """Restricts the domain of a family to valid numbers that do not take too long.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(what)
