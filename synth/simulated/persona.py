"""The simulated teacher's personas: Text-to-Persona and Persona-to-Persona.

A persona is composed of a topic from the source text, a field of work that fits the text's words, and the hand-written
vocabulary. Topics are the phrases of one or two uncommon words with the highest frequency x length, after the idea of
RAKE (Rose et al. 2010, "Automatic keyword extraction from individual documents").

It makes the mistakes of LLMs at the rates of `PersonaRates`. `Reply.truth` records the fault of each persona, which
makes it possible to measure the recall of dedup and of the quality filters.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, Literal

from personahub.core.identity import derive_seed
from synth.simulated.persona_faults import REFUSALS, Persona, PersonaRates, draw_count, err, lay_out, shorten
from synth.simulated.vocabulary import FIELDS, INTERESTS, STOP_WORDS, TRAITS, Field

Mode = Literal["read", "write", "like", "dislike", "coarse"]

_READ_CHARACTERS = 3000  # of a source text, enough to find its topics
_MOST_PERSONAS = 100
_STOCK = 60


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and the truth that only the teacher knows."""

    text: str
    truth: dict[str, Any]


_TEMPLATES: dict[Mode, tuple[str, ...]] = {
    "read": (
        "a {role} {setting} who reads whatever appears on {topic} in order to {goal}",
        "a {trait} {role} who needs to understand {topic} and wants to {goal}",
        "a {role} {setting} who has just been put in charge of {topic} and {interest}",
        "a {trait} {role} who looks up {topic} and {other} before deciding how to {goal}",
        "a {role} who prepares a talk on {topic} for colleagues {setting}",
    ),
    "write": (
        "a {role} {setting} who has worked on {topic} for {years} years and wants to {goal}",
        "a {trait} {role} who writes about {topic} and {other} for people who want to {goal}",
        "a {role} known among peers for explaining {topic}, who {interest} after work",
        "a {trait} {role} {setting} who documents {topic} so that others can {goal}",
        "a {role} who gave up teaching after {years} years to specialise in {topic} and {other}",
    ),
    "like": (
        "a {trait} {role} who is enthusiastic about {topic} and {interest}",
        "a {role} {setting} who sees {topic} as the best way to {goal}",
        "a {role} who has followed {topic} for {years} years and recommends it to everyone {setting}",
        "a {trait} {role} whose own work on {other} builds on {topic}",
    ),
    "dislike": (
        "a {trait} {role} who finds {topic} overrated and would rather {goal}",
        "a {role} {setting} who lost {years} months to {topic} and now argues against it",
        "a {role} who objects to the way {topic} is presented, and {interest} instead",
        "a {trait} {role} {setting} whose experience with {other} contradicts the claims about {topic}",
    ),
    "coarse": ("a {trait} {role}", "a {role} {setting}", "a {role} who {interest}"),
}
_LINKED = (
    "{who} who picked up {topic} by listening and now {interest}",
    "{who} who depends on {topic} more than anyone notices and wants to {goal}",
    "{trait} {who} who would like to hear less about {topic}",
    "{who} who asks about {topic} every week, and {interest}",
)
_DEPARTING = (
    "{who} who {interest} and wants to {goal}",
    "{trait} {who} who {interest}",
    "{trait} {who} who has spent {years} years trying to {goal}",
)
_YEARS = ("three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "fourteen", "sixteen")
# Words that say who a person is rather than what they deal with. They are not topics if the source is a persona.
_OWN_WORDS = frozenset(
    word
    for text in (
        *itertools.chain.from_iterable(_TEMPLATES.values()),
        *_LINKED,
        *_DEPARTING,
        *TRAITS,
        *INTERESTS,
        *(text for field in FIELDS for text in (*field.roles, *field.settings, *field.goals)),
        *(who for field in FIELDS for _, who in field.related),
        *_YEARS,
    )
    for word in text.lower().split()
)


def text_to_persona(text: str, mode: Mode, count: int, rng: Random, rates: PersonaRates) -> Reply:
    """Writes `count` personas who would `mode` the text, one per "Persona: " line."""
    scene = _Scene.of(text)
    personas: list[Persona] = []
    for _ in range(min(draw_count(count, rng, rates), _MOST_PERSONAS)):
        persona = _distinct(lambda: _from_text(scene, mode, rng), personas)
        personas.append(err(persona, personas, stock_persona, rng, rates))
    return _reply("text_to_persona", personas, rng, rates)


def persona_to_persona(parent: str, count: int, rng: Random, rates: PersonaRates) -> Reply:
    """Writes `count` people related to `parent`. Each is a "Relation: " and a "Persona: " line."""
    scene = _Scene.of(parent, ignore=_OWN_WORDS)
    relations = _relations(scene.fields[0], min(draw_count(count, rng, rates), _MOST_PERSONAS), rng)
    personas: list[Persona] = []
    for relation, who, field in relations:
        persona = _distinct(lambda w=who, f=field: _from_relation(w, f, scene, rng), personas, parent)
        given = err(persona, personas, stock_persona, rng, rates)
        given = persona if _plain(given["text"]) == _plain(parent) else given
        personas.append({**given, "relation": relation})
    return _reply("persona_to_persona", personas, rng, rates)


@dataclass(frozen=True)
class _Scene:
    """Topics and fields of a text, most likely first. Neither is empty."""

    topics: tuple[str, ...]
    fields: tuple[Field, ...]

    @classmethod
    def of(cls, text: str, ignore: frozenset[str] = frozenset()) -> _Scene:
        fields = likely_fields(text)
        return cls(salient_phrases(text, ignore=ignore) or tuple(sorted(fields[0].keywords))[:6], fields)


_CONTACT = re.compile(r"\S*@\S+|https?://\S+|www\.\S+")
_BREAK = re.compile(r"[^\w\s'’-]+|[\d_]+|\n")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_PLAIN_WORD = re.compile(r"[^\W\d_]+")


def salient_phrases(text: str, most: int = 8, ignore: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Finds up to `most` phrases that say what `text` is about, best first.

    They have one or two words. They never contain addresses, numbers, common words or words in `ignore` (lowercase).
    """
    runs = _content_runs(_CONTACT.sub(" . ", text[:_READ_CHARACTERS]), ignore)
    words = Counter(_stem(word) for run in runs for word in run)
    pairs = Counter(pair for run in runs for pair in itertools.pairwise(run))
    scores = {word: _weight(word, words) for run in runs for word in run}
    for (a, b), times in pairs.items():
        if _stem(a) != _stem(b):
            scores[f"{a} {b}"] = (1.1 if times > 1 else 0.7) * (scores[a] + scores[b])
    chosen: list[str] = []
    taken: set[str] = set()
    for phrase in sorted(scores, key=lambda p: (-scores[p], p)):
        stems = {_stem(word) for word in phrase.split()}
        if not stems & taken:
            chosen.append(phrase)
            taken |= stems
            if len(chosen) == most:
                break
    return tuple(chosen)


def _content_runs(text: str, ignore: frozenset[str]) -> list[list[str]]:
    """Uninterrupted sequences of uncommon words, in lowercase except for proper nouns."""
    segments = [_WORD.findall(segment) for segment in _BREAK.split(text)]
    lower = {word for words in segments for word in words if word[0].islower()}
    inner = {word for words in segments for word in words[1:]}
    runs: list[list[str]] = [[]]
    for words in segments:
        for word in words:
            plain = word.lower()
            common = plain in STOP_WORDS or plain in ignore or plain.endswith(("ly", "'s", "’s"))
            if 3 < len(word) < 25 and not common:
                runs[-1].append(plain if plain in lower or word not in inner else word)
            elif runs[-1]:
                runs.append([])
        if runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _weight(word: str, counts: Counter[str]) -> float:
    """Frequency x length. Names have half the weight, because personas describe kinds of people."""
    weight = counts[_stem(word)] * min(len(word), 10) / 10
    return weight * (0.5 if word[0].isupper() or word.endswith(("ing", "ed")) else 1)


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    """Simple stem that merges plural and singular."""
    word = word.lower()
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _fields_by_word() -> dict[str, tuple[int, ...]]:
    """Returns the indices into `FIELDS` by the stem of a keyword or of a word in a role."""
    index: dict[str, set[int]] = {}
    for number, field in enumerate(FIELDS):
        for word in field.keywords.union(*(role.lower().split() for role in field.roles)) - STOP_WORDS:
            index.setdefault(_stem(word), set()).add(number)
    return {word: tuple(sorted(numbers)) for word, numbers in index.items()}


_FIELDS_BY_WORD = _fields_by_word()


def likely_fields(text: str, most: int = 3) -> tuple[Field, ...]:
    """Finds up to `most` fields by their keywords in `text`, most likely first.

    Without keywords, one by hash. A word that belongs to several fields counts as a fraction for each.
    """
    votes = [0.0] * len(FIELDS)
    for word, times in Counter(_PLAIN_WORD.findall(text[:_READ_CHARACTERS].lower())).items():
        numbers = _FIELDS_BY_WORD.get(_stem(word), ())
        for number in numbers:
            votes[number] += times / len(numbers)
    best = max(votes)
    if best == 0:
        return (FIELDS[derive_seed(0, text[:_READ_CHARACTERS]) % len(FIELDS)],)
    ranked = sorted(range(len(FIELDS)), key=lambda number: -votes[number])
    return tuple(FIELDS[number] for number in ranked[:most] if votes[number] * 2 >= best)


def _from_text(scene: _Scene, mode: Mode, rng: Random) -> Persona:
    field = rng.choice(scene.fields)
    # Two of three personas are about one of the three best topics.
    topic = rng.choice(scene.topics[:3] if rng.random() < 0.67 else scene.topics)
    other = rng.choice([t for t in scene.topics if t != topic] or [rng.choice(sorted(field.keywords))])
    role = rng.choice(field.roles)
    text = rng.choice(_TEMPLATES[mode]).format(role=role, topic=topic, other=other, **_color(field, rng))
    return {"text": _sentence(text), "fault": None, "field": field.name, "role": role, "topic": topic}


def _relations(field: Field, count: int, rng: Random) -> list[tuple[str, str, Field]]:
    """Draws relations, each with a person and the field of the person's goals. All relations differ."""
    pool = [(relation, who, field) for relation, who in field.related]
    pool += [("colleague", role, field) for role in rng.sample(field.roles, 2)]
    pool += [("competitor", rng.choice(field.roles), field), ("mentor", f"retired {rng.choice(field.roles)}", field)]
    for relation in ("spouse", "neighbour", "old school friend", "sibling", "tenant", "landlord", "pen pal", "teacher"):
        elsewhere = rng.choice(FIELDS)
        pool.append((relation, rng.choice(elsewhere.roles), elsewhere))
    for relation, who in (("daughter", "schoolgirl of eleven"), ("son", "teenager in a first job"), ("aunt", "widow")):
        pool.append((relation, who, rng.choice(FIELDS)))
    rng.shuffle(pool)
    distinct = list({relation: (relation, who, of) for relation, who, of in pool}.values())
    return [
        distinct[i] if i < len(distinct) else (f"acquaintance {i}", rng.choice(rng.choice(FIELDS).roles), field)
        for i in range(count)
    ]


def _from_relation(who: str, field: Field, scene: _Scene, rng: Random) -> Persona:
    linked = rng.random() < 0.5
    topic = rng.choice(scene.topics[:4])
    pattern = rng.choice(_LINKED if linked else _DEPARTING)
    text = "a " + pattern.format(who=who, topic=topic, **_color(field, rng))
    return {
        "text": _sentence(text),
        "fault": None,
        "field": field.name,
        "role": who,
        "topic": topic if linked else None,
    }


def _color(field: Field, rng: Random) -> dict[str, str]:
    return {
        "setting": rng.choice(field.settings),
        "goal": rng.choice(field.goals),
        "trait": rng.choice(TRAITS),
        "interest": rng.choice(INTERESTS),
        "years": rng.choice(_YEARS),
    }


def _sentence(text: str) -> str:
    """Capitalizes `text` and corrects its first article."""
    article, _, rest = text.partition(" ")
    if article in ("a", "A") and rest[:1].lower() in "aeiou" and not rest.lower().startswith(("uni", "usab", "euro")):
        text = f"an {rest}"
    return text[0].upper() + text[1:]


def _distinct(draw: Callable[[], Persona], siblings: list[Persona], parent: str = "") -> Persona:
    """Draws until the persona differs from the siblings and the parent."""
    taken = {_plain(sibling["text"]) for sibling in siblings} | {_plain(parent)}
    while _plain((persona := draw())["text"]) in taken:
        pass
    return persona


def _plain(text: str) -> str:
    return text.lower().strip(" .")


def stock_persona(rng: Random) -> Persona:
    """Draws one of the few sound personas that recur for any text."""
    own = Random(f"stock {rng.randrange(_STOCK)}")  # noqa: S311 - not for secrets
    field = own.choice(FIELDS)
    scene = _Scene(tuple(own.sample(sorted(field.keywords), 4)), (field,))
    return _from_text(scene, own.choice(("read", "write", "like")), own)


def _reply(task: str, personas: list[Persona], rng: Random, rates: PersonaRates) -> Reply:
    point = rng.random()
    if point < rates.refusal:
        return Reply(rng.choice(REFUSALS), {"task": task, "fault": "refusal", "personas": []})
    if rates.short and rng.random() < rates.short:
        personas = shorten(personas)
    malformed = point < rates.refusal + rates.malformed
    if not malformed and rates.layout and rng.random() < rates.layout:
        return Reply(lay_out(personas, rng), {"task": task, "fault": "layout", "personas": personas})
    if malformed and rng.random() < 0.5:
        text = "Here is who comes to mind. " + "; ".join(persona["text"] for persona in personas)
    else:
        text = "\n".join(_lines(persona, prefix=not malformed) for persona in personas)
    return Reply(text, {"task": task, "fault": "malformed" if malformed else None, "personas": personas})


def _lines(persona: Persona, *, prefix: bool) -> str:
    relation = persona.get("relation")
    if not prefix:
        return f"- {persona['text']}" if relation is None else f"- {relation}: {persona['text']}"
    line = f"Persona: {persona['text']}"
    return line if relation is None else f"Relation: {relation}\n{line}"
