"""Finds the list of people in a JSON reply: in a fence, after a sentence, bare, one object per line, or cut off."""

from __future__ import annotations

import json
import re
from typing import Any

_DECODER = json.JSONDecoder(strict=False)  # models put line breaks inside strings
_START = re.compile(r"(?:\A|^|[:：])[ \t]*(?P<bracket>[\[{])(?=\s*[\[{\"\]}])", re.MULTILINE)
_SPACE = re.compile(r"[\s,]*")
_NUMBERED = re.compile(r"(?:persona|person)[ _]?\d{1,3}", re.IGNORECASE)
_TRIES = 4


def json_items(text: str) -> list[Any]:
    """Returns the complete items of the first list of people in a text; nothing if there is no JSON.

    An object with one list stands for its items, and objects that follow one another stand for a list. Items of a
    list that was cut off are returned up to the cut.
    """
    for number, start in enumerate(_START.finditer(text)):
        if number == _TRIES:
            break
        position = start.start("bracket")
        items = _items_of(text, position)
        if items:
            return items
    return []


def _items_of(text: str, position: int) -> list[Any]:
    if text[position] == "[":
        return _sequence(text, position + 1)
    objects = _sequence(text, position)
    if not objects:  # cut off or broken: the items of its list may still be complete
        inner = text.find("[", position)
        return _sequence(text, inner + 1) if inner >= 0 else []
    if len(objects) > 1 or not isinstance(objects[0], dict):
        return objects
    numbered = [value for key, value in objects[0].items() if _NUMBERED.fullmatch(key)]
    lists = [value for value in objects[0].values() if isinstance(value, list) and value]
    described = any(isinstance(objects[0].get(key), str) for key in ("persona", "Persona", "description"))
    return numbered or (lists[0] if len(lists) == 1 and not described else objects)


def _sequence(text: str, position: int) -> list[Any]:
    """The complete JSON values from a position on, separated by commas or white space."""
    values: list[Any] = []
    while True:
        space = _SPACE.match(text, position)
        position = space.end() if space else position
        if position >= len(text) or text[position] not in '[{"':
            return values
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            return values
        values.append(value)
