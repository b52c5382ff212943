"""Parses JSON personas with occupation, expertise, interests and demographics.

    schema = reply_schema("personas", count=2, demographics=True)
    profiles = parse_profiles(completion, "personas", count=2)
    selection = select_people(profiles, count=2, min_words=2)          # for both forms of replies

The schema goes to engines that can constrain a model to it; the parser does not rely on it. A demographic
attribute needs evidence, a quotation from the text that it was inferred from. If the quotation is not in
the text, the attribute is a guess of the model and is dropped (`split_by_evidence`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from personahub.core.config import UNLESS_DEFAULT, EngineName, StageConfig
from personahub.core.engines import Completion, Sampling
from personahub.core.errors import Rejected
from personahub.core.stage import Shard, Stage
from personahub.core.texts.replies import find_refusal, without_thinking
from personahub.personas.json_replies import json_items
from personahub.personas.lexicon import count_words
from personahub.personas.plain_replies import normalise

_MAX_ITEMS = 5  # per list of expertise or interests; the prompts ask for one to five


Form = Literal["plain", "structured"]


class PersonaReplies(StageConfig):
    """How both expansion stages ask for personas, and in which form."""

    engine: EngineName
    form: Form = Field(default="plain", description="`structured`: JSON replies with a profile of each persona.")
    template: str
    constrain: bool = Field(
        default=True,
        description="Structured form: constrain replies to the JSON schema. Set false if the engine cannot.",
    )
    max_chars: int | None = Field(
        default=None,
        gt=0,
        description="Structured form: maximum length of strings in the JSON schema. vLLM supports it, OpenAI does not.",
    )
    sampling: Sampling = Sampling(temperature=1.0, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="How often to ask for a reply until one is accepted.")
    min_words: Annotated[int, UNLESS_DEFAULT] = Field(
        default=2,
        ge=1,
        description="A reply in which every persona has fewer words is asked for again, then rejected as `too_short`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _template_of_the_form(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("form") == "structured":
            return {"template": f"{cls.model_fields['template'].default}_structured", **values}
        return values


@dataclass(frozen=True, slots=True)
class Demographic:
    """An attribute and the words that it was inferred from."""

    attribute: str
    value: str
    evidence: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A persona's description and profile; `relation` is empty in Text-to-Persona."""

    persona: str
    relation: str = ""
    occupation: str = ""
    expertise: tuple[str, ...] = ()
    interests: tuple[str, ...] = ()
    demographics: tuple[Demographic, ...] = ()

    def to_json(self) -> str:
        """Returns the profile without the description, as stored in the column `profile`."""
        demographics = [{"attribute": d.attribute, "value": d.value, "evidence": d.evidence} for d in self.demographics]
        parts = {
            "occupation": self.occupation,
            "expertise": self.expertise,
            "interests": self.interests,
            "demographics": demographics,
        }
        return json.dumps({name: part for name, part in parts.items() if part}, ensure_ascii=False)


class Selection(NamedTuple):
    """The people taken from a reply, how many usable ones it had, and the model that wrote it."""

    people: list[Profile]
    found: int
    model: str


def select_people(people: Sequence[Profile], count: int, min_words: int, model: str = "") -> Selection:
    """Takes the first `count` people whose description has at least `min_words` words.

    Raises:
        Rejected: `too_short` if all are shorter.
    """
    usable = [person for person in people if count_words(person.persona) >= min_words]
    if not usable:
        raise Rejected("too_short", "; ".join(person.persona for person in people)[:100])
    return Selection(usable[:count], len(usable), model)


def count_difference(shard: Shard, selection: Selection, count: int) -> None:
    """Counts the people that a reply had beyond `count`, or that were missing."""
    shard.count("surplus_personas", max(0, selection.found - count))
    shard.count("missing_personas", max(0, count - selection.found))


def report_differences(stage: Stage[Any]) -> None:
    """Reports the counts of `count_difference` over all shards in the stage's summary."""
    _, counts, _ = stage.totals()
    stage.report(**{name: counts.noted.get(name, 0) for name in ("surplus_personas", "missing_personas")})


