"""Atomic writes, line files, file locks, and one-line messages for disk errors."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from personahub.core.errors import UserError


def temporary_name(path: Path) -> Path:
    """Return the path to write before renaming to `path`. Unique across the nodes of a cluster."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def remove_temporary_files(path: Path) -> None:
    """Remove files that a killed process left half-written below `path`. Nothing else may be writing there."""
    for file in path.rglob(".*.tmp"):
        if "wandb" not in file.parts:
            file.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn disk errors into one line, because the user can fix them.

    Examples: a full or read-only disk.

    Raises:
        UserError: an OSError occurred inside the context.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


_DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENODEV,
    errno.EACCES,
    errno.EPERM,
}


def disk_error(error: OSError, folder: Path) -> str | None:
    """Return a one-line message for a disk or permission error.

    None for an error that may be a bug.

    Args:
        error: the error to explain.
        folder: the folder that the stage works in; the message says so if it no longer exists.
    """
    if not folder.is_dir():
        return f"{folder}: disappeared while the stage ran ({error.strerror or error}); restore it, or run again to start over"
    if error.errno in _DISK_ERRORS:
        return f"{error.filename or folder}: {error.strerror or error}"
    return None


def publish(temporary: Path, path: Path) -> None:
    """Rename a written file to `path`. It survives a power failure, as does everything published before it."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file, or the list of a folder's files, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` on success and is removed on error.

    Raises:
        UserError: `path` is a device or a pipe, such as /dev/null, which the file would replace.
    """
    if path.exists() and (not path.is_file() or path.absolute().is_relative_to("/dev")):
        raise UserError(f"{path}: is not a regular file; choose another path")
    temporary = temporary_name(path)
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_LONGEST_LINE = 1 << 24  # bytes


def append_to_lines(path: Path) -> IO[str]:
    """Open a file to append lines.

    Removes a last line that a kill or a full disk has cut short.

    Raises:
        UserError: the file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            end = file.tell()
            file.seek(max(0, end - _LONGEST_LINE))
            tail = file.read()
            file.truncate(end - len(tail) + tail.rfind(b"\n") + 1)
        return path.open("a", encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically.

    Raises:
        UserError: the file cannot be written.
    """
    with writing(path), replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def locked(file: Path, taken: str) -> Iterator[int]:
    """Lock `file` and yields its descriptor.

    Every process that inherits the descriptor keeps the lock.

    Args:
        file: created if it does not exist, with its folder.
        taken: error message if another process holds the lock.

    Raises:
        UserError: another process holds the lock, or the file cannot be created.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UserError(f"{file.parent}: cannot write here: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(taken) from None
        except OSError as error:  # for example on a network file system without locks
            raise UserError(f"{file}: cannot be locked: {error.strerror}") from None
        yield descriptor
    finally:
        os.close(descriptor)


def read_yaml(path: Path) -> Any:
    """Reads a YAML file of the package with the safe loader in C, which takes a tenth of the time, if there is one.

    Raises:
        yaml.YAMLError: the file is not valid YAML.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 - the loader is safe
