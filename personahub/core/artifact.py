"""Artifacts: folders of Parquet shards.

A manifest marks a complete one.

runs/<experiment>/<stage>/
    00000.parquet ...      records, one file per shard, written whole or not at all
    rejected/00000.parquet dropped records with their reason
    truth/00000.parquet    what the simulated teacher knows; no stage reads it
    journal/00000.jsonl    completions in the order in which they arrived
    metrics.jsonl          one line per logged step
    stage.json             what the stage was asked to make; written first
    manifest.json          what it made; written last
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from personahub.core.config import FrozenModel
from personahub.core.errors import UserError
from personahub.core.records import Row

MANIFEST = "manifest.json"
_PACKAGE = "persona-hub-harness"
SPEC = "stage.json"
FORMAT = 1  # of the run folder; increased when older folders can no longer be read


class Usage(FrozenModel):
    """Requests, tokens and cost of a stage."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0

    def plus(self, other: Usage) -> Usage:
        """Return the sum of two usages."""
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields})


class Counts(FrozenModel):
    """Numbers of input, output and rejected records. A stage may make several records from one.

    `noted` counts what is not a record, such as the texts that replies had beyond the number asked for.
    """

    rows_in: int = 0
    rows_out: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    noted: dict[str, int] = Field(default_factory=dict)

    def plus(self, other: Counts) -> Counts:
        """Return the sum of two counts."""
        return Counts(
            rows_in=self.rows_in + other.rows_in,
            rows_out=self.rows_out + other.rows_out,
            rejected=_sums(self.rejected, other.rejected),
            noted=_sums(self.noted, other.noted),
        )


def _sums(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in sorted({*first, *second})}


class InputReference(FrozenModel):
    """An upstream artifact, with its fingerprint at the time it was read."""

    path: str
    fingerprint: str


class Source(FrozenModel):
    """The git commit of the harness that made an artifact."""

    commit: str
    dirty: bool  # tracked files differed from the commit

    def __str__(self) -> str:
        return f"{self.commit}{' with uncommitted changes' if self.dirty else ''}"


class Origin(FrozenModel):
    """How an artifact is made: what `stage.json` asks for, and what the manifest repeats."""

    experiment: str
    stage: str
    module: str
    version: str
    fingerprint: str
    config: dict[str, Any]
    identity: dict[str, Any]
    inputs: dict[str, InputReference]
    source: Source | None = None  # None if the harness did not run from a git checkout


class Manifest(Origin):
    """Describes an artifact and how it was made. Contains no API key or other secret."""

    format: int = 1
    shards: dict[Annotated[str, Field(pattern=r"^\w[\w.-]*$")], int]  # rows by shard name
    counts: Counts
    usage: Usage
    summary: dict[str, Any]  # the stage's own results
    seconds: float
    cpu_seconds: float = 0.0  # of all processes of the stage, including child processes that have ended
    peak_bytes: int = 0  # resident memory of the largest of these processes
    created: str  # UTC, ISO 8601
    versions: dict[str, str]
    command: str
    forgotten: int = 0  # rows that `personahub forget` has removed since


