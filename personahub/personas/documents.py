"""Streams text collections from files, URLs and data sets on the Hugging Face hub.

Each row comes with its place for error messages (`personahub.core.texts.rows`). A malformed row is an error that
the user must fix, so reading stops. Rows that are well formed but unsuitable (too short, duplicates, pages without
text) are rejected later, by `personahub.sources` and `personahub.released`.

JSON Lines and Parquet files are read the same way from a disk, from `https://` and from the hub's file system
(`hf://datasets/OWNER/NAME@COMMIT/...`), so a data set needs no loading script.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator

from personahub.core.artifact import MANIFEST, SPEC, open_artifact
from personahub.core.config import FrozenModel
from personahub.core.errors import UserError
from personahub.core.records import Row
from personahub.core.texts.rows import (
    EVERY_FILE,
    ROW_SUFFIXES,
    SourceRow,
    find_files,
    one_line,
    open_file,
    open_parquet,
    read_lines,
    read_open_rows,
    read_rows,
)
from personahub.personas.pages import read_page

TEXT_SUFFIXES = (".txt", ".html", ".htm")  # one document per file
SUFFIXES = (*ROW_SUFFIXES, *TEXT_SUFFIXES)


def _check_pattern(pattern: str) -> str:
    try:
        next(Path(os.devnull).glob(pattern), None)  # nothing to find here, so only the pattern can fail
    except (ValueError, NotImplementedError, IndexError):
        raise ValueError(f"not a pattern for files below a folder; use one such as {EVERY_FILE!r}") from None
    return pattern


FilePattern = Annotated[str, AfterValidator(_check_pattern)]  # a glob below a folder


class HubSource(FrozenModel):
    """A data set on the Hugging Face hub. The revision is its identity, so it must be a commit, not a branch."""

    name: str
    revision: str = Field(description="The full commit hash (40 hex digits), from the data set's page.")
    split: str = "train"
    config: str | None = None
    files: FilePattern | None = Field(
        default=None,
        description="Read the files that match this pattern, such as 'ElitePersonas/*.jsonl', instead of a split. "
        "For files that belong to no configuration, and for data sets with a loading script.",
    )

    @field_validator("revision")
    @classmethod
    def _is_a_commit(cls, revision: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise ValueError("give the full commit hash (40 hex digits): a branch or tag can move and change the data")
        return revision


def read_origin(
    path: str | None, pattern: str, hub: HubSource | None, urls: Sequence[str], text_field: str
) -> Iterator[SourceRow]:
    """Streams the rows of whichever origin is given.

    Raises:
        UserError: see `read_files`, `read_urls`, `read_hub_files` and `read_hub`.
    """
    if hub is not None and hub.files is not None:
        return read_hub_files(hub.name, hub.revision, hub.files)
    if hub is not None:
        return read_hub(hub.name, hub.config, hub.split, hub.revision)
    return read_urls(urls) if urls else read_files(Path(path or ""), pattern, text_field)


def read_files(path: Path, pattern: str, text_field: str, suffixes: Sequence[str] = SUFFIXES) -> Iterator[SourceRow]:
    """Streams the rows of a file, or of matching files in a folder sorted by name.

    Args:
        path: a file or folder.
        pattern: a glob below the folder.
        text_field: the key for the content of a text or HTML file.
        suffixes: file types to read; other files in a folder are skipped.

    Raises:
        UserError: there is nothing to read, or a file is empty, damaged, malformed or unreadable.
    """
    for file in list_files(path, pattern, suffixes):
        yield from _require_rows(_read_file(file, text_field), str(file))


def read_urls(urls: Sequence[str]) -> Iterator[SourceRow]:
    """Streams rows of JSON Lines and Parquet files at URLs, in order.

    Takes `https://` and `hf://`.

    Raises:
        UserError: a URL cannot be read, or its file is empty, damaged or malformed.
    """
    import fsspec

    for url in urls:
        if not url.endswith(ROW_SUFFIXES):
            raise UserError(f"{url}: unknown file type; supported: {', '.join(ROW_SUFFIXES)}")
        try:
            opened: Any = fsspec.open(url, "rb")
            with opened as file:
                yield from _require_rows(read_open_rows(file, url), url)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001  (fsspec passes on any exception of its HTTP libraries)
            raise UserError(f"{url}: cannot be read: {one_line(error.__cause__ or error)}") from None


def read_hub_files(name: str, revision: str, pattern: str) -> Iterator[SourceRow]:
    """Streams the rows of a hub data set's files that match `pattern`, by name.

    For data sets with a loading script, which `datasets` no longer runs, and for files that belong to no
    configuration.

    Args:
        name: the data set, or a local folder with the same layout.
        revision: the commit.
        pattern: a glob below the data set's root, such as `ElitePersonas/*.jsonl`.

    Raises:
        UserError: nothing matches, the hub cannot be reached, or a file is empty, damaged or malformed.
    """
    if Path(name).is_dir():
        yield from read_files(Path(name), pattern, "")
        return
    from huggingface_hub import HfFileSystem

    where = f"{name} ({pattern}, {revision[:8]})"
    try:
        files = sorted(str(file) for file in HfFileSystem().glob(f"datasets/{name}@{revision}/{pattern}"))
    except Exception as error:  # noqa: BLE001  (as above)
        raise UserError(f"{where}: cannot be read: {one_line(error)}") from None
    if not files:
        raise UserError(f"{where}: no file matches; see the Files tab of the data set's page")
    yield from read_urls([f"hf://{file}" for file in files])


def read_hub(name: str, config: str | None, split: str, revision: str) -> Iterator[SourceRow]:
    """Streams the rows of a hub data set, or of a local folder with the same layout.

    Raises:
        UserError: the data set, configuration, split or revision does not exist, or the hub cannot be reached.
    """
    import datasets

    number = 0
    try:
        stream = datasets.load_dataset(name, config, split=split, revision=revision, streaming=True)
        for number, row in enumerate(stream, 1):
            yield SourceRow(f"{name}, row {number}", dict(row))
    except Exception as error:  # noqa: BLE001  (as above; a loading script is a RuntimeError)
        hint = "; it has a loading script: read its files with `hub.files`" if "script" in str(error) else ""
        raise UserError(
            f"{name} ({split}, {revision[:8]}): cannot be read after row {number}: {one_line(error)}{hint}"
        ) from None
    if number == 0:
        raise UserError(f"{name} ({split}): there are no rows")


def list_files(path: Path, pattern: str, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """Lists the files that `read_files` reads: see `find_files`.

    Of a stage's folder, lists its finished shards.

    Raises:
        UserError: the path does not exist, no file matches, a file type is unknown, or a stage is incomplete.
    """
    if pattern == EVERY_FILE and is_artifact(path):
        return [path / f"{shard}.parquet" for shard in open_artifact(path).shard_names]
    return find_files(path, pattern, suffixes)


def is_artifact(path: Path) -> bool:
    """Returns whether the folder belongs to a stage, complete or not."""
    return (path / MANIFEST).is_file() or (path / SPEC).is_file()


def count_rows(path: Path, pattern: str) -> int:
    """Counts the rows that `read_files` will yield.

    Exact for Parquet, non-blank lines for JSON Lines.

    Raises:
        UserError: see `list_files`; a file is damaged.
    """
    return sum(_count_file(file) for file in list_files(path, pattern))


def _count_file(file: Path) -> int:
    if file.name.endswith(TEXT_SUFFIXES):
        return 1
    if file.suffix == ".parquet":
        return open_parquet(file, str(file)).metadata.num_rows
    return sum(1 for _ in read_lines(file))


def _read_file(file: Path, text_field: str) -> Iterator[SourceRow]:
    if not file.name.endswith(TEXT_SUFFIXES):
        yield from read_rows(file)
        return
    with open_file(file) as stream:
        content = stream.read()
    if file.suffix != ".txt":
        yield SourceRow(str(file), {"source": file.name, **_page_columns(content, text_field)})
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8: {error.reason} at byte {error.start}") from None
    if text.strip():
        yield SourceRow(str(file), {text_field: text, "source": file.name})


def _require_rows(rows: Iterator[SourceRow], name: str) -> Iterator[SourceRow]:
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise UserError(f"{name}: there are no rows; remove the file or name another one")


def _page_columns(html: bytes | str, text_field: str) -> Row:
    """Returns the columns that a page provides. What it does not declare comes from the row or the config."""
    page = read_page(html)
    declared = {"source": page.address, "licence": page.licence}
    return {text_field: page.text, **{name: value for name, value in declared.items() if value}}


def extract_pages(rows: Iterator[SourceRow], text_field: str) -> Iterator[SourceRow]:
    """Replaces the HTML in column `text_field` with the main text of the page."""
    for where, row in rows:
        html = row.get(text_field)
        filled = {name: value for name, value in row.items() if value not in (None, "")}
        page = _page_columns(html, text_field) if isinstance(html, (str, bytes)) else {}
        yield SourceRow(where, {**page, **filled, text_field: page[text_field]} if page else row)
