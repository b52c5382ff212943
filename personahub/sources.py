"""Read web texts, from which personas are inferred, from files or a hub data set.

    texts:
      run: personahub.sources
      config: {path: configs/data/walks_of_life.jsonl}

    texts:
      run: personahub.sources
      config: {corpus: fineweb, hub: {config: sample-10BT, revision: <commit>}, limit: 1_000_000}

    texts:
      run: personahub.sources
      config: {corpus: redpajama_v2, redpajama: {snapshot: 2023-14, partition: head}, limit: 1_000_000}

Files are JSON Lines (also gzipped), Parquet, plain text or HTML. A text or HTML file is one document, and only
the main text of an HTML page is kept. The files of a folder are read in the order of their names. `corpus` names
a well-known data set and fills in the names of its columns, its source and its licence. Keys in the config take
precedence, and all settings are written to the artifact's `stage.json`.

The input is streamed. Memory holds one shard's buffer and, to find duplicates, a 16-byte key per document (about
100 bytes in a Python set). An output shard covers a fixed range of input rows, so a stopped run continues with the
first missing shard.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from personahub.core.config import FrozenModel
from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast, Work
from personahub.core.identity import content_id
from personahub.core.records import DOCUMENT, Row
from personahub.core.stage import Stage
from personahub.core.texts.rows import SourceRow
from personahub.personas.documents import (
    extract_pages,
    read_origin,
)
from personahub.personas.importing import PUBLISHED, Imported, OriginConfig, fill_in, forecast_origin, write_in_shards

VERSION = "3"
INPUTS = ()
WORK = Work(cpu_seconds=0.00025, disk_bytes=720, measured_by="benchmarks.million")


class RedPajamaSource(FrozenModel):
    """Shards of RedPajama v2 (release v1.0.0) on its publisher's server.

    Its hub data set is a script that downloads these files, and `datasets` no longer runs scripts.
    """

    snapshot: str = Field(pattern=r"^\d{4}-\d{2}$", description="Common Crawl snapshot, such as 2023-14.")
    language: Literal["en", "de", "fr", "es", "it"] = "en"
    partition: Literal["head", "middle", "tail"] = Field(
        default="head", description="Third by perplexity under a language model of Wikipedia; `head` is the lowest."
    )
    first_shard: int = Field(default=0, ge=0, le=4999)
    shards: int = Field(
        default=1,
        ge=1,
        le=5000,
        description="Number of shards, of 5,000 per snapshot with about 10,000 to 20,000 rows each.",
    )

    def urls(self) -> list[str]:
        """Return the URLs of the shards, in order."""
        numbers = range(self.first_shard, min(self.first_shard + self.shards, 5000))
        file = f"{self.language}_{self.partition}.json.gz"
        return [f"{_REDPAJAMA}/{self.snapshot}/{number:04d}/{file}" for number in numbers]


_REDPAJAMA = "https://data.together.xyz/redpajama-data-v2/v1.0.0/documents"

CORPORA: dict[str, dict[str, Any]] = PUBLISHED["corpora"]


class Config(OriginConfig):
    """The location and columns of the texts, and the limits of their length."""

    origins: ClassVar[tuple[str, ...]] = ("path", "hub", "redpajama", "urls")

    corpus: Literal["c4", "fineweb", "redpajama_v2"] | None = Field(
        default=None, description="Fills in the columns, source and licence of this data set; see CORPORA."
    )
    redpajama: RedPajamaSource | None = None
    urls: tuple[str, ...] = Field(
        default=(),
        description="https URLs of JSON Lines or Parquet files. The fingerprint covers the URL, not the content, so it "
        "should include a version.",
    )
    text_is_html: bool = Field(
        default=False, description="The column `text_field` contains HTML pages. Only their main text is kept."
    )
    text_field: str = "text"
    id_field: str | None = Field(
        default=None, description="Column with the origin's own id, appended to `source` as #id."
    )
    kind: str | None = Field(default=None, description="Kind of rows without a column `kind`.")
    source: str | None = Field(default=None, description="Source of rows without a column `source`.")
    licence: str | None = Field(default=None, description="Licence of rows without a column `licence` or `license`.")
    min_chars: int = Field(default=100, ge=1, description="Shorter texts are rejected.")
    max_chars: int = Field(default=6000, ge=100, description="Longer texts are cut at the end of a sentence.")
    rows_per_shard: int = Field(default=10_000, gt=0, description="Input rows that one output shard covers.")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_corpus(cls, values: Any) -> Any:
        return fill_in(values, "corpus", CORPORA)


def run(stage: Stage[Config]) -> None:
    """Read, clean and shard the documents.

    Raises:
        UserError: a file is missing, empty or malformed, or no document is usable.
    """
    config = stage.config
    convert = functools.partial(_import_row, config=config, seen=set())
    write_in_shards(stage, read(config), convert, DOCUMENT)
    _require_documents(stage)


def forecast(config: Config, _rows_in: Mapping[str, int]) -> Forecast:
    """Count the rows of the files, up to `limit`. The size of a hub data set is not requested."""
    return forecast_origin(config)


def read(config: Config) -> Iterator[SourceRow]:
    """Stream the raw rows of the configured origin.

    Raises:
        UserError: see `personahub.personas.documents`.
    """
    urls = config.urls if config.redpajama is None else config.redpajama.urls()
    rows = read_origin(config.path, config.pattern, config.hub, urls, config.text_field)
    return extract_pages(rows, config.text_field) if config.text_is_html else rows


def _import_row(raw: SourceRow, config: Config, seen: set[bytes]) -> Iterator[Imported]:
    document, error = to_document(raw, config), None
    try:
        check_document(document, config, seen)
    except Rejected as rejected:
        error = rejected
    yield Imported(document, error)


def to_document(raw: SourceRow, config: Config) -> Row:
    """Convert a row to a record of the schema DOCUMENT, with its text cleaned and cut.

    A text that is not a string becomes an empty text, which `check_document` rejects.

    Raises:
        UserError: the row has no column `text_field`.
    """
    row = raw.row
    if config.text_field not in row:
        raise UserError(
            f"{raw.where}: no field {config.text_field!r}; its fields are {', '.join(map(repr, row)) or 'none'}. "
            "Set `text_field` to the field that contains the text"
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
        Rejected: `no_text`, `too_short`, or `duplicate_document` if the same text was accepted before.
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
    """Normalize a text to valid Unicode, one kind of line break, no controls."""
    text = text.encode("utf-8", "replace").decode()  # JSON can represent lone surrogates, UTF-8 cannot
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


_SENTENCE_END = re.compile(r"(?<=[.!?…])['\"”’»)\]]*(?=\s)|(?<=[。！？])|\n")
# A full stop after one of these, or after a single capital, does not end a sentence.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Col|Sen|Rep|Rev|Hon|No|Nos|Vol|Fig|Figs|Eq|Eqs|Sec|Ref|Refs"
    r"|pp?|vs|cf|ca|al|e\.g|i\.e|approx|Inc|Ltd|Co|[A-Z]\.[A-Z])\.$"
)


def cut_text(text: str, max_chars: int) -> str:
    """Cut a text to `max_chars` at the end of a sentence or line, or else of a word.

    An end in the first half is not used, because part of a long sentence is better than almost no text.
    """
    if len(text) <= max_chars:
        return text
    head = text[: max_chars + 1]  # one more, to see whether a word or sentence ends exactly at the limit
    ends = [match.end() for match in _SENTENCE_END.finditer(head) if max_chars // 2 <= match.end() <= max_chars]
    for end in reversed(ends):
        if _ends_sentence(head, end):
            return head[:end].rstrip()
    space = max(head.rfind(" "), head.rfind("\n"))
    return head[: space if space >= max_chars // 2 else max_chars].rstrip()


def _ends_sentence(head: str, end: int) -> bool:
    """Return whether the mark before `end` ends a sentence. Not after abbreviations or before lower case."""
    following = head[end:].lstrip()[:1]
    return not following.islower() and not _ABBREVIATION.search(head[max(0, end - 12) : end])


def _require_documents(stage: Stage[Config]) -> None:
    _, counts, _ = stage.totals()
    if counts.rows_out == 0:
        reasons = ", ".join(f"{reason} {number}" for reason, number in counts.rejected.items())
        raise UserError(
            f"stages.{stage.name}.config: none of the {counts.rows_in} texts is usable ({reasons}); "
            f"see {stage.path / 'rejected'}, then change `text_field` or `min_chars`"
        )
