"""Engines by kind.

A kind is one of the names below or the dotted path of your own module. See `personahub.core.engines.base` for what
such a module contains. Modules are imported only when used, so that the core never loads torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any, Protocol, cast

from personahub.core.config import identity_of, parse_config, suggest
from personahub.core.engines.base import (
    Completion,
    Engine,
    EngineConfig,
    EngineUnavailable,
    Message,
    PricedConfig,
    ReplicatedConfig,
    Request,
    RequestRefused,
    Sampling,
)
from personahub.core.errors import UserError

KINDS = {
    "openai": "personahub.core.engines.remote.chat",
    "openai_batch": "personahub.core.engines.remote.batch",
    "vllm": "personahub.core.engines.local.vllm",
    "transformers": "personahub.core.engines.local.transformers",
    "simulated": "synth.simulated.engine",
}

__all__ = [
    "KINDS",
    "Completion",
    "Engine",
    "EngineConfig",
    "EngineUnavailable",
    "Message",
    "PricedConfig",
    "ReplicatedConfig",
    "Request",
    "RequestRefused",
    "Sampling",
    "engine_config",
    "engine_identity",
    "open_engine",
]


class EngineModule(Protocol):
    """What an engine's module defines."""

    Config: type[EngineConfig]

    def open_engine(self, config: Any) -> Engine[Any]: ...


def engine_config(values: Mapping[str, Any], where: str) -> EngineConfig:
    """Validate one entry of the YAML's `engines:` section.

    Raises:
        UserError: the kind is unknown, or its config rejects the keys.
    """
    kind = values.get("kind")
    if not isinstance(kind, str):
        raise UserError(f"{where}.kind: required; one of {', '.join(KINDS)}")
    return parse_config(_engine_module(kind, where).Config, dict(values), where)


def engine_identity(config: EngineConfig) -> dict[str, Any]:
    """Return what determines an engine's answers: its config and `VERSION`, if any."""
    identity = identity_of(config)
    return identity if config.VERSION is None else {**identity, "version": config.VERSION}


def open_engine(config: EngineConfig) -> Engine[Any]:
    """Open the engine that `config` describes. Close it with `await engine.close()`.

    Raises:
        EngineUnavailable: the key is missing, or the model or a required package is not installed.
    """
    if isinstance(config, ReplicatedConfig) and config.replicas > 1:
        from personahub.core.engines.local.replicas import open_replicas

        return open_replicas(config)
    engine = _engine_module(config.kind, "engine").open_engine(config)
    if not isinstance(engine, Engine):
        raise UserError(f"{config.kind}: open_engine returned {type(engine).__name__}, not a subclass of Engine")
    return engine


def _engine_module(kind: str, where: str) -> EngineModule:
    name = KINDS.get(kind, kind)
    if "." not in name and not (name.isidentifier() and importlib.util.find_spec(name)):
        raise UserError(
            f"{where}.kind: no engine {kind!r}. {suggest(kind, KINDS)} Or give the dotted path of your own module"
        )
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"{where}.kind: no module {name!r}; give the dotted path of a file, from the folder you run in"
            ) from None
        raise EngineUnavailable(
            f"{where}.kind: {kind} needs the package {error.name!r}, which is not installed"
        ) from None
    model = vars(module).get("Config")
    if not (isinstance(model, type) and issubclass(model, EngineConfig) and "open_engine" in vars(module)):
        raise UserError(f"{where}.kind: {name} must define `class Config(EngineConfig)` and `open_engine(config)`")
    return cast("EngineModule", module)
