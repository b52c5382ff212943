"""A file that one process at a time may hold."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from personahub.core.errors import UserError


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
