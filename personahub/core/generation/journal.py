"""The journal of a shard: every completion, written as soon as it arrives.

The journal has one JSON line per completion, keyed by everything that determines it. Lines are handed
to the operating system in groups, at the end of the turn of the event loop in which they arrived. That
is within milliseconds, and before any shard that uses them is published. After `kill -9`, nothing that
was handed over is paid for twice. The journal is synced to disk when the shard is done, so after a power
failure the completions of unfinished shards may have to be requested again.

Each line starts with a checksum of the rest, so that a flipped bit is not mistaken for a model's output.

Memory holds an index of the completions of earlier runs, not the completions. A torn last line, left by a
crash during a write, is cut off on opening, and that one completion is requested again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from personahub.core.engines.base import Request, Sampling
from personahub.core.errors import UserError
from personahub.core.files import writing

_CRC = len('{"crc": "xxxxxxxx", ')  # the part of a line that its checksum does not cover


class RequestKeys:
    """Computes the keys of completions from the request and `scope`.

    `scope` is the stage's version and the engine's identity. Two requests that differ in a message, the
    model, the endpoint, any sampling parameter, the schema, the seed, the sample index or the attempt
    never share a key.
    """

    def __init__(self, scope: Any) -> None:
        self._scope = scope
        # Requests share their sampling and schema objects, so these are hashed once. Keeping a reference to them
        # keeps their ids unique.
        self._begun: dict[tuple[int, int], tuple[Any, Sampling, Any]] = {}

    def __call__(self, request: Request) -> str:
        shared = (id(request.sampling), id(request.json_schema))
        found = self._begun.get(shared)
        if found is None:
            if len(self._begun) > 1000:  # the stage makes new objects for every request
                self._begun.clear()
            found = self._begun[shared] = (self._begin(request), request.sampling, request.json_schema)
        key = found[0].copy()
        key.update(f"{request.seed} {request.sample} {request.attempt} {request.messages_json}".encode())
        return key.hexdigest()

    def _begin(self, request: Request) -> Any:
        parts = [self._scope, request.json_schema, request.sampling.model_dump(mode="json")]
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode() + b"\n", digest_size=16)


class Journal:
    """Entries (JSON objects) by key. Not safe for concurrent processes: only one process works on a shard."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._offsets = _index(path)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            self._earlier = path.open("rb")
        self._buffer = bytearray()
        self._flush_is_due = False
        self._error: UserError | None = None

    def __len__(self) -> int:
        """Return the number of entries of earlier runs."""
        return len(self._offsets)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the entry that an earlier run recorded under `key`, or None."""
        offset = self._offsets.get(key)
        if offset is None:
            return None
        self._earlier.seek(offset)
        return json.loads(self._earlier.readline())["entry"]

    def append(self, key: str, entry: Mapping[str, Any]) -> None:
        """Add an entry to the next group; see the module docstring.

        Raises:
            UserError: an earlier group could not be written, for example because the disk is full.
        """
        if self._error is not None:
            raise self._error
        self._buffer += journal_line(key, entry)
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush_group)

    def _flush_group(self) -> None:
        try:
            self.flush()
        except UserError as error:  # raised by the next `append`, because nothing awaits this callback
            self._error = error

    def flush(self) -> None:
        """Hand all entries to the operating system.

        Raises:
            UserError: an entry cannot be written. Unwritten entries are kept for another attempt.
        """
        self._flush_is_due = False
        try:
            while self._buffer:
                del self._buffer[: os.write(self._file, self._buffer)]  # a full disk writes a part, then raises
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Sync to disk and close."""
        # The descriptor may soon belong to another file.
        self._error = self._error or UserError(f"{self._path}: is closed")
        try:
            self.flush()
            with writing(self._path):
                os.fsync(self._file)
        finally:
            os.close(self._file)
            self._earlier.close()


def journal_line(key: str, entry: Mapping[str, Any]) -> bytes:
    """Return a journal line: a JSON object. Its `crc` is the CRC-32 of the rest, including the newline."""
    rest = f'"key": "{key}", "entry": {json.dumps(entry)}}}\n'.encode()
    return _checksum(rest) + rest


def _checksum(rest: bytes) -> bytes:
    return b'{"crc": "%08x", ' % zlib.crc32(rest)


def read_entries(path: Path) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
    """Yield start, end, key and entry of each complete line.

    Raises:
        UserError: a complete line is damaged.
    """
    begin = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            if line.startswith(b'{"key": '):
                raise UserError(
                    f"{path}: was written before journals had checksums; remove {path.parent}, or use the version that "
                    "wrote it"
                )
            if line[:_CRC] != _checksum(line[_CRC:]):
                raise UserError(
                    f"{path}:{number}: damaged journal line; remove it with `sed -i {number}d {path}`, and that "
                    "completion will be requested again"
                )
            content = json.loads(line)
            end = begin + len(line)
            yield begin, end, content["key"], content["entry"]
            begin = end


def _index(path: Path) -> dict[str, int]:
    """Return the offsets of the completions by key. Cuts a torn last line off the file."""
    offsets: dict[str, int] = {}
    whole = 0
    if path.exists():
        for begin, end, key, entry in read_entries(path):
            whole = end
            if "refused" not in entry:  # a refusal is recorded for its cost, but the request may be repeated
                offsets[key] = begin
        os.truncate(path, whole)
    return offsets
