"""The journal of a shard: every completion, appended the moment it arrives.

One JSON line per completion, keyed by all that determines it. A line is handed to the operating
system before the completion is used, so after `kill -9` nothing that reached this machine is paid
for twice; it is synced to disk when the shard is committed. A torn last line, left by a crash
inside a write, is cut off on opening: that one completion is asked for again.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from personahub.core.engines.base import Completion, Request
from personahub.core.errors import UserError


def request_key(request: Request, scope: Any) -> str:
    """Key of a completion: the request in full and `scope`, the engine's identity and the stage's version.

    Two requests that differ in a message, the model, the endpoint, any sampling parameter, the
    schema, the seed, the sample index or the attempt never share a key.
    """
    parts = [scope, request.messages, request.seed, request.sample, request.attempt, request.json_schema]
    text = json.dumps(parts, sort_keys=True) + request.sampling.model_dump_json()
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Journal:
    """Completions of one shard, by key. Not safe for two processes at once: a shard has one worker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._entries = _replay(path)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Completion | None:
        """The completion under `key`, if it ever arrived."""
        entry = self._entries.get(key)
        return Completion(**entry) if entry is not None else None

    def append(self, key: str, completion: Completion) -> None:
        """Record a completion. It survives the death of this process once this returns."""
        entry = {
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "model": completion.model,
            "truth": completion.truth,
        }
        line = json.dumps({"key": key, **entry}, ensure_ascii=True).encode() + b"\n"
        written = os.write(self._file, line)
        if written != len(line):  # a full disk can take part of a line
            raise OSError(f"{self._path}: only {written} of {len(line)} bytes could be written; is the disk full?")
        self._entries[key] = entry

    def close(self) -> None:
        """Sync to disk and close."""
        os.fsync(self._file)
        os.close(self._file)


def _replay(path: Path) -> dict[str, dict[str, Any]]:
    """Read all whole lines and cut a torn tail off the file."""
    entries: dict[str, dict[str, Any]] = {}
    if not path.exists():
        return entries
    good = 0
    with path.open("rb+") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                entry = json.loads(line)
                key = entry.pop("key")
            except (ValueError, KeyError, AttributeError):
                raise UserError(
                    f"{path}:{number}: damaged journal line; delete the line to ask for that completion again"
                ) from None
            entries[key] = entry
            good += len(line)
        file.truncate(good)
    return entries
