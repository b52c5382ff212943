"""How the simulated teacher's personas go wrong, at what rates, and what is known about it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from pydantic import Field

from personahub.core.config import FrozenModel

Persona = dict[str, Any]


class PersonaRates(FrozenModel):
    """How often a persona answer errs. `refusal` and `malformed` count answers, the others personas."""

    refusal: float = Field(default=0.005, ge=0, le=1)
    malformed: float = Field(default=0.01, ge=0, le=1, description="Prefixes missing, or all in one paragraph.")
    near_duplicate: float = Field(default=
        0.03, ge=0, le=1, description="A stock persona or a sibling, at most a word changed."
    )
    low_quality: float = Field(default=0.02, ge=0, le=1, description="'A person', or mention of the text.")
    prompt_copy: float = Field(default=0.005, ge=0, le=1, description="Words of the prompt instead of a persona.")
    contact: float = Field(default=0.005, ge=0, le=1, description="An invented e-mail address or telephone number.")


SYNONYMS = {
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
    "a person",
    "someone",
    "a student",
    "N/A",
    "a person who is interested in the text",
    "an individual with various interests",
    "the author of the article",
)
_PROMPT_COPIES = (
    "a description that is as specific as the text allows, in one sentence",
    "[description of the person]",
    "states what makes this person who they are (occupation or role, expertise, situation)",
)
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot infer personal characteristics from this content.",
    "As an AI language model, I am not able to describe people based on this text.",
)


def _err(persona: dict[str, Any], siblings: list[dict[str, Any]], rng: Random, rates: PersonaRates) -> dict[str, Any]:
    """`persona`, or what a careless teacher writes in its place; at most one fault each."""
    point = rng.random()
    for fault in ("near_duplicate", "low_quality", "prompt_copy", "contact"):
        point -= getattr(rates, fault)
        if point < 0:
            return _FAULTS[fault](persona, siblings, rng)
    return persona


def _near_duplicate(persona: dict[str, Any], siblings: list[dict[str, Any]], rng: Random) -> dict[str, Any]:
    """A sound sibling, or one of the personas that teachers keep coming back to; truth: `of`, `edit`."""
    sound = [sibling for sibling in siblings if sibling["fault"] is None]
    original = rng.choice(sound) if sound and rng.random() < 0.5 else stock_persona(rng.randrange(_STOCK))
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


def stock_persona(index: int) -> dict[str, Any]:
    """One of the personas that recur whatever the text; a sound one, the same in every process."""
    rng = Random(f"stock {index}")  # noqa: S311 - not for secrets
    field = rng.choice(FIELDS)
    scene = _Scene(tuple(rng.sample(sorted(field.keywords), 4)), (field,))
    return _from_text(scene, rng.choice(("read", "write", "like")), rng)


def _low_quality(persona: dict[str, Any], _siblings: list[dict[str, Any]], rng: Random) -> dict[str, Any]:
    return {**persona, "text": _sentence(rng.choice(_LOW_QUALITY)), "fault": "low_quality"}


def _prompt_copy(persona: dict[str, Any], _siblings: list[dict[str, Any]], rng: Random) -> dict[str, Any]:
    return {**persona, "text": rng.choice(_PROMPT_COPIES), "fault": "prompt_copy"}


def _contact(persona: dict[str, Any], _siblings: list[dict[str, Any]], rng: Random) -> dict[str, Any]:
    """Reserved for fiction: example.org (RFC 2606) and 555-01xx numbers, so nobody is ever reached."""
    name = f"{rng.choice(('mira', 'jonas', 'tariq', 'elena'))}.{rng.choice(('kovac', 'lund', 'okoro', 'brandt'))}"
    detail = rng.choice((f", reachable at {name}@example.org", f" (call 555-01{rng.randrange(100):02d})"))
    return {**persona, "text": persona["text"] + detail, "fault": "contact"}


_FAULTS = {
    "near_duplicate": _near_duplicate,
    "low_quality": _low_quality,
    "prompt_copy": _prompt_copy,
    "contact": _contact,
}


