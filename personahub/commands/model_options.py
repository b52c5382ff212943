"""Command line options made from the fields of pydantic models.

    OPTIONS = ModelOptions(EndpointConfig, exclude=("kind",))
    OPTIONS.add_to(parser)                                    # --base-url URL, --timeout SECONDS, --rpm NUMBER, ...
    config = OPTIONS.build(EndpointConfig, options, kind="openai")

`timeout_s` becomes `--timeout SECONDS`; a Literal becomes choices; a bool becomes `--name` and `--no-name`; a tuple
becomes an option that may be repeated; a nested model becomes one option per field, such as `--price-input`. Fields of
other types have no option. A field's description is the option's help.
"""

from __future__ import annotations

import argparse
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from personahub.core.errors import UserError

Model = TypeVar("Model", bound=BaseModel)

_METAVARS = {int: "N", float: "NUMBER"}


@dataclass(frozen=True)
class _Option:
    flag: str
    description: str
    default: Any
    kind: Any  # int, float, str, bool or a Literal
    repeated: bool
    nullable: bool  # "none" and "null" stand for None


class ModelOptions:
    """Options for the fields of one or more models.

    Models that share a field share its option.

    Args:
        *models: the models.
        only: paths of the fields to include, such as `price.input`. By default all fields.
        exclude: paths of the fields to leave out, with everything below them.
        names: path -> option, for options whose name is not the field's.
        descriptions: path -> help, for options whose help is not the field's description.
        prefix: goes before the name of each option.
        defaults: whether the help shows the fields' defaults.
    """

    def __init__(
        self,
        *models: type[BaseModel],
        only: Collection[str] = (),
        exclude: Collection[str] = (),
        names: Mapping[str, str] | None = None,
        descriptions: Mapping[str, str] | None = None,
        prefix: str = "",
        defaults: bool = True,
    ) -> None:
        self._key = "+".join(model.__name__ for model in models)
        self._show_defaults = defaults
        self._options: dict[str, _Option] = {}
        for model in models:
            for path, field, kind, repeated, nullable in _fields(model, ()):
                if any(f"{path}.".startswith(f"{each}.") for each in exclude) or (only and path not in only):
                    continue
                name = f"{prefix}.{path}" if prefix else path
                flag = (names or {}).get(path, f"--{name.removesuffix('_s').replace('.', '-').replace('_', '-')}")
                text = ((descriptions or {}).get(path) or field.description or "").removesuffix(".")
                self._options.setdefault(path, _Option(flag, text, field.default, kind, repeated, nullable))

    def add_to(self, parser: argparse.ArgumentParser | argparse._ArgumentGroup, required: Collection[str] = ()) -> None:
        """Add the options; those of the `required` paths must be given."""
        for path, option in self._options.items():
            settings: dict[str, Any] = {
                "dest": self._dest(path),
                "default": argparse.SUPPRESS,
                "help": self._help(option),
            }
            if option.kind is bool:
                settings["action"] = argparse.BooleanOptionalAction
            elif get_origin(option.kind) is Literal:
                settings["choices"] = get_args(option.kind)
            else:
                word = option.flag.rpartition("-")[2].upper()
                settings["metavar"] = "SECONDS" if path.endswith("_s") else _METAVARS.get(option.kind, word)
            if option.repeated:
                settings["action"] = "append"
            if path in required:
                settings["required"] = True
            parser.add_argument(option.flag, **settings)

    def given(self, options: argparse.Namespace) -> dict[str, Any]:
        """Values of the options that were given, nested like the models. They are not validated yet."""
        values: dict[str, Any] = {}
        for path, option in self._options.items():
            value = getattr(options, self._dest(path), None)
            if value is None:
                continue
            *folders, name = path.split(".")
            inner = values
            for folder in folders:
                inner = inner.setdefault(folder, {})
            inner[name] = None if option.nullable and value in ("none", "null") else value
        return values

    def build(self, model: type[Model], options: argparse.Namespace, /, **values: Any) -> Model:
        """Make the model from `values` and the given options, which take precedence.

        Raises:
            UserError: one line that names the options whose values are invalid.
        """
        try:
            return model.model_validate(values | self.given(options))
        except ValidationError as error:
            raise UserError("; ".join(self._explain(model, problem) for problem in error.errors())) from None

    def _dest(self, path: str) -> str:
        return f"{self._key}:{path}"

    def _help(self, option: _Option) -> str:
        text, default = option.description, option.default
        if self._show_defaults and isinstance(default, (bool, int, float, str)) and default != "":
            shown = {True: "yes", False: "no"}[default] if isinstance(default, bool) else default
            text += f" (default: {shown})"
        if option.repeated:
            text += " (may be repeated)"
        return text.strip().replace("%", "%%")

    def _explain(self, model: type[BaseModel], problem: Any) -> str:
        path = ".".join(str(part) for part in problem["loc"])
        while path and path not in self._options:
            if any(known.startswith(f"{path}.") for known in self._options):
                break
            path = path.rpartition(".")[0]
        where = self._options[path].flag if path in self._options else path
        if problem["type"] == "missing":
            return f"{where}: is required"
        if problem["type"] == "extra_forbidden":
            return f"{where}: {model.__name__} does not have this option"
        message = problem["msg"].removeprefix("Value error, ")
        given = "" if isinstance(problem["input"], (dict, BaseModel)) else f" (got {problem['input']!r:.80})"
        return ": ".join(filter(None, [where, message])) + given


def _fields(model: type[BaseModel], folders: tuple[str, ...]) -> Iterator[tuple[str, FieldInfo, Any, bool, bool]]:
    """Describes each field that can be an option. Gives path, field, type, repeated and nullable."""
    for name, field in model.model_fields.items():
        kind, optional = _without_none(field.annotation)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, (*folders, name))
            continue
        repeated = get_origin(kind) is tuple and len(get_args(kind)) == 2 and get_args(kind)[1] is ...
        if repeated:
            kind, _ = _without_none(get_args(kind)[0])
        if kind in (int, float, str, bool) or get_origin(kind) is Literal:
            yield ".".join((*folders, name)), field, kind, repeated, optional and field.default is not None


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """Return the type without None and markers, and whether it allows None. Several types give None."""
    if get_origin(annotation) is Annotated:
        return _without_none(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation, False
    members = [_without_none(member)[0] for member in get_args(annotation) if member is not types.NoneType]
    return (members[0] if len(members) == 1 else None), types.NoneType in get_args(annotation)
