"""Configuration as frozen pydantic models.

An unknown key is an error that suggests the nearest valid one.

Field markers tell the fingerprint what a value stands for:

* `Annotated[..., EXECUTION]`: changes how fast or where a stage runs, not its records. Left out of the fingerprint.
* `Annotated[..., UNLESS_DEFAULT]`: left out of the fingerprint while it has its default, so that a new option does
  not make finished runs stale. The default must give the same records as the stage gave without the option.
* `EngineName`: replaced by the identity of the engine.
* `ContentPath`: replaced by a hash of the file or folder's content.
* `ModelName`: kept as a name, or replaced by a hash of the content if it is a local folder.
* `Annotated[str, TemplateFolder(folder)]`: replaced by the hash of the template file it names.
"""

from __future__ import annotations

import difflib
import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from personahub.core.errors import UserError
from personahub.core.identity import hash_path
from personahub.core.template import load_template


class _Marker:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TemplateFolder:
    """Marks a field that names a prompt template: one in `folder`, or a user's path."""

    folder: Path


EXECUTION = _Marker("execution")
UNLESS_DEFAULT = _Marker("unless default")
ENGINE_NAME = _Marker("engine name")
CONTENT_PATH = _Marker("content path")
MODEL_NAME = _Marker("model name")

Model = TypeVar("Model", bound=BaseModel)

EngineName = Annotated[str, ENGINE_NAME]
ContentPath = Annotated[str, CONTENT_PATH]
ModelName = Annotated[str, MODEL_NAME]


class FrozenModel(BaseModel):
    """Base class of everything read from YAML. Immutable; rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _reject_booleans_for_numbers(cls, values: Any) -> Any:
        """Reject YAML's `on`, `yes`, `true` and `off` for a number. Pydantic would read them as 1 and 0."""
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if isinstance(value, bool) and name in cls.model_fields and _is_number(cls.model_fields[name].annotation):
                raise ValueError(f"{name}: must be a number, not {str(value).lower()}")
        return values


class StageConfig(FrozenModel):
    """Base class of every stage's `Config`. `seed` defaults to the experiment's top-level `seed`."""

    seed: int = Field(
        default=0, ge=0, description="Source of every random choice of the stage, together with the record's id."
    )


