"""Whether a model declined instead of answering."""

from __future__ import annotations

import re

_REFUSAL = re.compile(
    r"\b(?:I(?:['’]m| am) (?:really |very |so )?(?:sorry|unable|not able)|I (?:can(?:not|['’]t)|won['’]t|will not)"
    r"|as an AI\b|I apologi[sz]e)",
    re.IGNORECASE,
)
_OPENING = 200  # characters: a refusal says so at once; further on, "I cannot" belongs to the story


def is_refusal(text: str) -> bool:
    """True for texts that open with an apology or a "cannot", and hold neither a number nor a formula."""
    return bool(_REFUSAL.search(text.lstrip()[:_OPENING])) and not re.search(r"\d|\$|\\\(|\\\[", text)
