"""Import published persona collections, with their origin and licence.

    personas:
      run: personahub.released
      config: {release: personahub, path: persona.jsonl}

    personas:
      run: personahub.released
      config: {release: finepersonas, hub: {revision: <commit>}, limit: 1_000_000}

`release` fills in the location of the data set, the names of its columns, and its licence (`RELEASES`). Keys in
the config take precedence, also below `hub` and `columns`. Any other collection can be read by setting `columns`.
All settings are written to the artifact's `stage.json`. Check the licences before you publish what you make from
them: PersonaHub's forbids commercial use, and FinePersonas' passes on Llama's terms.

Persona-to-Persona, quality and dedup read the output like any other personas. Memory grows by about 100 bytes per
persona in order to recognize repeated ones; with `unique: false` it does not, and dedup removes them later.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from personahub.core.config import FrozenModel
from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast
from personahub.core.identity import content_id
from personahub.core.records import PERSONA, Row
from personahub.core.stage import Stage
from personahub.core.texts.rows import SourceRow
from personahub.personas.documents import read_origin
from personahub.personas.importing import PUBLISHED, Imported, OriginConfig, fill_in, forecast_origin, write_in_shards
from personahub.sources import clean_text

VERSION = "2"
INPUTS = ()


class Columns(FrozenModel):
    """The names of a collection's columns."""

    persona: tuple[str, ...] = Field(
        default=("persona",),
        min_length=1,
        description="Columns with personas. A row must have at least one of them.",
    )
    id: str | None = Field(
        default=None, description="Column with the collection's own id, appended to `source` as #id."
    )
    document_id: str | None = Field(
        default=None, description="Column with the id of the text that the persona was inferred from."
    )
    profile: dict[str, str] = Field(
        default={}, description="Column by part of the profile; stored as JSON in the column `profile`."
    )


RELEASES: dict[str, dict[str, Any]] = PUBLISHED["releases"]

ReleaseName = Literal["personahub", "elite_personas", "finepersonas", "nemotron_personas"]


class Config(OriginConfig):
    """The location of the collection and the names of its columns."""

    origins: ClassVar[tuple[str, ...]] = ("path", "hub", "urls")

    release: ReleaseName | None = Field(default=None, description="A known collection; see RELEASES.")
    urls: tuple[str, ...] = Field(default=(), description="https or hf addresses of JSON Lines or Parquet files.")
    columns: Columns = Columns()
    source: str | None = Field(default=None, description="Source of rows without a column `source`.")
    licence: str | None = Field(default=None, description="Licence of rows without a column `licence` or `license`.")
    model: str | None = Field(default=None, description="The model that wrote the personas, if known.")
    machine_generated: bool = Field(default=True, description="Whether a model wrote the personas.")
    max_chars: int = Field(default=4000, gt=0, description="Longer personas are rejected as too_long.")
    unique: bool = Field(default=True, description="Reject repeated personas and ids.")
    rows_per_shard: int = Field(default=50_000, gt=0, description="Input rows that one output shard covers.")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_release(cls, values: Any) -> Any:
        return fill_in(values, "release", RELEASES)


class Seen:
    """Keys of the personas accepted so far. A key has 16 bytes, about 100 bytes in a Python set."""

    def __init__(self) -> None:
        self.personas: set[bytes] = set()
        self.ids: set[bytes] = set()


def run(stage: Stage[Config]) -> None:
    """Read, check and shard the personas.

    Raises:
        UserError: a file is missing, empty or malformed, or has no usable persona.
    """
    config = stage.config
    convert = functools.partial(import_row, config=config, seen=Seen())
    write_in_shards(stage, read(config), convert, PERSONA)
    _, counts, _ = stage.totals()
    if counts.rows_out == 0:
        raise UserError(f"stages.{stage.name}.config: {no_usable_persona(counts.rows_in, counts.rejected)}")


_COLUMN_KEY = "`columns.persona` (`--field` of `personahub personas import`)"


def no_usable_persona(rows: int, rejected: Mapping[str, int]) -> str:
    """Return the error message for a collection without usable personas."""
    reasons = ", ".join(f"{reason} {number}" for reason, number in rejected.items())
    return f"none of the {rows} rows has a usable persona ({reasons}); name the right column with {_COLUMN_KEY}"


