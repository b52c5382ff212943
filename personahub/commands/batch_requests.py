"""Reads and checks requests in the format of OpenAI's Batch API (JSON Lines)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personahub.core.errors import UserError
from personahub.core.texts.rows import InvalidRow, parse_row, read_lines

CHANGED = "leave the file unchanged and repeat the command; replies so far are kept"

_PATH = "/chat/completions"
_MAX_FAULTS = 5  # listed in one message


@dataclass(frozen=True)
class BatchRequest:
    """One request: the number of its line, its id, and the body that will be sent."""

    line: int
    custom_id: str
    body: dict[str, Any]


def copy_if_pipe(source: Path, folder: Path) -> Path:
    """Return `source`. If it can be read only once, such as a pipe, return a copy in `folder`."""
    if not source.exists() or source.is_dir() or (source.is_file() and not source.absolute().is_relative_to("/dev")):
        return source
    copy = folder / "requests.jsonl"
    try:
        with source.open("rb") as pipe, copy.open("wb") as file:
            shutil.copyfileobj(pipe, file)
    except OSError as error:
        raise UserError(f"{source}: cannot be copied to {copy}: {error.strerror}") from None
    return copy


def check_requests(file: Path, overrides: Mapping[str, Any], source: Path) -> int:
    """Check all requests of a file and count them. Messages call the file `source`.

    Raises:
        UserError: the first faults, with file and line.
    """
    faults: list[str] = []
    seen: set[int] = set()
    rows = 0
    for number, line in read_lines(file):
        try:
            request = parse_request(number, line, overrides)
        except ValueError as error:
            faults.append(f"{source}, line {number}: {error}")
        else:
            id_hash = hash(request.custom_id)
            if id_hash in seen and (first := _line_of(file, request.custom_id)) != number:
                faults.append(
                    f"{source}, line {number}: custom_id {request.custom_id!r} is already used in line {first}"
                )
            seen.add(id_hash)
            rows += 1
        if len(faults) == _MAX_FAULTS:
            break
    if faults:
        raise UserError("\n       ".join(faults))
    return rows


def read_requests(file: Path, overrides: Mapping[str, Any], source: Path) -> Iterator[BatchRequest]:
    """Read the requests of a file that `check_requests` has accepted.

    Raises:
        UserError: the file was changed since.
    """
    for number, line in read_lines(file):
        try:
            request = parse_request(number, line, overrides)
        except ValueError as error:
            raise UserError(f"{source}, line {number}: changed after it was checked ({error}): {CHANGED}") from None
        yield request


def parse_request(number: int, line: bytes, overrides: Mapping[str, Any]) -> BatchRequest:
    """Parse one line of the input.

    Raises:
        ValueError: what is wrong with the line.
    """
    row = parse_row(line)
    custom_id, body = row.get("custom_id"), row.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise ValueError("custom_id is missing or not a string")
    if row.get("method", "POST") != "POST" or not str(row.get("url", _PATH)).endswith(_PATH):
        raise ValueError(f"only POST to /v1{_PATH} is supported, not {row.get('method')} {row.get('url')}")
    if not isinstance(body, dict):
        raise ValueError("body is missing or not an object")  # noqa: TRY004
    body = {**body, **overrides}
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise ValueError("body.messages is missing, empty or not a list")
    if not isinstance(body.get("model"), str):
        raise ValueError("body.model is missing: set it, or use --model")  # noqa: TRY004
    if body.get("stream"):
        raise ValueError("body.stream is not supported: replies are written to a file")
    if not isinstance(body.get("n", 1), int) or body.get("n", 1) < 1:
        raise ValueError("body.n is not a positive integer")
    for name in ("max_tokens", "max_completion_tokens"):
        if not isinstance(body.get(name) or 0, int):
            raise ValueError(f"body.{name} is not an integer")  # noqa: TRY004
    return BatchRequest(number, custom_id, body)


def _line_of(source: Path, custom_id: str) -> int:
    """Return the number of the first line with this id."""
    return next(number for number, line in read_lines(source) if _custom_id(line) == custom_id)


def _custom_id(line: bytes) -> Any:
    with contextlib.suppress(InvalidRow):
        return parse_row(line).get("custom_id")
