"""Reference answers as data sets write them: text, a number, or a list of either."""

from __future__ import annotations

import json
from typing import Any


def reference_text(value: Any) -> str:
    r"""Returns a reference as text.

    A list becomes an enumeration of its members. OlympiadBench writes `["$17$"]`, and some files hold the same list
    as JSON text. The checker compares an enumeration in any order.

    Args:
        value: the field of a row; NumPy arrays must be converted to lists.

    Raises:
        ValueError: the value is empty, true or false, a mapping, nested, or a Python list written as text.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.startswith(('["', "[ '", "['")) and text.endswith("]"):
            return _enumeration(_json_list(text))
        return text
    if isinstance(value, (list, tuple)):
        return _enumeration(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"a reference is text, a number or a list of them, not {json.dumps(value, default=str)[:60]}")  # noqa: TRY004
    return str(value)


def _json_list(text: str) -> list[Any]:
    try:
        members = json.loads(text)
    except ValueError:
        raise ValueError(
            f"the reference {text[:60]} looks like a list but is not JSON: write a list or its answer"
        ) from None
    return members


def _enumeration(members: Any) -> str:
    if not members:
        raise ValueError("the reference is an empty list")
    if any(isinstance(member, (list, tuple, dict)) for member in members):
        raise ValueError(
            f"the reference is a nested list, {json.dumps(members, default=str)[:60]}: give one answer per row"
        )
    texts = [reference_text(member) for member in members]
    if len(texts) == 1:
        return texts[0]
    return ", ".join(text.strip().removeprefix("$").removesuffix("$").strip() for text in texts)
