"""Engines by kind. A kind is one of the names below or the dotted path of a user's own module.

An engine module holds `class Config(EngineConfig)` and `open_engine(config: Config) -> Engine`.
Modules are imported only when used, so that the core never loads torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from personahub.core.config import EngineConfig, identity_of, parse_config, suggest
from personahub.core.engines.base import (
    Completion,
    Engine,
    EngineUnavailable,
    Message,
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
    "EngineUnavailable",
    "Message",
    "Request",
    "RequestRefused",
    "Sampling",
    "engine_config",
    "engine_identity",
    "open_engine",
]


def engine_config(values: Mapping[str, Any], where: str) -> EngineConfig:
    """Validate one entry of the YAML's `engines:` section.

    Raises:
        UserError: unknown kind, or keys that its config refuses.
    """
    kind = values.get("kind")
    if not isinstance(kind, str):
        raise UserError(f"{where}.kind: required; one of {', '.join(KINDS)}")
    return parse_config(_module(kind, where).Config, dict(values), where)


def engine_identity(config: EngineConfig) -> dict[str, Any]:
    """What of an engine determines its answers: its config's identity and its module's `VERSION`, if it has one.

    A module whose own code decides what is answered, as the simulated teacher's does, has a `VERSION`.
    """
    version = getattr(_module(config.kind, "engine"), "VERSION", None)
    identity = identity_of(config)
    return identity if version is None else {**identity, "version": version}


def open_engine(config: EngineConfig) -> Engine:
    """Open the engine that `config` describes. Close it with `await engine.close()`.

    Raises:
        EngineUnavailable: the key is missing, or the model or its package is not there.
    """
    replicas = getattr(config, "replicas", 1)
    if replicas > 1:
        from personahub.core.engines.local.replicas import open_replicas

        single = config.model_copy(update={"replicas": 1})
        return open_replicas(single, replicas, getattr(config, "gpus_per_replica", 1))
    return _module(config.kind, "engine").open_engine(config)


def _module(kind: str, where: str) -> Any:
    name = KINDS.get(kind, kind)
    if "." not in name:
        raise UserError(f"{where}.kind: no engine {kind!r}. {suggest(kind, KINDS)}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(f"{where}.kind: no module {name!r}") from None
        raise EngineUnavailable(
            f"{where}.kind: {kind} needs the package {error.name!r}, which is not installed"
        ) from None