def reply_schema(
    key: str, count: int, relation: bool = False, demographics: bool = False, max_chars: int | None = None
) -> dict[str, Any]:
    """Returns a reply's JSON schema.

    It is valid in OpenAI's strict mode and in vLLM's grammars.

    Args:
        key: the object's only key, which holds the list.
        count: length of the list.
        relation: whether every person has a `relation`.
        demographics: whether every person has `demographics`.
        max_chars: maximum length of every string. vLLM enforces it; OpenAI's strict mode refuses such schemas.
    """
    text: dict[str, Any] = {"type": "string"} if max_chars is None else {"type": "string", "maxLength": max_chars}
    some = {"type": "array", "items": text, "minItems": 1, "maxItems": _MAX_ITEMS}
    person = {"persona": text, "occupation": text, "expertise": some, "interests": some}
    if relation:
        person = {"relation": text, **person}
    if demographics:
        entry = _object({"attribute": text, "value": text, "evidence": text})
        person["demographics"] = {"type": "array", "items": entry, "maxItems": _MAX_ITEMS}
    return _object({key: {"type": "array", "items": _object(person), "minItems": count, "maxItems": count}})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def parse_profiles(completion: Completion, key: str, count: int | None = None, relation: bool = False) -> list[Profile]:
    """Parses the distinct people in a reply `{key: [{"persona": ..., ...}, ...]}`, at most `count`.

    People without the required fields are left out, and so is one that was cut off. Another key, a list without an
    object around it and text around the JSON are accepted.

    Raises:
        Rejected: nobody can be read: `truncated`, `refusal`, `not_json`, `wrong_shape` or `empty_field`.
    """
    text = without_thinking(completion.text) if completion.truncated else completion.whole_text()
    people = json_items(text)
    profiles: dict[str, Profile] = {}
    error = None
    for number, person in enumerate(people, 1):
        try:
            profile = _profile(person, number, relation)
            profiles.setdefault(normalise(profile.persona), profile)
        except Rejected as rejected:
            error = error or rejected
    if not profiles:
        completion.whole_text()  # if the reply was cut off, that is the reason
        reason = "refusal" if find_refusal(text) else "not_json"
        raise error or Rejected(reason, f"no JSON object with a list {key!r}")
    return list(profiles.values())[:count]


def _profile(person: Any, number: int, relation: bool) -> Profile:
    where = f"person {number}"
    if not isinstance(person, dict):
        raise Rejected("wrong_shape", f"{where} is not an object")
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
        raise Rejected("wrong_shape", f"{where}: {name!r} is not a string")
    text = _one_line(value)
    if required and not text:
        raise Rejected("empty_field", f"{where}: {name!r}")
    return text


def _texts(values: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    items = values.get(name)
    if items is None:
        return ()
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise Rejected("wrong_shape", f"{where}: {name!r} is not a list of strings")
    return tuple(filter(None, map(_one_line, items)))


def _demographics(values: dict[str, Any], where: str) -> list[Demographic]:
    entries = values.get("demographics") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Rejected("wrong_shape", f"{where}: 'demographics' is not a list of objects")
    return [
        Demographic(*(_text(entry, name, where, required=name != "evidence") for name in Demographic.__slots__))
        for entry in entries
    ]


def _one_line(value: str) -> str:
    """Puts a text on one line. Replaces lone surrogates, which JSON can contain and files cannot."""
    return " ".join(value.encode("utf-8", "replace").decode().split())


_WORD = re.compile(r"\w+")
_MIN_EVIDENCE = 2  # words: a single one ("he", "Berlin") occurs in most texts


def split_by_evidence(profile: Profile, text: str) -> tuple[Profile, list[Demographic]]:
    """Splits off the demographics that `text` does not support.

    An attribute is supported if its evidence has two or more words that occur in the text in the same order,
    ignoring case and punctuation.
    """
    if not profile.demographics:
        return profile, []
    words = f" {_fold_words(text)} "
    supported, guessed = [], []
    for entry in profile.demographics:
        quoted = _fold_words(entry.evidence)
        kept = quoted.count(" ") + 1 >= _MIN_EVIDENCE and f" {quoted} " in words
        (supported if kept else guessed).append(entry)
    return replace(profile, demographics=tuple(supported)), guessed


def _fold_words(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
