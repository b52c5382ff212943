"""Patterns of what models write around a problem, read from `additions.yaml`; see `synth.contracts.additions`.

A key of the file is the name of a pattern, followed by its flags (`/i`, `/im`), or the name of a part that patterns
include as `<<NAME>>`. The pieces of a list are joined.
"""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path

from personahub.core.files import read_yaml

QUOTES = {
    '"': '"',
    "'": "'",
    "“": "”",
    "‘": "’",
    "«": "»",
    "„": "“",
    "「": "」",
    "`": "`",
    "**": "**",
    "*": "*",
    "__": "__",
}
_FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}
_INCLUDED = re.compile(r"<<([A-Z_]+)>>")


def _read() -> dict[str, re.Pattern[str]]:
    """Compiles the patterns of the file. A pattern may include only parts that stand above it."""
    parts: dict[str, str] = {}
    compiled: dict[str, re.Pattern[str]] = {}
    for key, pieces in read_yaml(Path(__file__).with_name("additions.yaml")).items():
        name, slash, flags = key.partition(" /")
        parts[name] = _INCLUDED.sub(lambda match: parts[match.group(1)], "".join(pieces))
        if slash:
            compiled[name] = re.compile(parts[name], reduce(lambda a, b: a | _FLAGS[b], flags, re.NOFLAG))
    return compiled


_PATTERNS = _read()


def __getattr__(name: str) -> re.Pattern[str]:
    if name not in _PATTERNS:
        raise AttributeError(f"module {__name__} has no pattern {name}")
    return _PATTERNS[name]
