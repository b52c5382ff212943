"""Rows of text collections as they are: files here or behind a URL, and data sets on the hub, streamed.

A row comes with `where`, the words by which an error message names it. What is malformed is the
user's to mend and stops the reading; what is merely unfit (too short, a duplicate, a page without
text) is judged later, by `personahub.sources` and `personahub.released`.

JSON Lines and Parquet are read the same way from a disk, from `https://` and from the hub's file
system (`hf://datasets/OWNER/NAME@COMMIT/...`), so a data set needs no loading script to be read.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, Field, field_validator

from personahub.core.artifact import MANIFEST, SPEC, open_artifact
from personahub.core.config import FrozenModel
from personahub.core.errors import UserError
from personahub.core.records import Row
from personahub.personas.pages import read_page

ROW_SUFFIXES = (".jsonl", ".jsonl.gz", ".json.gz", ".parquet")  # .json.gz: how RedPajama names its JSON Lines
TEXT_SUFFIXES = (".txt", ".html", ".htm")  # a file is a document
SUFFIXES = (*ROW_SUFFIXES, *TEXT_SUFFIXES)
LEFT_OUT_SUFFIXES = (".dropped.jsonl", ".rejected.jsonl")  # what dedup and import took out, written beside the rest
_BATCH_ROWS = 256  # rows of a Parquet file in memory at a time; web texts can be large


EVERY_FILE = "**/*"


def _globs(pattern: str) -> str:
    try:
        next(Path(os.devnull).glob(pattern), None)  # where nothing is: only the pattern can be at fault
    except (ValueError, NotImplementedError, IndexError):
        raise ValueError(f"no pattern of files below a folder; name one such as {EVERY_FILE!r}") from None
    return pattern


FilePattern = Annotated[str, AfterValidator(_globs)]  # a glob below a folder


class RawDocument(NamedTuple):
    """One row and where it was read, as in `texts.jsonl:17`."""

    where: str
    row: Row


class HubSource(FrozenModel):
    """A data set on the Hugging Face hub. The revision is its identity, so it names a commit, not a branch."""

    name: str
    revision: str = Field(description="The full commit hash (40 hex digits), from the data set's page.")
    split: str = "train"
    config: str | None = None
    files: FilePattern | None = Field(
        default=None,
        description="Read the files that match this pattern, such as 'ElitePersonas/*.jsonl', instead of a split: "
        "for files that belong to no configuration, and for data sets with a loading script.",
    )

    @field_validator("revision")
    @classmethod
    def _is_a_commit(cls, revision: str) -> str:
        if not re.fullmatch(r"[0-9a-f]{40}", revision):
            raise ValueError("give the full commit hash (40 hex digits): a branch or tag can move and change the data")
        return revision


def read_origin(
    path: str | None, pattern: str, hub: HubSource | None, urls: Sequence[str], text_field: str
) -> Iterator[RawDocument]:
    """Rows of the one origin that is given, streamed.

    Raises:
        UserError: see the functions below.
    """
    if hub is not None and hub.files is not None:
        return read_hub_files(hub.name, hub.revision, hub.files)
    if hub is not None:
        return read_hub(hub.name, hub.config, hub.split, hub.revision)
    return read_urls(urls) if urls else read_files(Path(path or ""), pattern, text_field)


def read_files(path: Path, pattern: str, text_field: str, suffixes: Sequence[str] = SUFFIXES) -> Iterator[RawDocument]:
    """Rows of a file, or of the files in a folder that match `pattern`, in the order of their names.

    Args:
        path: a file or folder.
        pattern: glob below the folder; files of other types are passed over.
        text_field: key under which a text or HTML file's content is returned.
        suffixes: the types of files that are read.

    Raises:
        UserError: nothing to read, or a file is empty, damaged, malformed or not to be opened.
    """
    for file in list_files(path, pattern, suffixes):
        try:
            yield from _some(_read_file(file, text_field), str(file))
        except OSError as error:
            raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None


def read_urls(urls: Sequence[str]) -> Iterator[RawDocument]:
    """Rows of JSON Lines and Parquet files behind `https://` or `hf://` addresses, streamed, in the given order.

    Raises:
        UserError: an address cannot be read, or its file is empty, damaged or malformed.
    """
    import fsspec

    for url in urls:
        _require_rows(url)
        try:
            opened: Any = fsspec.open(url, "rb")
            with opened as file:
                yield from _some(_read_rows(file, url), url)
        except UserError:
            raise
        except Exception as error:  # noqa: BLE001  (fsspec passes on what its HTTP libraries raise, whichever they are)
            raise UserError(f"{url}: cannot be read: {_one_line(error.__cause__ or error)}") from None


def read_hub_files(name: str, revision: str, pattern: str) -> Iterator[RawDocument]:
    """Rows of the files of a hub data set that match `pattern`, in the order of their names, streamed.

    For data sets whose loading script `datasets` no longer runs, and for files that belong to no configuration.

    Args:
        name: the data set, or a folder on this machine that is laid out like one.
        revision: commit.
        pattern: glob below the data set's root, such as `ElitePersonas/*.jsonl`.

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
        raise UserError(f"{where}: cannot be read: {_one_line(error)}") from None
    if not files:
        raise UserError(f"{where}: no file matches; look at the data set's page, under Files")
    yield from read_urls([f"hf://{file}" for file in files])


