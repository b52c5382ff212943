"""Commands of the README and of the guides: what the pages tell their reader to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.test_readme import PAGES, commands

PROGRAMS = ("personahub", "python", "make", "pip", "accelerate", "pytest")
GENERATED = ("LOG.md", "configuration.md")

_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_PROGRAM = rf"(?:[A-Z_]+=\S+ )*(?:{'|'.join(PROGRAMS)}) "


def written() -> set[str]:
    """Commands of fenced and of indented blocks and of inline code, in one spelling."""
    return {command for page in PAGES if page.name not in GENERATED for command in _of(page)}


def _of(page: Path) -> set[str]:
    found = {spelled(words) for program in PROGRAMS for words in commands(page, program)}
    prose = _FENCED.sub("", page.read_text(encoding="utf-8"))
    codes = [*re.findall(r"`([^`\n]+)`", prose), *re.findall(r"^ {4}(\S.*)$", prose, re.MULTILINE)]
    return found | {spelled(shlex.split(code, comments=True)) for code in codes if re.match(_PROGRAM, code)}


def spelled(words: list[str]) -> str:
    """Words as one line, quoted where they have brackets."""
    return shlex.join(words).replace("'<experiment>'", "<experiment>") if "[" in " ".join(words) else " ".join(words)


def synopsis(command: str) -> bool:
    """Whether it names a subcommand or its options, and is nothing to be typed."""
    words = command.split(" ")
    if words[0] != "personahub":
        return False
    placeholders = ("[", "CONFIG", "URL", "NAME/STAGE", "IN.jsonl OUT", "IN OUT")
    return len(words) == 2 or words[1:] == ["personas", "import"] or any(each in command for each in placeholders)
