"""Checks on output files that run before any input is read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from personahub.core.errors import UserError


def require_writable(file: Path, sources: Iterable[Path]) -> None:
    """Check that `file` can be written and is not one of the files that will be read.

    Raises:
        UserError: the file cannot be written, or it is one of `sources` under any name.
    """
    if file.exists() and any(file.samefile(source) for source in sources):
        raise UserError(f"{file}: the output would overwrite the input; choose another name")
    if file.is_dir():
        raise UserError(f"{file}: is a folder; give the name of a file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.name}."):
            pass
    except OSError as error:
        raise UserError(f"{file}: cannot be written: {error.strerror}") from None
