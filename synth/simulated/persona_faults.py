"""Faults of the simulated teacher's personas: their rates, and the truth about each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Annotated, Any

from pydantic import Field

from personahub.core.config import UNLESS_DEFAULT, FrozenModel

Persona = dict[str, Any]


class PersonaRates(FrozenModel):
    """Rates of faults.

    `refusal`, `malformed`, `surplus`, `shortfall`, `layout` and `short` apply to answers, the others to personas.
    """

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
    surplus: Annotated[float, UNLESS_DEFAULT] = Field(
        default=0, ge=0, le=1, description="One to four personas more than asked for."
    )
    shortfall: Annotated[float, UNLESS_DEFAULT] = Field(
        default=0, ge=0, le=1, description="One persona fewer than asked for, if several were."
    )
    layout: Annotated[float, UNLESS_DEFAULT] = Field(
        default=0, ge=0, le=1, description="Readable answers without one label per line: a list, JSON, headings."
    )
    short: Annotated[float, UNLESS_DEFAULT] = Field(
        default=0, ge=0, le=1, description="Every persona is one word, an occupation."
    )
    back_reference: Annotated[float, UNLESS_DEFAULT] = Field(
        default=0, ge=0, le=1, description="'The author seems to be ...' or similar."
    )
    named: Annotated[float, UNLESS_DEFAULT] = Field(
        default=0, ge=0, le=1, description="The persona has an invented name."
    )


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
_BACK_REFERENCES = (
    "The author seems to be {}",
    "The person described in the text: {}",
    "{}, who wrote this article",
    "A reader of this blog post, {}",
    "Author of the document, {}",
)
_INTRODUCTIONS = (
    "Emily, {}",
    "Dr. Mira Kovac, {}",
    "Ahmed Brandt is {}",
    "Named Elena, {}",
    "Harbour Works CEO, Tariq Okoro",
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
    if (point := point - rates.contact) < 0:
        return {**persona, "text": persona["text"] + _contact_detail(rng), "fault": "contact"}
    for fault, rate, forms in (
        ("back_reference", rates.back_reference, _BACK_REFERENCES),
        ("named", rates.named, _INTRODUCTIONS),
    ):
        if (point := point - rate) < 0:
            form, text = rng.choice(forms), persona["text"]
            inner = text if form.startswith("{}") else text[0].lower() + text[1:]
            return {**persona, "text": form.format(inner), "fault": fault}
    return persona


def draw_count(count: int, rng: Random, rates: PersonaRates) -> int:
    """Draws how many personas to give if `count` are asked for."""
    if rates.surplus and rng.random() < rates.surplus:
        return count + rng.randint(1, 4)
    return count - 1 if count > 1 and rates.shortfall and rng.random() < rates.shortfall else count


def shorten(personas: Sequence[Persona]) -> list[Persona]:
    """Reduces each persona to one word of its role."""
    words = [persona["role"].split(" of ")[0].split(" in ")[0].split()[-1].capitalize() for persona in personas]
    return [{**persona, "text": word, "fault": "short"} for persona, word in zip(personas, words, strict=True)]


def lay_out(personas: Sequence[Persona], rng: Random) -> str:
    """Writes personas, or pairs with relations, in one of the layouts of small models."""
    pairs = "relation" in personas[0]
    rows = [(number, persona.get("relation"), persona["text"]) for number, persona in enumerate(personas, 1)]
    layouts = [
        "\n".join(f"{n}. {f'**{relation}**: ' if pairs else ''}{text}" for n, relation, text in rows),
        json.dumps([{"relation": relation, "persona": text} if pairs else text for _, relation, text in rows]),
        " ".join(f"{f'Relation {n}: {relation} ' if pairs else ''}Persona {n}: {text}" for n, relation, text in rows),
        "\n\n".join(
            f"{f'Relation {n}: {relation}' if pairs else ''}\n**Persona {n}**\n{text}" for n, relation, text in rows
        ),
    ]
    return (
        rng.choice(("", "Here are the people:\n\n")) + rng.choice(layouts) + rng.choice(("", "\n\nI hope this helps!"))
    )


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
