"""The list of deduplication methods, and how a config or a command line names one."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, SerializeAsAny

from personahub.core.config import suggest
from personahub.deduplication.embedding import Embedding
from personahub.deduplication.method import Method
from personahub.deduplication.minhash import MinHash
from personahub.deduplication.surface import Surface

BuiltIn = Surface | MinHash | Embedding
METHODS: dict[str, type[Method]] = {
    get_args(kind.model_fields["method"].annotation)[0]: kind for kind in get_args(BuiltIn)
}


def method_class(name: str) -> type[Method]:
    """Finds the class of a method by its name or dotted path.

    Raises:
        ValueError: there is no such method.
    """
    if name in METHODS:
        return METHODS[name]
    module, _, attribute = name.rpartition(".")
    if not module:
        raise ValueError(f"no method {name!r}. {suggest(name, METHODS)} Or give the dotted path of a class")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"method {name!r} cannot be imported: {error}") from None
    if found is None:
        raise ValueError(f"the module {module} has no class {attribute!r}")
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ValueError(f"{name} is not a subclass of personahub.deduplication.method.Method")  # noqa: TRY004 (pydantic)
    if inspect.isabstract(found):
        raise ValueError(f"{name} does not define {', '.join(sorted(found.__abstractmethods__))}")
    return found


def parse_method(values: Any) -> Any:
    """Replaces a mapping, as in YAML, with the method that it configures."""
    if not isinstance(values, Mapping) or not isinstance(values.get("method"), str):
        return values  # an instance, or a mistake that pydantic explains
    found = method_class(values["method"])
    for key in values:
        if key not in found.model_fields:
            raise ValueError(f"{key}: unknown key. {suggest(key, found.model_fields)}")
    return found.model_validate(values)


AnyMethod = Annotated[BuiltIn | SerializeAsAny[Method], BeforeValidator(parse_method)]
