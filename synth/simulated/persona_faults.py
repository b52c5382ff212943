"""Faults of the simulated teacher's personas: their rates, and the truth about each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from pydantic import Field

from personahub.core.config import FrozenModel

Persona = dict[str, Any]


class PersonaRates(FrozenModel):
    """Rates of faults. `refusal` and `malformed` apply to answers, the others to personas."""

    refusal: float = Field(default=0.005, ge=0, le=1)
    malformed: float = Field(
        default=0.01, ge=0, le=1, description="Prefixes are missing, or everything is in one paragraph."
    )
    near_duplicate: float = Field(
        default=0.03, ge=0, le=1, description="A stock persona or a sibling, with at most one word changed."
    )
    low_quality: float = Field(default=0.02, ge=0, le=1, description="'A person' or similar, or a mention of the text.")
    prompt_copy: float = Field(default=0.005, ge=0, le=1, description="Text of the prompt instead of a persona.")
    contact: float = Field(default=0.005, ge=0, le=1, description="An invented email address or phone number.")


_SYNONYMS = {
    "wants": "hopes",
    "needs": "has",
    "understand": "grasp",
    "enthusiastic": "passionate",
    "explaining": "teaching",
    "worked": "been",
    "writes": "blogs",
    "overrated": "overhyped",
    "objects": "reacts",
    "years": "seasons",
    "colleagues": "peers",
    "others": "people",
}
_LOW_QUALITY = (
    "A person",
    "Someone",
    "A student",
    "N/A",
    "A person who is interested in the text",
    "An individual with various interests",
    "The author of the article",
)
_PROMPT_COPIES = (
    "as specific as the text allows: not a computer scientist but the sub-field, the problem they work on",
    "states what makes this person who they are (occupation or role, expertise, situation, goals, interests)",
    "[description of the person]",
)
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot infer personal characteristics from this content.",
    "As an AI language model, I am not able to describe people based on this text.",
)


def err(
    persona: Persona, siblings: Sequence[Persona], stock: Callable[[Random], Persona], rng: Random, rates: PersonaRates
) -> Persona:
    """Returns `persona`, or a faulty persona in its place, with at most one fault.

    Args:
        persona: the persona without faults.
        siblings: personas that are already in the same answer.
        stock: draws one of the personas that recur for any text.
        rng: source of chance.
        rates: rates of the faults.
    """
    point = rng.random()
    if (point := point - rates.near_duplicate) < 0:
        sound = [sibling for sibling in siblings if sibling["fault"] is None]
        return _near_duplicate(rng.choice(sound) if sound and rng.random() < 0.5 else stock(rng), rng)
    if (point := point - rates.low_quality) < 0:
        return {**persona, "text": rng.choice(_LOW_QUALITY), "fault": "low_quality"}
    if (point := point - rates.prompt_copy) < 0:
        return {**persona, "text": rng.choice(_PROMPT_COPIES), "fault": "prompt_copy"}
    if point - rates.contact < 0:
        return {**persona, "text": persona["text"] + _contact_detail(rng), "fault": "contact"}
    return persona


def _near_duplicate(original: Persona, rng: Random) -> Persona:
    """Repeats `original` with at most one word changed. `of` is its text, and `edit` says what was changed."""
    edit = rng.choice(("none", "form", "insert", "replace"))
    text = original["text"]
    words = text.split()
    if edit == "form":
        text = rng.choice((text.lower(), text + ".", text.replace(" who ", ", who ", 1)))
    elif edit == "insert" and "who" in words:
        words.insert(words.index("who") + 1, rng.choice(("often", "still", "now", "mostly")))
        text = " ".join(words)
    elif edit == "replace" and (known := [i for i, word in enumerate(words) if word in _SYNONYMS]):
        words[known[0]] = _SYNONYMS[words[known[0]]]
        text = " ".join(words)
    if text == original["text"]:
        edit = "none"
    return {**original, "text": text, "fault": "near_duplicate", "of": original["text"], "edit": edit}


def _contact_detail(rng: Random) -> str:
    """Invents contact data in reserved ranges: example.org (RFC 2606) and 555-01xx numbers."""
    name = f"{rng.choice(('mira', 'jonas', 'tariq', 'elena'))}.{rng.choice(('kovac', 'lund', 'okoro', 'brandt'))}"
    return rng.choice((f", reachable at {name}@example.org", f" (call 555-01{rng.randrange(100):02d})"))
