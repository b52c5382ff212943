"""What the command line writes to a terminal, a pipe or a file: any text, and no traceback when nobody reads on."""

from __future__ import annotations

import io
import os
import re
import sys

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def write_any_text() -> None:
    """Let output escape what its encoding cannot spell (LANG=C, half of a surrogate pair), instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """A text of anybody's as one line: it moves no cursor and turns no direction."""
    return _CONTROL.sub(" ", text).strip()


def close_output() -> None:
    """Nothing more can be written: what Python still holds must not fail at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