@dataclass(frozen=True)
class Artifact:
    """A complete artifact to read from."""

    path: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def fingerprint(self) -> str:
        return self.manifest.fingerprint

    @property
    def num_rows(self) -> int:
        return sum(self.manifest.shards.values())

    @property
    def shard_names(self) -> list[str]:
        return list(self.manifest.shards)

    def read_shard(self, shard: str, columns: Sequence[str] | None = None, batch_rows: int = 1024) -> Iterator[Row]:
        """Yield the rows of one shard as dicts. Memory is bounded by one batch."""
        return read_rows(self.path / f"{shard}.parquet", columns, batch_rows)

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Yield all rows in order. Memory is bounded by one batch."""
        for shard in self.shard_names:
            yield from self.read_shard(shard, columns)

    def table(self, columns: Sequence[str] | None = None, shards: Sequence[str] | None = None) -> pa.Table:
        """Read all rows, or the rows of some shards, into one Arrow table."""
        files = [self.path / f"{shard}.parquet" for shard in (self.shard_names if shards is None else shards)]
        return pa.concat_tables([_read_table(file, columns) for file in files])

    def rejected(self) -> Iterator[Row]:
        """Yield the rejected records with their reasons, in order."""
        return self._rows_in("rejected")

    def truth(self) -> Iterator[Row]:
        """Yield what the simulated teacher knew, for benchmarks. Empty for any other engine."""
        return self._rows_in("truth")

    def _rows_in(self, folder: str) -> Iterator[Row]:
        for file in sorted((self.path / folder).glob("*.parquet")):
            yield from read_rows(file)


def read_rows(file: Path, columns: Sequence[str] | None = None, batch_rows: int = 1024) -> Iterator[Row]:
    """Yield the rows of a Parquet file as dicts.

    Raises:
        UserError: the file is missing or is not a Parquet file.
    """
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            for batch in parquet.iter_batches(batch_size=batch_rows, columns=list(columns) if columns else None):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # Arrow reports some damage as OSError
        raise _unreadable(file, error) from None


def _read_table(file: Path, columns: Sequence[str] | None) -> pa.Table:
    try:
        return pq.read_table(file, columns=list(columns) if columns else None, page_checksum_verification=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # Arrow reports some damage as OSError
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> UserError:
    stage = file.parent.parent.name if file.parent.name in ("rejected", "truth") else file.parent.name
    missing = isinstance(error, FileNotFoundError)
    what = "the manifest lists this shard, but it is missing" if missing else f"not a readable Parquet file ({error})"
    return UserError(f"{file}: {what}; rebuild it with run --redo {stage}")


def open_artifact(path: str | Path) -> Artifact:
    """Open a complete artifact.

    Raises:
        UserError: there is no artifact, it is incomplete, or its manifest is damaged.
    """
    path = Path(path)
    manifest = read_manifest(path)
    if manifest is None:
        if (path / SPEC).exists() or any(path.glob("[0-9]*.parquet")):
            raise UserError(f"{path}: half-written (it has no manifest yet): run its experiment again to finish it")
        what = f"not an artifact: it has no {MANIFEST}" if path.is_dir() else "no such artifact"
        raise UserError(f"{path}: {what}{_artifacts_below(path)}")
    return Artifact(path, manifest)


def _artifacts_below(path: Path) -> str:
    """Return a hint for a user who named a run's folder instead of a stage's folder."""
    names = sorted(file.parent.name for file in path.glob(f"*/{MANIFEST}"))
    return f". It contains {', '.join(names)}: name one of them, such as {path / names[0]}" if names else ""


def read_manifest(path: Path) -> Manifest | None:
    """Read the manifest of the artifact at `path`. Return None if there is none.

    Raises:
        UserError: the manifest is damaged, or was written by an incompatible version of this package.
    """
    file = path / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:  # not JSON, or not even UTF-8
        raise UserError(f"{file}: damaged manifest ({error}); rebuild it with run --redo {path.name}") from None
    try:
        if isinstance(content, dict) and content.get("format", 1) != FORMAT:
            raise UserError(_other_version(path, content, f"its format is {content['format']}, expected {FORMAT}"))
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}"
        raise UserError(_other_version(path, content, what)) from None


def _other_version(path: Path, content: Any, what: str) -> str:
    versions = content.get("versions") if isinstance(content, dict) else None
    made_by = versions.get(_PACKAGE) if isinstance(versions, dict) else None
    return (
        f"{path / MANIFEST}: not a manifest of this version ({what}). Use the version of {_PACKAGE} that made it"
        f"{f', {made_by}' if made_by else ''}; or keep it and choose another name (experiment=NAME); "
        f"or replace it with run --redo {path.name}"
    )
