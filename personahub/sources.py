"""Web texts: the documents that personas are inferred from, out of files or a hub data set.

    texts:
      run: personahub.sources
      config: {path: configs/data/walks_of_life.jsonl}

    texts:
      run: personahub.sources
      config:
        hub: {name: HuggingFaceFW/fineweb, config: sample-10BT, split: train, revision: <commit>}
        limit: 1_000_000
        licence: ODC-By 1.0

Files are JSON Lines (also gzipped), Parquet, or plain text (a file is a document); a folder is read
in the order of its files' names. The input is streamed: memory holds one shard's buffer and 16 bytes
of identity (about 100 in a Python set) for every document seen, against duplicates. An output shard
covers a fixed range of input rows, so a stopped run goes on with the first shard that is missing.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from personahub.core.config import CONTENT_PATH, FrozenModel, StageConfig
from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast
from personahub.core.identity import content_id
from personahub.core.progress import Progress
from personahub.core.records import DOCUMENT, Row
from personahub.core.shards import ShardWriter, shard_name
from personahub.core.stage import Stage
from personahub.documents import RawDocument, count_rows, read_files, read_hub

VERSION = "1"
INPUTS = ()


class HubSource(FrozenModel):
    """A data set on the Hugging Face hub. The revision is its identity, so it names a commit, not a branch."""

    name: str
    revision: str = Field(description="The full commit hash (40 hex digits), from the data set's page.")
    split: str = "train"
    config: str | None = None

    @field_validator("revision")
    @classmethod
    def _is_a_commit(cls, revision: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise ValueError("give the full commit hash (40 hex digits): a branch or tag can move and change the data")
        return revision


class Config(StageConfig):
    """Where the texts are, which column holds them, and what becomes of long and short ones."""

    path: Annotated[str | None, CONTENT_PATH] = Field(default=None, description="A file or a folder of files.")
    pattern: str = Field(default="**/*", description="Which files of a folder to read, such as '*.jsonl.gz'.")
    hub: HubSource | None = None
    text_field: str = "text"
    id_field: str | None = Field(
        default=None, description="A column with the origin's own id; it is appended to `source` as #id."
    )
    kind: str | None = Field(default=None, description="Kind of rows that have no column `kind`.")
    source: str | None = Field(default=None, description="Source of rows that have no column `source`.")
    licence: str | None = Field(default=None, description="Licence of rows that have no column `licence` or `license`.")
    limit: int | None = Field(default=None, gt=0, description="Read this many rows at most.")
    min_chars: int = Field(default=100, ge=1, description="Shorter texts are rejected.")
    max_chars: int = Field(default=6000, ge=100, description="Longer texts are cut at the end of a sentence.")
    rows_per_shard: int = Field(default=10_000, gt=0, description="Input rows that one output shard covers.")

    @model_validator(mode="after")
    def _one_origin(self) -> Config:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give either `path` or `hub`")
        return self


def run(stage: Stage[Config]) -> None:
    """Read, clean and shard the documents.

    Raises:
        UserError: a file is missing, empty or malformed, or no document at all is usable.
    """
    config = stage.config
    seen: set[bytes] = set()
    numbered = enumerate(itertools.islice(read(config), config.limit))
    with stage.progress(config.limit) as progress:
        for index, group in itertools.groupby(numbered, key=lambda pair: pair[0] // config.rows_per_shard):
            raw_documents = (raw for _, raw in group)
            if (stage.path / f"{shard_name(index)}.parquet").exists():
                _skip(raw_documents, config, seen)
            else:
                with stage.writer(shard_name(index), DOCUMENT) as writer:
                    _write_shard(raw_documents, config, seen, writer, progress)
    _require_documents(stage)


def forecast(config: Config, _rows_in: Mapping[str, int]) -> Forecast:
    """As many rows as the files hold, at most `limit`; a hub data set's size is not asked for."""
    if config.path is not None:
        rows = count_rows(Path(config.path), config.pattern)
        return Forecast(rows_out=min(rows, config.limit or rows))
    if config.limit is not None:
        return Forecast(rows_out=config.limit)
    return Forecast(rows_out=0, notes=("the size of the hub data set is not known: set `limit` for a forecast",))


