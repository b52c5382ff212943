"""Output that does not fail on unencodable text or a reader that goes away."""

from __future__ import annotations

import io
import os
import re
import sys

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def escape_unencodable_output() -> None:
    """Escape characters that the output's encoding lacks. Examples: LANG=C, lone surrogates."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """Return untrusted text as one line. Removes characters that move the cursor or change the text direction."""
    return _CONTROL.sub(" ", text).strip()


def close_output() -> None:
    """Discard what Python buffers for stdout, so that the flush at exit cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
