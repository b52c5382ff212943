"""The journal of a shard: every completion, on its way to disk the moment it arrives.

One JSON line per completion, keyed by all that determines it. Lines are handed to the operating
system in groups, at the end of the event loop's turn in which they arrived, that is within
milliseconds and before any shard that uses them is published. After `kill -9` nothing that was
handed over is paid for twice. It is synced to disk when the shard is done: after a power failure
the completions of shards in progress may have to be asked for again.

A line begins with a checksum of the rest of it, so that a flipped bit is not taken for a model's word.

Memory holds an index of what earlier runs left, not the completions. A torn last line, left by a
crash inside a write, is cut off on opening: that one completion is asked for again.
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

_CRC = len('{"crc": "xxxxxxxx", ')  # of a line, what is not under its checksum


class RequestKeys:
    """Keys of completions: the request in full and `scope`, the stage's version and the engine's identity.

    Two requests that differ in a message, the model, the endpoint, any sampling parameter, the
    schema, the seed, the sample index or the attempt never share a key.
    """

    def __init__(self, scope: Any) -> None:
        self._scope = scope
        # Requests share their sampling and schema objects, which are hashed once; keeping them keeps their ids unique.
        self._begun: dict[tuple[int, int], tuple[Any, Sampling, Any]] = {}

    def __call__(self, request: Request) -> str:
        shared = (id(request.sampling), id(request.json_schema))
        found = self._begun.get(shared)
        if found is None:
            if len(self._begun) > 1000:  # a stage that makes a new one for every request
                self._begun.clear()
            found = self._begun[shared] = (self._begin(request), request.sampling, request.json_schema)
        key = found[0].copy()
        key.update(f"{request.seed} {request.sample} {request.attempt} {request.messages_json}".encode())
        return key.hexdigest()

    def _begin(self, request: Request) -> Any:
        parts = [self._scope, request.json_schema, request.sampling.model_dump(mode="json")]
        return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode() + b"\n", digest_size=16)


class Journal:
    """Entries (JSON objects) by key. Not safe for two processes at once: a shard has one worker."""

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
        """Number of entries that earlier runs left."""
        return len(self._offsets)

    def get(self, key: str) -> dict[str, Any] | None:
        """What an earlier run recorded under `key`."""
        offset = self._offsets.get(key)
        if offset is None:
            return None
        self._earlier.seek(offset)
        return json.loads(self._earlier.readline())["entry"]

    def append(self, key: str, entry: Mapping[str, Any]) -> None:
        """Record an entry with the next group; see the module docstring.

        Raises:
            UserError: an earlier group could not be written, as on a full disk.
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
        except UserError as error:  # there is nobody to raise it to: who appends next gets it
            self._error = error

    def flush(self) -> None:
        """Hand everything to the operating system.

        Raises:
            UserError: it cannot be written. What is left is kept for another try.
        """
        self._flush_is_due = False
        try:
            while self._buffer:
                del self._buffer[: os.write(self._file, self._buffer)]  # a full disk takes a part, then raises
        except OSError as error:
            raise UserError(f"{self._path}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Sync to disk and close."""
        self._error = self._error or UserError(f"{self._path}: is closed")  # its descriptor may be another file's soon
        try:
            self.flush()
            with writing(self._path):
                os.fsync(self._file)
        finally:
            os.close(self._file)
            self._earlier.close()


def journal_line(key: str, entry: Mapping[str, Any]) -> bytes:
    """A line of a journal: a JSON object whose `crc` is the CRC-32 of all that follows it, the newline included."""
    rest = f'"key": "{key}", "entry": {json.dumps(entry)}}}\n'.encode()
    return _checksum(rest) + rest


def _checksum(rest: bytes) -> bytes:
    return b'{"crc": "%08x", ' % zlib.crc32(rest)


def read_entries(path: Path) -> Iterator[tuple[int, int, str, dict[str, Any]]]:
    """Where each whole line begins and ends, its key and its entry.

    Raises:
        UserError: a line that is whole but damaged.
    """
    begin = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            if line.startswith(b'{"key": '):
                raise UserError(
                    f"{path}: was written before journals had checksums; remove {path.parent}, or go on with the version "
                    "that wrote it"
                )
            if line[:_CRC] != _checksum(line[_CRC:]):
                raise UserError(
                    f"{path}:{number}: damaged journal line; `sed -i {number}d {path}` takes it out, and that "
                    "completion is asked for again"
                )
            content = json.loads(line)
            end = begin + len(line)
            yield begin, end, content["key"], content["entry"]
            begin = end


def _index(path: Path) -> dict[str, int]:
    """Offsets of the completions by key; cuts a torn tail off the file."""
    offsets: dict[str, int] = {}
    whole = 0
    if path.exists():
        for begin, end, key, entry in read_entries(path):
            whole = end
            if "refused" not in entry:  # what a refusal cost is on record, but it may be asked again
                offsets[key] = begin
        os.truncate(path, whole)
    return offsets
