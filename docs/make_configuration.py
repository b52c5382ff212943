"""Write docs/configuration.md from the pydantic models: `python docs/make_configuration.py`.

Every stage and engine is imported, so the page always matches the code. A test compares it with the file in the
repository.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from personahub.core.config import EXECUTION, StageConfig
from personahub.core.engines import KINDS
from personahub.core.stage import Execution
from personahub.core.tracking.tracker import TrackingConfig

PAGE = Path(__file__).with_name("configuration.md")
PACKAGES = ("personahub", "synth", "train", "eval")
HEAD = """# Configuration

Every key of every stage and engine, generated from the code by `python docs/make_configuration.py`. An unknown key is an error that suggests the nearest known key. Keys marked *execution* set where and how fast a stage runs, not what it computes. They are not part of a fingerprint and may change between two runs of the same stage.

```yaml
extends: other.yaml            # optional; mappings merge key by key
experiment: my_run             # the folder below runs/
seed: 0                        # for every stage that does not set its own
engines:
  teacher: {kind: openai, model: MODEL, ...}          # the keys of the kind, below
stages:
  problems:
    run: synth.problems        # the module, and so the file to open
    inputs: {personas: personas}
    config: {engine: teacher, ...}                    # the keys of the stage, below
    execution: {executor: process, workers: 4}
tracking: {wandb: offline}
```

On the command line, override any key, as in `stages.problems.config.seed=1`.
"""


def stage_modules() -> Iterator[Any]:
    """Yield every stage module of this project, by name."""
    for package in PACKAGES:
        folder = importlib.import_module(package).__path__
        for found in sorted(pkgutil.iter_modules(folder, package + "."), key=lambda module: module.name):
            if found.ispkg or found.name.endswith("__main__"):
                continue
            module = importlib.import_module(found.name)
            config = getattr(module, "Config", None)
            if hasattr(module, "run") and isinstance(config, type) and issubclass(config, StageConfig):
                yield module


def page() -> str:
    """Return the whole page as Markdown."""
    parts = [HEAD, "## Execution and tracking\n", _table("execution", Execution), _table("tracking", TrackingConfig)]
    parts.append("## Stages\n")
    for module in stage_modules():
        inputs = ", ".join(f"`{name}`" for name in module.INPUTS) or "none"
        parts.append(f"### {module.__name__}\n\n{_first_sentence(module)}\n\nInputs: {inputs}.\n")
        parts.extend(_tables("config", module.Config))
    parts.append("## Engines\n")
    for kind, name in KINDS.items():
        module = importlib.import_module(name)
        parts.append(f"### {kind}\n\n{_first_sentence(module)}\n")
        parts.extend(_tables(f"engines.{kind}", module.Config))
    return "\n".join(parts)


def _first_sentence(module: Any) -> str:
    paragraph = (module.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(paragraph.split())


def _tables(title: str, model: type[BaseModel]) -> Iterator[str]:
    """Yield the table of a model, then those of the models inside it, each once."""
    waiting, seen = [(title, model)], set()
    while waiting:
        name, current = waiting.pop(0)
        if current in seen:
            continue
        seen.add(current)
        yield _table(name, current)
        for key, field in current.model_fields.items():
            waiting.extend((f"{name}.{key}", inner) for inner in _models(field.annotation))


def _table(title: str, model: type[BaseModel]) -> str:
    lines = [f"**{title}** (`{model.__name__}`)\n", "| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        meaning = _cell(field.description or "")
        if EXECUTION in field.metadata:
            meaning = f"*execution.* {meaning}".strip()
        lines.append(f"| `{name}` | {_cell(_type(field.annotation))} | {_default(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(field: Any) -> str:
    if field.default is PydanticUndefined and field.default_factory is None:
        return "*required*"
    value = field.default_factory() if field.default_factory is not None else field.default
    if isinstance(value, BaseModel) or (isinstance(value, tuple) and any(isinstance(v, BaseModel) for v in value)):
        return "see below"
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    text = str(list(value)) if isinstance(value, tuple) else repr(value) if value == "" else str(value)
    return f"`{_cell(text.replace(f'{PAGE.parents[1]}/', ''))}`"  # independent of where the checkout is


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(str(value) for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _type(part) for part in get_args(annotation))
    if origin in (tuple, list):
        return f"list of {_type(get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type):
        names = {str: "text", int: "integer", float: "number", bool: "true or false"}
        return names.get(annotation, annotation.__name__)
    return re.sub(r"\btyping\.", "", str(annotation))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        if part is not Ellipsis:
            yield from _models(part)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
