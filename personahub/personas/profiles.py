"""Structured replies: personas with a profile of occupation, expertise, interests and demographics, as JSON.

    schema = reply_schema("personas", count=2, demographics=True)
    profiles = parse_profiles(completion, "personas", count=2)

The schema goes to engines that can hold a model to it; the parser trusts none of them. A demographic
attribute needs evidence, a quotation from the text it was inferred from: what is not in the text is
a guess of the model's, and is dropped (`split_by_evidence`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import Field, model_validator

from personahub.core.config import EngineName, StageConfig
from personahub.core.engines import Completion, Sampling
from personahub.core.errors import Rejected
from personahub.core.texts.replies import find_refusal
from personahub.personas.labelled_replies import require_distinct

_MOST_ITEMS = 5  # of expertise and of interests; the prompts ask for one to five


Form = Literal["plain", "structured"]


class PersonaReplies(StageConfig):
    """How both expansion stages ask for personas, and in which form they come."""

    engine: EngineName
    form: Form = Field(default="plain", description="`structured`: a profile of each persona as well, by JSON replies.")
    template: str
    constrain: bool = Field(
        default=True,
        description="Structured form: hold the engine to the reply's JSON schema. For an engine that cannot, false.",
    )
    max_chars: int | None = Field(
        default=None,
        gt=0,
        description="Structured form: bound on strings in the JSON schema; vLLM knows it, OpenAI not.",
    )
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="How often one reply is asked for, when it does not qualify.")

    @model_validator(mode="before")
    @classmethod
    def _template_of_the_form(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("form") == "structured":
            return {"template": f"{cls.model_fields['template'].default}_structured", **values}
        return values


@dataclass(frozen=True, slots=True)
class Demographic:
    """One attribute and the words it was inferred from."""

    attribute: str
    value: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A persona's description with its parts; `relation` is empty in Text-to-Persona."""

    persona: str
    relation: str
    occupation: str
    expertise: tuple[str, ...]
    interests: tuple[str, ...]
    demographics: tuple[Demographic, ...] = ()

    def to_json(self) -> str:
        """The profile without the description, as it is stored in the column `profile`."""
        demographics = [{"attribute": d.attribute, "value": d.value, "evidence": d.evidence} for d in self.demographics]
        parts = {
            "occupation": self.occupation,
            "expertise": self.expertise,
            "interests": self.interests,
            "demographics": demographics,
        }
        return json.dumps({name: part for name, part in parts.items() if part}, ensure_ascii=False)


def reply_schema(
    key: str, count: int, relation: bool = False, demographics: bool = False, max_chars: int | None = None
) -> dict[str, Any]:
    """JSON schema of a reply, of the subset that OpenAI's strict mode and vLLM's grammars share.

    Args:
        key: the object's only key, under which the list stands.
        count: length of the list.
        relation: whether every person has a `relation`.
        demographics: whether every person has `demographics`.
        max_chars: bound on every string. vLLM enforces it; OpenAI's strict mode refuses schemas that have one.
    """
    text: dict[str, Any] = {"type": "string"} if max_chars is None else {"type": "string", "maxLength": max_chars}
    some = {"type": "array", "items": text, "minItems": 1, "maxItems": _MOST_ITEMS}
    person = {"persona": text, "occupation": text, "expertise": some, "interests": some}
    if relation:
        person = {"relation": text, **person}
    if demographics:
        entry = _object({"attribute": text, "value": text, "evidence": text})
        person["demographics"] = {"type": "array", "items": entry, "maxItems": _MOST_ITEMS}
    return _object({key: {"type": "array", "items": _object(person), "minItems": count, "maxItems": count}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL | re.IGNORECASE)


def parse_profiles(completion: Completion, key: str, count: int, relation: bool = False) -> list[Profile]:
    """The people of a reply `{key: [{"persona": ..., ...}, ...]}`.

    Raises:
        Rejected: `truncated`, `refusal`, `not_json`, `wrong_shape`, `empty_field`, `wrong_count` or
            `repeated_persona`.
    """
    text = completion.whole_text()
    fenced = _FENCE.match(text)
    try:
        reply = json.loads(fenced[1] if fenced else text, strict=False)  # models break lines inside of strings
    except (ValueError, RecursionError) as error:
        raise Rejected("refusal" if find_refusal(text) else "not_json", f"{error}"[:100]) from None
    people = reply.get(key) if isinstance(reply, dict) else None
    if not isinstance(people, list):
        raise Rejected("wrong_shape", f"no list {key!r} in an object")
    profiles = [_profile(person, number, relation) for number, person in enumerate(people, 1)]
    require_distinct([profile.persona for profile in profiles], count)
    return profiles


def _profile(person: Any, number: int, relation: bool) -> Profile:
    where = f"person {number}"
    if not isinstance(person, dict):
        raise Rejected("wrong_shape", f"{where} is no object")
    return Profile(
        persona=_text(person, "persona", where, required=True),
        relation=_text(person, "relation", where, required=True) if relation else "",
        occupation=_text(person, "occupation", where),
        expertise=_texts(person, "expertise", where),
        interests=_texts(person, "interests", where),
        demographics=tuple(_demographics(person, where)),
    )


def _text(values: dict[str, Any], name: str, where: str, required: bool = False) -> str:
    value = values.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise Rejected("wrong_shape", f"{where}: {name!r} is no string")
    text = _one_line(value)
    if required and not text:
        raise Rejected("empty_field", f"{where}: {name!r}")
    return text


def _texts(values: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    items = values.get(name)
    if items is None:
        return ()
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise Rejected("wrong_shape", f"{where}: {name!r} is no list of strings")
    return tuple(filter(None, map(_one_line, items)))


def _demographics(values: dict[str, Any], where: str) -> list[Demographic]:
    entries = values.get("demographics") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Rejected("wrong_shape", f"{where}: 'demographics' is no list of objects")
    return [
        Demographic(*(_text(entry, name, where, required=name != "evidence") for name in Demographic.__slots__))
        for entry in entries
    ]


def _one_line(value: str) -> str:
    """Storable, on one line: JSON can spell line breaks and lone surrogates."""
    return " ".join(value.encode("utf-8", "replace").decode().split())


_WORD = re.compile(r"\w+")
_LEAST_EVIDENCE = 2  # words: one alone ("he", "Berlin") occurs in most texts


def split_by_evidence(profile: Profile, text: str) -> tuple[Profile, list[Demographic]]:
    """The profile with the demographics that `text` supports, and those that it does not.

    Supported is what quotes two words or more that stand in the text in that order, case and
    punctuation aside.
    """
    if not profile.demographics:
        return profile, []
    words = f" {_plain(text)} "
    supported, guessed = [], []
    for entry in profile.demographics:
        quoted = _plain(entry.evidence)
        kept = quoted.count(" ") + 1 >= _LEAST_EVIDENCE and f" {quoted} " in words
        (supported if kept else guessed).append(entry)
    return replace(profile, demographics=tuple(supported)), guessed


def _plain(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
