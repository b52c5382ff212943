"""Reads problem families from YAML files, one for each MATH subject.

To add a family, add an entry to a file:

    boxes:
      difficulties: [medium, hard]              # by default all
      idea: Divide, then subtract the broken ones.
      texts:                                    # `synth.simulated.grammar` explains the slots
      - <Who> packs <total?> <thing> at <place> into boxes of <size> and drops <broken>. How many boxes are left?
      draw:                                     # in this order
        size, boxes: [3..9, 11..40]             # one range for each difficulty
        broken: randint(1, boxes - 1)           # or a formula for all of them
        until: size != boxes                    # otherwise all draws up to here are repeated
        total: size * boxes
      given: [total, size, broken]              # the parameters; by default all that is drawn
      work:                                     # in this order; a wrong solution gets one of these wrong
        require: size > 0                       # otherwise the numbers of a text are refused
        all: total / size
        left: all - broken
      steps:                                    # templates, one for each sentence
      - <total> / <size> = <all>.
      - if: broken == 1
        then: One box is broken, so <left> remain.
        else: <all> - <broken> = <left>.
      answer: left                              # a formula, or a template such as `<left>\\pi`
      program: answer = <total> // <size> - <broken>

`synth.simulated.formulas` explains formulas and templates. In `draw`, formulas also have `2..9`, `randint(low, high)`,
`choice((2, 3, 5))` and `difficulty`. In `work`, a name that begins with `_` is an aside that is never wrong. In `steps`
there is also `answer`. A family that needs an algorithm names it instead: `algorithm: from_base`.

Every seed picks from the families in the order of the files and entries, so a new family changes what seeds stand for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from random import Random
from typing import Any

import yaml
from pydantic import Field

from personahub.core.config import FrozenModel, parse_config
from personahub.core.errors import UserError
from personahub.core.files import read_yaml
from synth.simulated.families.special import ALGORITHMS
from synth.simulated.formulas import Formula, Values, compile_formula, compile_template
from synth.simulated.grammar import DIFFICULTIES, SLOT, THEME_SLOTS, Difficulty, Family, Scratch, Working, require

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_Draws = list[tuple[str, Formula]]


class _Either(FrozenModel):
    condition: str = Field(alias="if")
    then: str
    otherwise: str = Field(alias="else")


class _Entry(FrozenModel):
    difficulties: tuple[Difficulty, ...] = DIFFICULTIES
    idea: str
    texts: tuple[str, ...]
    draw: dict[str, str | list[str]] = Field(default_factory=dict)
    given: tuple[str, ...] = ()
    work: dict[str, str] = Field(default_factory=dict)
    steps: tuple[str | _Either, ...] = ()
    answer: str = ""
    algorithm: str = ""
    program: str


class _File(FrozenModel):
    subject: str
    families: dict[str, _Entry]


def read_families(folder: Path = Path(__file__).parent) -> tuple[Family, ...]:
    """Reads the families of the YAML files in `folder`, in the order of file names.

    Raises:
        UserError: an entry is malformed. The message names its file and key.
    """
    found: list[Family] = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            values = read_yaml(file)
        except yaml.YAMLError as error:
            raise UserError(f"{file.name}: not valid YAML: {error}") from None
        content = parse_config(_File, values, file.name)
        for name, entry in content.families.items():
            found.append(_family(name, content.subject, entry, f"{file.name}.families.{name}"))
    return tuple(found)


def _family(name: str, subject: str, entry: _Entry, where: str) -> Family:
    if entry.algorithm:
        if entry.algorithm not in ALGORITHMS:
            raise UserError(f"{where}.algorithm: unknown algorithm {entry.algorithm!r}. Valid: {', '.join(ALGORITHMS)}")
        sample, work = ALGORITHMS[entry.algorithm]
    else:
        if missing := [key for key in ("draw", "work", "steps", "answer") if not getattr(entry, key)]:
            raise UserError(f"{where}.{missing[0]}: required key is missing")
        given = _given(entry, where)
        plans: dict[Difficulty, _Draws] = {
            d: _draws(entry, i, f"{where}.draw") for i, d in enumerate(entry.difficulties)
        }
        sample, work = _sampler(plans, given), _worker(entry, given, where)
    return Family(name, subject, entry.texts, entry.idea, sample, work, entry.program, entry.difficulties)


def _given(entry: _Entry, where: str) -> tuple[str, ...]:
    """Returns the names of the parameters. Checks that every text states them."""
    drawn = tuple(name for key in entry.draw if key != "until" for name in key.split(", "))
    given = entry.given or drawn
    if unknown := sorted(set(given) - set(drawn)):
        raise UserError(f"{where}.given: {', '.join(unknown)}: not in `draw`")
    for i, text in enumerate(entry.texts):
        slots = {name for name, _ in SLOT.findall(text)} - THEME_SLOTS
        if missing := sorted(set(given) - slots):
            raise UserError(f"{where}.texts.{i}: does not state {', '.join(missing)}. `given` lists what it must state")
        if unknown := sorted(slots - set(given)):
            raise UserError(f"{where}.texts.{i}: states {', '.join(unknown)}, which `given` does not list")
    return given


def _draws(entry: _Entry, index: int, where: str) -> _Draws:
    """Compiles the draws of the difficulty at `index`."""
    draws: _Draws = []
    known = {"randint", "choice", "difficulty"}
    for key, value in entry.draw.items():
        if isinstance(value, list) and len(value) != len(entry.difficulties):
            raise UserError(f"{where}.{key}: has {len(value)} values for {len(entry.difficulties)} difficulties")
        source = _RANGE.sub(r"randint(\1, \2)", value[index] if isinstance(value, list) else value)
        formula = _compiled(compile_formula, source, known, f"{where}.{key}")
        draws += [(name, formula) for name in key.split(", ")]
        known.update({*key.split(", ")} - {"until"})
    return draws


def _sampler(
    plans: Mapping[Difficulty, _Draws], given: Collection[str]
) -> Callable[[Random, Difficulty], dict[str, int]]:
    """Returns the `sample` function of a family."""

    def sample(rng: Random, difficulty: Difficulty) -> dict[str, int]:
        values: dict[str, Any] = {"randint": rng.randint, "choice": rng.choice, "difficulty": difficulty}
        while not drawn(plans[difficulty], values):
            pass
        return {name: values[name] for name in given}

    def drawn(draws: _Draws, values: dict[str, Any]) -> bool:
        for name, formula in draws:
            values[name] = formula(values)
            if name == "until" and not values[name]:
                return False
        return True

    return sample


def _worker(entry: _Entry, given: Collection[str], where: str) -> Callable[..., Working]:
    """Returns the `work` function of a family."""
    known = set(given)
    quantities: list[tuple[str, Formula]] = []
    for name, source in entry.work.items():
        quantities.append((name, _compiled(compile_formula, source, known, f"{where}.work.{name}")))
        known.update({name} - {"require"})
    compile_answer = compile_template if "<" in entry.answer else compile_formula
    answer = _compiled(compile_answer, entry.answer, known, f"{where}.answer")
    known.add("answer")
    steps = tuple(_step(step, known, f"{where}.steps.{i}") for i, step in enumerate(entry.steps))

    def work(note: Scratch, **params: int) -> Working:
        values: dict[str, Any] = params
        for name, formula in quantities:
            value = formula(values)
            if name == "require":
                require(value, entry.work[name])
            else:
                values[name] = value if name[0] == "_" else note(value)
        values["answer"] = answer(values)
        return Working(values["answer"], tuple([step(values) for step in steps]))

    return work


def _step(step: str | _Either, names: Collection[str], where: str) -> Callable[[Values], str]:
    if isinstance(step, str):
        return _compiled(compile_template, step, names, where)
    condition = _compiled(compile_formula, step.condition, names, f"{where}.if")
    then = _compiled(compile_template, step.then, names, f"{where}.then")
    otherwise = _compiled(compile_template, step.otherwise, names, f"{where}.else")
    return lambda values: then(values) if condition(values) else otherwise(values)


def _compiled(
    compile_source: Callable[[str, Collection[str]], Formula], source: str, names: Collection[str], where: str
) -> Formula:
    """Compiles a formula or a template. An error names its key."""
    try:
        return compile_source(source, names)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