def read_hub(name: str, config: str | None, split: str, revision: str) -> Iterator[RawDocument]:
    """Rows of a data set on the Hugging Face hub, or of a local folder in the hub's layout, streamed.

    Raises:
        UserError: no such data set, configuration, split or revision, or the hub cannot be reached.
    """
    import datasets

    number = 0
    try:
        stream = datasets.load_dataset(name, config, split=split, revision=revision, streaming=True)
        for number, row in enumerate(stream, 1):
            yield RawDocument(f"{name}: row {number}", dict(row))
    except Exception as error:  # noqa: BLE001  (as above; a loading script is a RuntimeError)
        hint = "; it has a loading script: read its files with `hub.files`" if "script" in str(error) else ""
        raise UserError(
            f"{name} ({split}, {revision[:8]}): cannot be read after row {number}: {_one_line(error)}{hint}"
        ) from None
    if number == 0:
        raise UserError(f"{name} ({split}): holds no rows")


def list_files(path: Path, pattern: str, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    """The files that `read_files` reads.

    Of a folder these are the files that match, without hidden ones and without what dedup and import took out,
    unless `pattern` asks for it; of a stage's folder, the shards that its manifest names.

    Raises:
        UserError: there is no such path, no such file below it, its type is not known, or a stage is half-written.
    """
    if path.is_file():
        if not path.name.endswith(tuple(suffixes)):
            raise UserError(f"{path}: unknown type of file; texts are read from {', '.join(suffixes)}")
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder (paths are relative to the folder you run in: {Path.cwd()})")
    if pattern == EVERY_FILE and is_artifact(path):
        return [path / f"{shard}.parquet" for shard in open_artifact(path).shard_names]
    endings, left_out = tuple(suffixes), tuple(end for end in LEFT_OUT_SUFFIXES if not pattern.endswith(end))
    found = [f for f in path.glob(pattern) if f.is_file() and f.name.endswith(endings) and not f.name.startswith(".")]
    files = [file for file in found if not file.name.endswith(left_out)]
    if not files:
        but = f" but {' and '.join(f'*{end}' for end in left_out)}, which are passed over" if found else ""
        matches = "" if pattern == EVERY_FILE else f"matches {pattern!r} and "
        raise UserError(f"{path}: no file here {matches}ends in {', '.join(suffixes)}{but}")
    return sorted(files, key=lambda file: file.relative_to(path).as_posix())


def is_artifact(path: Path) -> bool:
    """Whether the folder is a stage's, done or half-written."""
    return (path / MANIFEST).is_file() or (path / SPEC).is_file()


def count_rows(path: Path, pattern: str) -> int:
    """Number of rows that `read_files` will find: exact for Parquet, lines for JSON Lines.

    Raises:
        UserError: see `list_files`; a file is damaged.
    """
    total = 0
    for file in list_files(path, pattern):
        with _damage_named(str(file)):
            if file.name.endswith(TEXT_SUFFIXES):
                total += 1
            elif file.suffix == ".parquet":
                total += pq.read_metadata(file).num_rows
            else:
                with file.open("rb") as stream:
                    total += sum(1 for line in _lines(stream, file.name) if line.strip())
    return total


def _read_file(file: Path, text_field: str) -> Iterator[RawDocument]:
    if file.suffix == ".txt":
        yield from _read_text(file, text_field)
    elif file.name.endswith(TEXT_SUFFIXES):
        yield RawDocument(str(file), {"source": file.name, **_page_row(file.read_bytes(), text_field)})
    else:
        with file.open("rb") as stream:
            yield from _read_rows(stream, str(file))


def _read_rows(file: IO[bytes], where: str) -> Iterator[RawDocument]:
    """Rows of an open file whose type its name tells."""
    with _damage_named(where):
        yield from _read_parquet(file, where) if where.endswith(".parquet") else _read_json_lines(file, where)


def _some(rows: Iterator[RawDocument], where: str) -> Iterator[RawDocument]:
    number = 0
    for number, document in enumerate(rows, 1):  # noqa: B007  (counts the rows)
        yield document
    if number == 0:
        raise UserError(f"{where}: holds no rows; remove it or name another file")


def _require_rows(url: str) -> None:
    if not url.endswith(ROW_SUFFIXES):
        raise UserError(f"{url}: unknown type of file; rows are read from {', '.join(ROW_SUFFIXES)}")


@contextlib.contextmanager
def _damage_named(where: str) -> Iterator[None]:
    """Errors of decompression and of Parquet as one line that names the file."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{where}: damaged gzip file ({error}); fetch it again") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        kind = "Parquet file" if where.endswith(".parquet") else "file"
        raise UserError(f"{where}: not a readable {kind} ({_one_line(error)}); fetch it again") from None


def _lines(file: IO[bytes], name: str) -> IO[bytes]:
    return gzip.open(file, "rb") if name.endswith(".gz") else file  # pyright: ignore[reportReturnType]


def _read_json_lines(file: IO[bytes], where: str) -> Iterator[RawDocument]:
    for number, line in enumerate(_lines(file, where), 1):
        if line.strip():
            yield RawDocument(f"{where}:{number}", _parse_line(line, f"{where}:{number}"))


def _parse_line(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        at = f"{error.msg} at column {error.pos + 1}"
        raise UserError(f"{where}: not valid JSON: {at}; each line is a JSON object of its own") from None
    except (ValueError, RecursionError) as error:  # a number of more digits than Python reads; `[[[[...`
        raise UserError(f"{where}: not valid JSON: {_one_line(error)}") from None
    if not isinstance(row, dict):
        raise UserError(f'{where}: a row is a JSON object, as in {{"text": ...}} (got {type(row).__name__})')
    return row


def _read_parquet(file: IO[bytes], where: str) -> Iterator[RawDocument]:
    number = 0
    # A file that carries checksums is checked: a flipped bit would otherwise only change the text.
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield RawDocument(f"{where}: row {number}", row)


def _read_text(file: Path, text_field: str) -> Iterator[RawDocument]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8: {error.reason} at byte {error.start}") from None
    if text.strip():
        yield RawDocument(str(file), {text_field: text, "source": file.name})


def _page_row(html: bytes | str, text_field: str) -> Row:
    """The columns that a page fills; what it does not tell is left to the row and the config."""
    page = read_page(html)
    told: dict[str, Any] = {"source": page.address, "licence": page.licence}
    return {text_field: page.text, **{name: value for name, value in told.items() if value}}


def extract_pages(documents: Iterator[RawDocument], text_field: str) -> Iterator[RawDocument]:
    """Rows whose column `text_field` holds HTML, with the page's main text in its place."""
    for where, row in documents:
        html = row.get(text_field)
        known = {name: value for name, value in row.items() if value not in (None, "")}
        page = _page_row(html, text_field) if isinstance(html, (str, bytes)) else {}
        yield RawDocument(where, {**page, **known, text_field: page[text_field]} if page else row)


def _one_line(error: BaseException, characters: int = 300) -> str:
    return " ".join(str(error).split())[:characters] or type(error).__name__
