"""Load existing personas from files or a hub data set, such as Persona Hub's.

    personas:
      run: personahub.load_personas
      config: {path: personas.jsonl}

    personas:
      run: personahub.load_personas
      config:
        hub: {name: proj-persona/PersonaHub, config: persona, split: train, revision: <commit>}
        limit: 100_000
        licence: CC BY-NC-SA 4.0

The same kinds of files as in `personahub.sources` are read. The records are not inferred from a web text, so
`document_id` is null. Repeated personas are rejected. Each output shard covers `rows_per_shard` input rows, and
memory grows by about 100 bytes per persona.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

from pydantic import Field

from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast
from personahub.core.identity import content_id
from personahub.core.records import PERSONA, Row
from personahub.core.stage import Stage
from personahub.core.texts.rows import SourceRow
from personahub.personas.documents import read_origin
from personahub.personas.importing import Imported, OriginConfig, forecast_origin, write_in_shards
from personahub.sources import clean_text

VERSION = "2"
INPUTS = ()


class Config(OriginConfig):
    """Where the personas are and which column holds them."""

    persona_field: str = "persona"
    source: str | None = Field(default=None, description="Origin of the personas, stored in each record.")
    licence: str | None = Field(default=None, description="Licence of the personas, stored in each record.")
    model: str | None = Field(default=None, description="The model that wrote the personas, if any.")
    machine_generated: bool = Field(default=True, description="False for personas that people wrote.")
    min_chars: int = Field(default=5, ge=1, description="Shorter personas are rejected.")
    rows_per_shard: int = Field(default=50_000, gt=0)


def run(stage: Stage[Config]) -> None:
    """Write the personas in their original order.

    Raises:
        UserError: a file is missing, empty or malformed, or has no usable persona.
    """
    config = stage.config
    seen: set[str] = set()
    convert = functools.partial(_import_row, config=config, seen=seen)
    write_in_shards(stage, _read(config), convert, PERSONA)
    if not seen:
        raise UserError(f"stages.{stage.name}.config: no row has a usable persona; check `persona_field`")


def _read(config: Config) -> Iterator[SourceRow]:
    return read_origin(config.path, config.pattern, config.hub, (), config.persona_field)


def _persona(raw: SourceRow, config: Config) -> Row:
    if config.persona_field not in raw.row:
        raise UserError(
            f"{raw.where}: no field {config.persona_field!r}; its fields are {', '.join(map(repr, raw.row)) or 'none'}"
            ". Set `persona_field` to the field that contains the persona"
        )
    value = raw.row[config.persona_field]
    text = " ".join(clean_text(value).split()) if isinstance(value, str) else ""
    return {
        **dict.fromkeys(PERSONA.names),
        "id": content_id("persona", text),
        "persona": text,
        "hop": 0,
        "source": config.source,
        "licence": config.licence,
        "model": config.model,
        "machine_generated": config.machine_generated,
    }


def _import_row(raw: SourceRow, config: Config, seen: set[str]) -> Iterator[Imported]:
    persona, error = _persona(raw, config), None
    if len(persona["persona"]) < config.min_chars:
        error = Rejected("too_short", f"{len(persona['persona'])} characters")
    elif persona["id"] in seen:
        error = Rejected("duplicate_persona")
    else:
        seen.add(persona["id"])
    yield Imported(persona, error)


def forecast(config: Config, _rows_in: Mapping[str, int]) -> Forecast:
    """Count the rows of the files, up to `limit`. The size of a hub data set is not requested."""
    return forecast_origin(config)