def forecast(config: Config, _rows_in: Mapping[str, int]) -> Forecast:
    """Count the rows of the files, up to `limit`. The size of a hub data set is not requested."""
    return forecast_origin(config)


def read(config: Config) -> Iterator[SourceRow]:
    """Stream the raw rows of the configured origin.

    Raises:
        UserError: see `personahub.personas.documents`.
    """
    return read_origin(config.path, config.pattern, config.hub, config.urls, config.columns.persona[0])


def import_row(raw: SourceRow, config: Config, seen: Seen) -> Iterator[Imported]:
    """Yield the personas of a row, with the reason to reject them.

    Reasons are `no_persona`, `too_long`, `duplicate_id` (an earlier row with this id had a usable persona) and
    `duplicate_persona`.

    Raises:
        UserError: the row has none of the columns `columns.persona`.
    """
    columns = [name for name in config.columns.persona if name in raw.row]
    if not columns:
        wanted = " or ".join(map(repr, config.columns.persona))
        fields = ", ".join(map(repr, raw.row)) or "none"
        raise UserError(
            f"{raw.where}: no field {wanted}; its fields are {fields}. Name the persona field with {_COLUMN_KEY}"
        )
    own_id = _value(raw.row, config.columns.id)
    id_key = bytes.fromhex(content_id("id", own_id)) if config.unique and own_id is not None else None
    repeated = id_key in seen.ids
    for name in columns:
        record, error = _record(raw.row, name, own_id, config, with_column=len(columns) > 1)
        if error is None and repeated:
            error = Rejected("duplicate_id", str(own_id))
        if error is None and config.unique and not _add_if_new(seen.personas, content_id("text", record["persona"])):
            error = Rejected("duplicate_persona")
        if error is None and id_key is not None:  # the id of a row without a usable persona may be repeated
            seen.ids.add(id_key)
        yield Imported(record, error)


def _add_if_new(seen: set[bytes], key: str) -> bool:
    """Add the key. Return whether it is new."""
    number = len(seen)
    seen.add(bytes.fromhex(key))
    return len(seen) > number


_KEPT_CHARS = 500  # of a persona that is rejected because it is too long


def _record(row: Row, column: str, own_id: str | None, config: Config, with_column: bool) -> Imported:
    value, error = row[column], None
    persona = clean_text(value) if isinstance(value, str) else ""
    if not persona:
        error = Rejected("no_persona", f"field {column!r} is empty or not a string ({type(value).__name__})")
    elif len(persona) > config.max_chars:
        error = Rejected("too_long", f"{len(persona)} characters, of which the first {_KEPT_CHARS} are kept here")
        persona = persona[:_KEPT_CHARS]
    source = _value(row, "source") or config.source
    if own_id is not None:
        source = f"{source or ''}#{own_id}"
    document_id = _value(row, config.columns.document_id)
    profile = _profile(row, config.columns.profile, column if with_column else None)
    record = {
        "id": content_id("persona", persona, source, document_id, column),
        "persona": persona,
        "document_id": document_id,
        "parent_id": None,
        "relation": None,
        "hop": 0,
        "mode": None,
        "granularity": None,
        "profile": profile,
        "source": source,
        "licence": _value(row, "licence") or _value(row, "license") or config.licence,
        "model": config.model,
        "machine_generated": config.machine_generated,
    }
    return Imported(record, error)


def _value(row: Row, column: str | None) -> str | None:
    """Return a column as text. None if it is missing, blank or the word None (as in ElitePersonas)."""
    value = row.get(column) if column is not None else None
    text = "" if value is None else clean_text(value if isinstance(value, str) else json.dumps(value, default=str))
    return None if text in ("", "None") else text


def _profile(row: Row, columns: Mapping[str, str], column: str | None) -> str | None:
    parts = {part: _value(row, name) for part, name in columns.items()}
    if column is not None:
        parts["column"] = column
    known = {part: value for part, value in parts.items() if value is not None}
    return json.dumps(known, ensure_ascii=False) if known else None
