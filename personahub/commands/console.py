"""Output to a terminal, a pipe or a file that never fails because of its text or its reader."""

from __future__ import annotations

import io
import os
import re
import sys

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def escape_unencodable_output() -> None:
    """Escape characters that the output's encoding lacks (LANG=C, lone surrogates) instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """Return untrusted text as one line without characters that move the cursor or change the text direction."""
    return _CONTROL.sub(" ", text).strip()


def close_output() -> None:
    """Discard what Python still holds for stdout, so that flushing it at exit cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
