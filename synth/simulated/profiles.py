"""The simulated teacher's personas as JSON.

Same people and faults as in its text replies. Some profiles have a demographic attribute. As with real models, the
text supports some of these attributes and others are invented. `truth["demographics"]` counts them.
"""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

from synth.simulated.vocabulary import FIELDS, INTERESTS

_DEMOGRAPHICS = 0.15  # share of the personas that get an attribute
_INVENTED = 0.3  # share of these that the text does not support
_BY_NAME = {field.name: field for field in FIELDS}
_INVENTIONS = (
    ("age", "45", "a forty-five-year-old man"),
    ("residence", "Winnipeg", "born and raised in Winnipeg"),
    ("family", "two children", "with my two children"),
)


def as_profiles(
    key: str, lines: str, truth: dict[str, Any], text: str | None, rng: Random
) -> tuple[str, dict[str, Any]]:
    """Converts a text reply to the JSON reply `{key: [...]}`.

    Args:
        key: `personas` or `related`.
        lines: the text reply. A refusal is not changed.
        truth: truth of the text reply.
        text: the text from which the people were inferred, or None for no demographics.
        rng: source of chance for the parts that the text reply lacks.
    """
    if truth["fault"] == "refusal":
        return lines, truth
    attributes: list[dict[str, Any]] = []
    people = []
    for persona in truth["personas"]:
        person = _person(persona, rng)
        if text is not None:
            person["demographics"] = _demographics(text, rng)
            attributes += person["demographics"]
        people.append(person)
    reply = json.dumps({key: people}, ensure_ascii=False)
    if truth["fault"] == "malformed":
        reply = f"Here is the JSON you asked for:\n{reply[:-1]}"
    invented = [entry for entry in attributes if any(entry["evidence"] == evidence for _, _, evidence in _INVENTIONS)]
    counts = {"told": len(attributes), "invented": len(invented)}
    return reply, {**truth, "demographics": counts}


def _person(persona: dict[str, Any], rng: Random) -> dict[str, Any]:
    field = _BY_NAME[persona["field"]]
    topics = [persona["topic"]] if persona["topic"] else []
    person = {
        "persona": persona["text"],
        "occupation": persona["role"],
        "expertise": [*topics, *rng.sample(sorted(field.keywords), 2)],
        "interests": rng.sample(INTERESTS, 2),
    }
    return {"relation": persona["relation"], **person} if "relation" in persona else person


def _demographics(text: str, rng: Random) -> list[dict[str, str]]:
    if rng.random() >= _DEMOGRAPHICS:
        return []
    words = re.findall(r"\S+", text[:2000])
    if rng.random() < _INVENTED or len(words) < 8:
        attribute, value, evidence = rng.choice(_INVENTIONS)
    else:
        start = rng.randrange(len(words) - 5)
        attribute, value, evidence = "situation", "as the text says", " ".join(words[start : start + 5])
    return [{"attribute": attribute, "value": value, "evidence": evidence}]
