"""Replies of models: refusals and what else every consumer must recognize."""

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


_DECLINES = re.compile(
    r"""
    ^\W*(?:I(?:['’]m|\ am|\ do)?\s)?(?:very\ |truly\ |so\ )?(?:sorry|apologi[sz]e)\b
    | ^\W*(?:unfortunately,?\s+)?I(?:['’]m|\ am)?\s*(?:can(?:no|['’]|\ no)t|could(?:n['’]|\ no)t|won['’]t|(?:not\ |un)able)
      \b.{0,40}\b(?:assist|help|provide|create|generate|determine|infer|fulfil|comply|identify|describe|answer|do\ that|write)
    | \bas\ an?\ (?:AI|artificial\ intelligence|(?:large\ )?language\ model)(?:\ (?:language\ )?(?:model|assistant))?\s*,
    | \bas\ an?\ AI\ (?:language\ )?(?:model|assistant)\b
    | \b(?:not|n['’]t)\ (?:contain\ |provide\ |have\ |give\ )?(?:enough|sufficient|any)\ (?:information|context|details?)\b
    | \b(?:impossible|cannot\ be|can['’]t\ be|not\ possible)\b.{0,20}\b(?:determine|infer|tell|identif)
    | \b(?:content|usage)\ polic(?:y|ies)\b.{0,40}\b(?:violat|against|prohibit)
    """,
    re.IGNORECASE | re.VERBOSE,
)


def declining_words(text: str) -> str | None:
    """The words by which a short text declines, apologizes or speaks of itself as a model; else None."""
    found = _DECLINES.search(text)
    return found.group().strip() if found else None
