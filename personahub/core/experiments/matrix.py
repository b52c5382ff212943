"""Expand `matrix` and `foreach`: one entry of `stages:` serves all arms and seeds.

    matrix:
      arm:
        without: {persona: false}
        with: {persona: true}
      seed: [0, 1, 2]
    stages:
      problems:
        foreach: [arm, seed]              # problems-without-0, problems-without-1, ... problems-with-2
        run: synth.problems
        inputs: {personas: personas}
        config: {engine: teacher, persona: "${arm.persona}", seed: "${seed}"}
      solutions:
        foreach: [arm, seed]
        run: synth.solutions
        inputs: {problems: problems}      # from the same arm and seed
      summary:
        run: eval.diversity
        inputs: {made: problems}          # all of them: made-without-0, made-without-1, ...

An axis is a list of values, or a mapping from names to settings. `${axis}` is the value or name, and
`${axis.key}` is a setting. If a reference is the whole string, its value keeps its type. If an input is
repeated along an axis and the stage is not, the stage gets one input for each value of the axis.

The YAML is rewritten before it is validated, and the resulting stages are like any others. So two stages
share an artifact only if both name it, and an override of `stages.problems.config.x` applies to all arms.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from personahub.core.config import suggest
from personahub.core.errors import UserError

_REFERENCE = re.compile(r"\$\{([^{}]*)\}")
_NAME = re.compile(
    r"[A-Za-z0-9_]+"
)  # no dash, because dashes separate the names, and stages split the names of their inputs again

Choice = dict[str, str]  # name of the chosen value by axis


def expand_matrix(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an experiment's YAML with `matrix` and `foreach` expanded.

    Raises:
        UserError: an axis or a reference does not exist or is malformed.
    """
    values = dict(values)
    axes = _axes(values.pop("matrix", {}))
    stages = values.get("stages")
    if not isinstance(stages, Mapping):
        return values  # pydantic will report the error
    for name in stages:
        if not isinstance(name, str):  # YAML reads `on` and `yes` as true, and 1 as a number
            raise UserError(f"stages.{name}: the name of a stage must be text; put it in quotes or choose another name")
    repeated = {name: _foreach(name, entry, axes) for name, entry in stages.items()}
    expanded: dict[str, Any] = {}
    for name, entry in stages.items():
        for choice in _choices(repeated[name], axes):
            instance = _instance_name(name, repeated[name], choice)
            if instance in expanded:
                raise UserError(f"stages.{name}.foreach: creates {instance!r}, which is the name of another stage")
            expanded[instance] = _instance(name, entry, choice, repeated, axes)
    return {**values, "stages": expanded}


def _axes(matrix: Any) -> dict[str, dict[str, Any]]:
    """Return the settings by axis and name."""
    if not isinstance(matrix, Mapping):
        raise UserError("matrix: must map the name of each axis to its values")
    axes: dict[str, dict[str, Any]] = {}
    for axis, values in matrix.items():
        if isinstance(values, list):
            values = {str(value): value for value in values}
        if not isinstance(values, Mapping) or not values:
            raise UserError(f"matrix.{axis}: must be a list of values, or a mapping from names to settings")
        for name in (axis, *values):
            if not _NAME.fullmatch(str(name)):
                raise UserError(f"matrix.{axis}: {name!r} is used in names of stages: use only letters, digits and _")
        axes[str(axis)] = {str(name): value for name, value in values.items()}
    return axes


def _foreach(name: str, entry: Any, axes: Mapping[str, Any]) -> tuple[str, ...]:
    wanted = entry.get("foreach", []) if isinstance(entry, Mapping) else []
    where = f"stages.{name}.foreach"
    if not isinstance(wanted, list) or len(set(map(str, wanted))) < len(wanted):
        raise UserError(f"{where}: must be a list of different axes of the matrix")
    for axis in wanted:
        if axis not in axes:
            raise UserError(f"{where}: the matrix has no axis {axis!r}. {suggest(str(axis), axes)}")
    return tuple(wanted)


def _choices(chosen: Sequence[str], axes: Mapping[str, Mapping[str, Any]]) -> list[Choice]:
    return [dict(zip(chosen, names, strict=True)) for names in itertools.product(*(axes[axis] for axis in chosen))]


def _instance_name(name: str, chosen: Sequence[str], choice: Choice) -> str:
    return "-".join([name, *(choice[axis] for axis in chosen)])


def _instance(
    name: str,
    entry: Any,
    choice: Choice,
    repeated: Mapping[str, tuple[str, ...]],
    axes: Mapping[str, Mapping[str, Any]],
) -> Any:
    """Return one of the stages that an entry stands for."""
    if not isinstance(entry, Mapping):
        return entry
    inputs = entry.get("inputs")
    rest = {key: value for key, value in entry.items() if key not in ("foreach", "inputs")}
    found = _substitute(rest, choice, axes, f"stages.{name}")
    if choice:
        found["axes"] = choice
    if isinstance(inputs, Mapping):
        found["inputs"] = {
            key: stage for part in inputs.items() for key, stage in _inputs(*part, choice, repeated, axes).items()
        }
    elif inputs is not None:
        found["inputs"] = inputs
    return found


def _inputs(
    key: str, stage: Any, choice: Choice, repeated: Mapping[str, tuple[str, ...]], axes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the stages of one input. `choice` fixes the values of some axes; others take all values."""
    repeats = repeated.get(stage, ()) if isinstance(stage, str) else ()
    free = [axis for axis in repeats if axis not in choice]
    return {
        _instance_name(key, free, more): _instance_name(stage, repeats, {**choice, **more}) if repeats else stage
        for more in _choices(free, axes)
    }


def _substitute(value: Any, choice: Choice, axes: Mapping[str, Mapping[str, Any]], where: str) -> Any:
    """Replace the references in `value`."""
    if isinstance(value, Mapping):
        return {key: _substitute(below, choice, axes, f"{where}.{key}") for key, below in value.items()}
    if isinstance(value, list):
        return [_substitute(below, choice, axes, f"{where}.{number}") for number, below in enumerate(value)]
    if not isinstance(value, str):
        return value
    if whole := _REFERENCE.fullmatch(value):
        return _resolve(whole[1], choice, axes, where)
    return _REFERENCE.sub(lambda match: str(_resolve(match[1], choice, axes, where)), value)


def _resolve(reference: str, choice: Choice, axes: Mapping[str, Mapping[str, Any]], where: str) -> Any:
    axis, _, key = reference.partition(".")
    if axis not in choice:
        raise UserError(f"{where}: ${{{reference}}}: the stage is not repeated over {axis!r}. {suggest(axis, choice)}")
    value = axes[axis][choice[axis]]
    if not key:
        return choice[axis] if isinstance(value, Mapping) or value is None else value
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            known = value if isinstance(value, Mapping) else ()
            raise UserError(
                f"matrix.{axis}.{choice[axis]}: no {part!r}, which {where} refers to. {suggest(part, known)}"
            )
        value = value[part]
    return value