def read(config: Config) -> Iterator[RawDocument]:
    """Raw rows of the configured origin, streamed.

    Raises:
        UserError: see `personahub.documents`.
    """
    if config.hub is not None:
        return read_hub(config.hub.name, config.hub.config, config.hub.split, config.hub.revision)
    return read_files(Path(config.path or ""), config.pattern, config.text_field)


def _write_shard(
    raw_documents: Iterator[RawDocument], config: Config, seen: set[bytes], writer: ShardWriter, progress: Progress
) -> None:
    for raw in raw_documents:
        writer.rows_in += 1
        progress.update(1)
        document = to_document(raw, config)
        try:
            check_document(document, config, seen)
        except Rejected as error:
            writer.reject(document, error)
        else:
            writer.write(document)


def _skip(raw_documents: Iterator[RawDocument], config: Config, seen: set[bytes]) -> None:
    """Pass over the rows of a finished shard, only to know their texts again."""
    for raw in raw_documents:
        with contextlib.suppress(Rejected):
            check_document(to_document(raw, config), config, seen)


def to_document(raw: RawDocument, config: Config) -> Row:
    """One row as a record of the schema DOCUMENT: the text cleaned and cut, its origin's columns kept.

    A text that is not a string is an empty text, of which `check_document` disapproves.

    Raises:
        UserError: the row has no column `text_field`.
    """
    row = raw.row
    if config.text_field not in row:
        raise UserError(
            f"{raw.where}: no field {config.text_field!r}; there are {', '.join(map(repr, row)) or 'none'}. "
            "Name the one that holds the text with `text_field`"
        )
    value = row[config.text_field]
    text = cut_text(clean_text(value), config.max_chars) if isinstance(value, str) else ""
    source = _column(row, "source") or config.source
    if config.id_field is not None:
        source = f"{source or ''}#{_column(row, config.id_field) or ''}"
    return {
        "id": content_id("document", text),
        "text": text,
        "kind": _column(row, "kind") or config.kind,
        "source": source,
        "licence": _column(row, "licence") or _column(row, "license") or config.licence,
    }


def _column(row: Row, name: str) -> str | None:
    value = row.get(name)
    return None if value is None or value == "" else clean_text(str(value))


def check_document(document: Row, config: Config, seen: set[bytes]) -> None:
    """Accept a document and remember it in `seen`.

    Raises:
        Rejected: `no_text`, `too_short`, or `duplicate_document` for one whose text was accepted before.
    """
    characters = len(document["text"])
    if characters == 0:
        raise Rejected("no_text", f"field {config.text_field!r} is empty or not a string")
    if characters < config.min_chars:
        raise Rejected("too_short", f"{characters} characters")
    key = bytes.fromhex(document["id"])
    if key in seen:
        raise Rejected("duplicate_document")
    seen.add(key)


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def clean_text(text: str) -> str:
    """What can be stored and shown: valid Unicode, one kind of line break, no control characters."""
    text = text.encode("utf-8", "replace").decode()  # JSON can spell lone surrogates, UTF-8 cannot
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


_SENTENCE_END = re.compile(r"[.!?…]['\"”’)\]]*(?=\s)|[。！？]|\n")


def cut_text(text: str, max_chars: int) -> str:
    """At most `max_chars` characters, up to the end of a sentence or line, else of a word.

    A border in the first half is not used: one long sentence is better than nearly nothing.
    """
    if len(text) <= max_chars:
        return text
    head = text[: max_chars + 1]  # one more, to see that a word or sentence ends right at the limit
    ends = [match.end() for match in _SENTENCE_END.finditer(head) if max_chars // 2 <= match.end() <= max_chars]
    if ends:
        return head[: ends[-1]].rstrip()
    space = max(head.rfind(" "), head.rfind("\n"))
    return head[: space if space >= max_chars // 2 else max_chars].rstrip()


def _require_documents(stage: Stage[Config]) -> None:
    _, counts, _ = stage.totals()
    if counts.rows_out == 0:
        reasons = ", ".join(f"{reason} {number}" for reason, number in counts.rejected.items())
        raise UserError(
            f"stages.{stage.name}.config: none of the {counts.rows_in} texts is usable ({reasons}); "
            f"see {stage.path / 'rejected'}, then change `text_field` or `min_chars`"
        )