def identity_of(config: BaseModel, engines: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the part of a config that determines results, as plain JSON values.

    Args:
        config: a stage's or an engine's config.
        engines: identity by engine name, for fields marked `EngineName`.

    Raises:
        UserError: an engine is not in the experiment, or a path does not exist.
    """

    def replace(value: str, marker: Any, where: str) -> Any:
        try:
            if isinstance(marker, TemplateFolder):
                return load_template(value, marker.folder).fingerprint
            if marker is CONTENT_PATH or (marker is MODEL_NAME and Path(value).is_dir()):
                return hash_path(value)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if marker is MODEL_NAME:
            return value
        if value not in (engines or {}):
            raise UserError(f"{where}: no engine named {value!r} in this experiment. {suggest(value, engines or {})}")
        return (engines or {})[value]

    return _transform_model(config, replace)


def engine_names(config: BaseModel) -> set[str]:
    """Return the names of all engines that a stage's config refers to, at any depth."""
    names: set[str] = set()

    def collect(value: str, marker: Any, _: str) -> str:
        if marker is ENGINE_NAME:
            names.add(value)
        return value

    _transform_model(config, collect)
    return names


_Replace = Callable[[str, Any, str], Any]


def _transform_model(config: BaseModel, replace: _Replace) -> dict[str, Any]:
    values = {}
    for name, field in type(config).model_fields.items():
        if EXECUTION in field.metadata:
            continue
        value = getattr(config, name)
        if UNLESS_DEFAULT not in field.metadata or value != field.get_default(call_default_factory=True):
            values[name] = _transform(value, field.annotation, field.metadata, replace, name)
    return values


def _transform(value: Any, annotation: Any, metadata: Sequence[Any], replace: _Replace, where: str) -> Any:
    """Convert `value` to plain values and replaces marked strings. Markers may be anywhere in the annotation."""
    if isinstance(value, str):
        marker = next(filter(_is_marker, (*metadata, *_markers_of_strings(annotation))), None)
        return value if marker is None else replace(value, marker, where)
    if isinstance(value, BaseModel):
        return _transform_model(value, replace)
    if isinstance(value, Mapping):
        item = _item_annotation(annotation, Mapping)
        return {str(key): _transform(below, item, (), replace, f"{where}.{key}") for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        item = _item_annotation(annotation, Sequence)
        return [_transform(below, item, (), replace, f"{where}.{i}") for i, below in enumerate(value)]
    return value


def _is_marker(marker: Any) -> bool:
    return isinstance(marker, TemplateFolder) or marker in (CONTENT_PATH, ENGINE_NAME, MODEL_NAME)


def _members(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of a union, or the annotation itself."""
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _is_number(annotation: Any) -> bool:
    """Return whether the annotation accepts numbers but not booleans."""
    accepted = {get_args(member)[0] if get_origin(member) is Annotated else member for member in _members(annotation)}
    return bool(accepted & {int, float}) and not accepted & {bool, Any}


def _markers_of_strings(annotation: Any) -> Iterator[Any]:
    for member in _members(annotation):
        if get_origin(member) is Annotated and get_args(member)[0] is str:
            yield from get_args(member)[1:]


def _item_annotation(annotation: Any, kind: type) -> Any:
    for member in _members(annotation):
        member = get_args(member)[0] if get_origin(member) is Annotated else member
        origin = get_origin(member)
        if isinstance(origin, type) and issubclass(origin, kind):
            return get_args(member)[1 if kind is Mapping else 0]
    return Any


def suggest(word: str, choices: Any) -> str:
    """Return 'Did you mean ...?' for a misspelled key, or the list of valid keys."""
    names = sorted(str(choice) for choice in choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Valid: {', '.join(names)}." if names else "None are defined."


def parse_config(model: type[Model], values: Any, where: str) -> Model:
    """Validate `values` as `model`.

    Raises:
        UserError: the message has one part per problem, each with the key's full path below `where`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [problem for problem in error.errors() if not _follows_from_another(problem, error.errors())]
        raise UserError("; ".join(_explain(model, problem, where) for problem in problems)) from None


def _follows_from_another(problem: Any, problems: Sequence[Any]) -> bool:
    """Whether a list is too short only because its items are invalid."""
    size = len(problem["loc"])
    return problem["type"] == "too_short" and any(
        len(other["loc"]) > size and other["loc"][:size] == problem["loc"] for other in problems
    )


def _explain(model: type[BaseModel], problem: Any, where: str) -> str:
    location = [str(part) for part in problem["loc"]]
    path = ".".join([where, *location] if where else location)
    if problem["type"] == "extra_forbidden":
        return f"{path}: unknown key. {suggest(location[-1], _fields_at(model, location[:-1]))}"
    if problem["type"] == "missing":
        return f"{path}: required key is missing"
    message = problem["msg"].removeprefix("Value error, ")
    # For a mapping or a file, the message says what is wrong; printing the value would add nothing.
    value = problem["input"]
    given = "" if isinstance(value, dict) or message.startswith(f"{value}: ") else f" (got {value!r:.80})"
    return ": ".join(filter(None, [path, message])) + given


def _fields_at(model: Any, location: Sequence[str]) -> list[str]:
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        if field is None:
            continue  # a list index or the tag of a union: the model is the same
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
    return list(model.model_fields)


def read_secret(variable: str, purpose: str) -> str:
    """Read an API key from the environment.

    Keys are never part of a config, so they cannot end up in a file.

    Raises:
        UserError: the variable is not set, or is empty.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UserError(f"{purpose} needs a key: set the environment variable {variable}")
    return value
