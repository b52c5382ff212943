"""Files: written whole or not at all, appended line by line, locked, and their errors in one line."""

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

from personahub.core.errors import UserError


def temporary_name(path: Path) -> Path:
    """Where a file is written before it is renamed to `path`; unique across the nodes of a cluster."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def remove_temporary_files(path: Path) -> None:
    """What a killed process left half-written below `path`. To be called when nobody else is writing there."""
    for file in path.rglob(".*.tmp"):
        if "wandb" not in file.parts:
            file.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A full disk, or one that takes no writes, is the user's to mend: one line instead of a traceback.

    Raises:
        UserError: for every OSError inside.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


_OF_THE_DISK = {
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
    """One line for an error that is the disk's below `folder` or the permissions', and no bug of ours; else None."""
    if not folder.is_dir():
        return f"{folder}: vanished while the stage ran ({error.strerror or error}); bring it back, or run again to begin anew"
    if error.errno in _OF_THE_DISK:
        return f"{error.filename or folder}: {error.strerror or error}"
    return None


def publish(temporary: Path, path: Path) -> None:
    """Give a written file its name. After a power failure it is whole, and so is all that was published before it."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold a file, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # not every file system can sync a folder
            raise
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that becomes `path` if all goes well, and is removed if not.

    Raises:
        UserError: `path` is a device or a pipe, such as /dev/null, whose place the file would take.
    """
    if path.exists() and (not path.is_file() or path.absolute().is_relative_to("/dev")):
        raise UserError(f"{path}: is no ordinary file; name one to write to")
    temporary = temporary_name(path)
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


_LONGEST_LINE = 1 << 24  # bytes


def append_to_lines(path: Path) -> IO[str]:
    """A file of lines, opened to add more; a last line that a kill or a full disk has cut short is taken off.

    Raises:
        UserError: it cannot be written.
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
    """Write JSON whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    with writing(path), replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def locked(file: Path, taken: str) -> Iterator[int]:
    """Hold `file`; its descriptor, which keeps the lock in every process that inherits it.

    Args:
        file: made if it is not there, with its folder.
        taken: the message where another process holds it.

    Raises:
        UserError: another process holds it, or it cannot be made.
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
        except OSError as error:  # such as a network file system without locks
            raise UserError(f"{file}: cannot be locked: {error.strerror}") from None
        yield descriptor
    finally:
        os.close(descriptor)
