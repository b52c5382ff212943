"""Load the YAML of an experiment, with `extends` and `key=value` overrides.

Precedence, lowest first: defaults in the models (`config`), the files named by `extends`, the YAML itself,
the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from personahub.core.config import suggest
from personahub.core.errors import UserError

_KIND_OVERRIDE = re.compile(r"engines\.[^.=]+\.kind=")


def load_yaml(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Load a YAML file, merge it over the file it `extends`, and apply overrides.

    They have the form `a.b.c=value`. Mappings are merged key by key; other values are replaced. The value of an
    override is parsed as YAML, as in `steps=300`, `stop=[a, b]` and `name=null`.

    Raises:
        UserError: a file is missing, the YAML is malformed (with its line), a key is duplicated, `extends` is
            circular, or an override is malformed or names an unknown stage or engine.
    """
    values = _load_extended(Path(path), ())
    known = {section: set(_section(values, section)) for section in ("stages", "engines")}
    # An engine's new kind comes first: it clears the keys of the old kind, and other overrides add to it.
    for override in sorted(overrides, key=lambda word: not _KIND_OVERRIDE.match(word)):
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise UserError(
                f"{override!r}: an override must have the form key=value, such as stages.sft.config.max_steps=10"
            )
        try:
            value = _parse_yaml(text)
        except yaml.YAMLError as error:
            raise UserError(f"{override!r}: the value is not valid YAML: {_one_line(error)}") from None
        if _KIND_OVERRIDE.match(override):
            _clear_old_kind(_section(values, "engines").get(key.split(".")[1]), value)
        _set_nested(values, key.split("."), value, override)
    _reject_unknown_names(values, known)
    return values


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _reject_unknown_names(values: Mapping[str, Any], known: Mapping[str, set[str]]) -> None:
    """Reject a misspelled name in an override. It would add a stage that runs nothing or an unused engine."""
    stages = _section(values, "stages")
    for name in stages.keys() - known["stages"]:
        if not isinstance(stages[name], dict) or not {"run", "adopt"} & stages[name].keys():
            raise UserError(f"stages.{name}: no stage {name!r} in this experiment. {suggest(name, known['stages'])}")
    used = set(_texts(stages))
    for name in _section(values, "engines").keys() - known["engines"]:
        if known["engines"] and name not in used:
            raise UserError(f"engines.{name}: no stage uses the engine {name!r}. {suggest(name, known['engines'])}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for below in value.values() if isinstance(value, dict) else value:
            yield from _texts(below)


def _clear_old_kind(engine: Any, kind: Any) -> None:
    """Remove the keys of an engine's old kind. Two kinds of one endpoint share all keys except the concurrency."""
    if not isinstance(engine, dict) or engine.get("kind") == kind:
        return
    if {engine.get("kind"), kind} == {"openai", "openai_batch"}:
        engine.pop("concurrency", None)
    else:
        engine.clear()


def _load_extended(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UserError(f"{path}: `extends` is circular: {' -> '.join(p.name for p in (*seen, path))}")
    values = _read_yaml(path)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise UserError(f"{path}: `extends` must name one file, relative to this one (got {base!r})")
    return merge(_load_extended(path.parent / base, (*seen, path.resolve())), values)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = _parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {_one_line(error)}") from None
    if not isinstance(values, dict):
        got = "nothing" if values is None else type(values).__name__
        raise UserError(f"{path}: the file must be a mapping with keys and values (got {got})")
    return values


class _Loader(yaml.SafeLoader):
    """A YAML loader that rejects duplicate keys. PyYAML would use the last one."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value if node else ():
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node


def _parse_yaml(text: str) -> Any:
    loader = _Loader(text)
    try:
        values = loader.get_single_data()
        _reject_circular_aliases(values, [], set())
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="it is nested too deeply") from None
    finally:
        loader.dispose()
    return values


def _reject_circular_aliases(value: Any, above: list[int], done: set[int]) -> None:
    if not isinstance(value, (dict, list)) or id(value) in done:
        return
    if id(value) in above:
        raise yaml.MarkedYAMLError(problem="an alias (*name) contains itself")
    for below in value.values() if isinstance(value, dict) else value:
        _reject_circular_aliases(below, [*above, id(value)], done)
    done.add(id(value))


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return where + str(getattr(error, "problem", None) or error).replace("\n", " ")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base`. Mappings are merged, other values are replaced, and `null` removes a key."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def _set_nested(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        child = values.setdefault(key, {})
        if not isinstance(child, dict):
            raise UserError(f"{override!r}: {key!r} is not a mapping, so it has no keys to set")
        values = child
    values[keys[-1]] = value
