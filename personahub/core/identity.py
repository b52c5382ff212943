"""Content ids, seeds and fingerprints.

All three are BLAKE2b hashes of canonical JSON, so they do not depend on the process, the platform,
`PYTHONHASHSEED`, sharding or order.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from personahub.core.errors import UserError

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_PARTS = frozenset({str, int})
_SCALARS = frozenset({str, int, bool, type(None)})
_ID_BYTES = 16  # 128 bits: the probability of a collision among 1e9 records is 1.5e-21


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys and no spaces. Raises `TypeError` for values without a stable form."""
    if type(value) is list and set(map(type, value)) <= _PARTS:
        # Seeds and most ids, of which a run makes millions, are hashes of such lists. Same text in a third of the time.
        return f"[{','.join([encode_basestring(item) if type(item) is str else str(item) for item in value])}]"
    return _ENCODER.encode(_plain(value))


def _plain(value: Any) -> Any:
    if type(value) in _SCALARS or isinstance(value, (int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value!r} has no stable serialization: use a finite number")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("only string keys have a stable serialization")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no stable serialization: use numbers, strings, lists and mappings")


def digest(*parts: Any, size: int = _ID_BYTES) -> str:
    """Return the hex BLAKE2b digest, `size` bytes long, of the JSON of `parts`. The JSON is canonical."""
    return hashlib.blake2b(canonical_json(list(parts)).encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def content_id(kind: str, *parts: Any) -> str:
    """Return a record's id: 32 hex characters. They depend only on its kind and defining content."""
    return digest(kind, *parts)


def derive_seed(seed: int, *parts: Any) -> int:
    """Return a request's seed in [0, 2**31), independent of sharding and order.

    Seeds have 31 bits because servers and `transformers.set_seed` reject larger or negative ones.
    """
    return int(digest("seed", seed, *parts, size=8), 16) & 0x7FFFFFFF


def hash_path(path: str | Path) -> str:
    """Hash the content of a file or folder. Its own name does not matter.

    The hash of a folder covers the relative names and the bytes of all files below it.

    Raises:
        UserError: the path does not exist.
    """
    path = Path(path)
    if path.is_file():
        return _hash_file(path)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        return digest("folder", [[p.relative_to(path).as_posix(), _hash_file(p)] for p in files])
    raise UserError(f"{path}: no such file or folder (paths are relative to the folder you run in: {Path.cwd()})")


def _hash_file(path: Path) -> str:
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    with file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_ID_BYTES)).hexdigest()
