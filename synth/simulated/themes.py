"""Themes: what a simulated problem takes from its persona.

A persona determines the words in the theme slots of a problem, and the preferred problem families. Both are chosen by
the smallest hashes of the persona's content words, as in MinHash. So personas that share most of their words mostly
share their theme and families, without a language model. Without a persona there are a few fixed themes.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from personahub.core.texts.words import read_words
from synth.simulated.grammar import seeded
from synth.simulated.vocabulary import WORDS

_LETTERS = "A-Za-zÀ-ÖØ-öø-ɏ"  # problems are in English, where words of other scripts would not read well
_TOKEN = re.compile(rf"([{_LETTERS}]+(?:['’-][{_LETTERS}]+)*)|\S")
_CONTENT = re.compile(rf"[{_LETTERS}]{{3,}}(?:-[{_LETTERS}]+)*")
_VERBS = re.compile(rf"\b(?:who|that|which|to|often|always)\s+([{_LETTERS}]{{3,}})", re.IGNORECASE)
_PREAMBLE = re.compile(
    r"^\s*(?:i am|i['’]m|he is|she is|this is|(?:the|this) (?:persona|person|user|individual) is|as)\s+", re.IGNORECASE
)


_ARTICLES = frozenset(["a", "an", "the", "my", "our", "his", "her", "their", "one", "another"])
_BOUNDARY = read_words(WORDS / "phrase_ends.txt")  # where the noun phrase that names the persona ends
_STOP = _BOUNDARY | read_words(WORDS / "persona_stop_words.txt")  # too common to say what a persona is about
_ING_NOUNS = read_words(WORDS / "ing_nouns.txt")
_PLURALS = (
    (re.compile(r"(?<=..)ies$"), "y"),
    (re.compile(r"(?<=ss|sh|ch|.x)es$"), ""),
    (re.compile(r"(?<=..[^sui])s$"), ""),
)
_UNLIKE_NOUNS = ("ing", "ed", "ly", "ate", "ize", "ble", "ous")
_LONGEST = 16  # characters of a word: text without spaces is one word

_THINGS = ("posters", "cards", "tickets", "badges", "books", "kits", "stamps", "photos")
_PLACES = ("fair", "club", "museum", "school", "market", "center", "workshop", "festival")

_NEUTRAL_WHO = ("a student", "a teacher", "a shopkeeper", "a farmer")
_NEUTRAL_THINGS = ("red marbles", "pencils", "apples", "stickers")
_NEUTRAL_PLACES = ("the school", "the market")


@dataclass(frozen=True)
class Theme:
    """Slot fillers by slot name, and hashes that rank families. The most characteristic word comes first."""

    slots: dict[str, str]
    preferences: tuple[int, ...]


@lru_cache(maxsize=1 << 16)
def _rank(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")


def _singular(word: str) -> str:
    """Returns an approximate singular: 'policies' -> 'policy', but 'physics' and 'series' stay."""
    if not word.endswith(("ics", "series", "species")):
        for ending, instead in _PLURALS:
            if ending.search(word):
                return ending.sub(instead, word)
    return word


def _key(word: str) -> int:
    """Returns the rank of a word, ignoring case and plural."""
    return _rank(_singular(word.lower()))


@lru_cache(maxsize=4096)
def theme_of(persona: str) -> Theme:
    """Theme of a persona, from its words alone. Text without words gets a neutral theme by its hash."""
    words = {_key(word): _singular(word)[:_LONGEST] for word in _CONTENT.findall(persona) if word.lower() not in _STOP}
    ranked = sorted(words)
    if not ranked:
        return Theme(neutral_slots(seeded(persona)), (_rank(persona),))
    name = _noun_phrase(persona)
    head = [_key(word) for word in _CONTENT.findall(name)]
    others = [rank for rank in ranked if rank not in head]
    verbs = {_key(word) for word in _VERBS.findall(persona)}
    nouns = [rank for rank in others if rank not in verbs and not words[rank].endswith(_UNLIKE_NOUNS)]
    about = nouns or others or ranked
    slots = slots_for(
        name or f"a {words[about[0]]} fan",
        f"{words[about[0]]} {_THINGS[about[0] % len(_THINGS)]}",
        f"the {words[about[-1]]} {_PLACES[about[-1] % len(_PLACES)]}",
    )
    preferences = (head[-1] if head else ranked[0], ranked[0], ranked[len(ranked) // 2])
    return Theme(slots, preferences)


def slots_for(who: str, thing: str, place: str) -> dict[str, str]:
    return {"who": who, "Who": who[:1].upper() + who[1:], "thing": thing, "place": place}


def neutral_slots(rng: Random) -> dict[str, str]:
    """Draws one of the few themes of problems without a persona."""
    return slots_for(rng.choice(_NEUTRAL_WHO), rng.choice(_NEUTRAL_THINGS), rng.choice(_NEUTRAL_PLACES))


def _noun_phrase(persona: str) -> str:
    """Returns the leading noun phrase with its article, or ''. Example: 'a retired railway enthusiast'."""
    text = _PREAMBLE.sub("", persona)
    taken: list[str] = []
    for word in _TOKEN.findall(text):  # '' for anything that is not a word
        if not taken and word.lower() in _ARTICLES:
            continue
        verb = word.lower() in _BOUNDARY or (len(taken) > 1 and word.endswith("ing") and word not in _ING_NOUNS)
        if not word or len(taken) == 5 or (taken and verb):
            break
        taken.append(word[:_LONGEST])
    if not taken:
        return ""
    if text.startswith(taken[0]) and taken[0][1:].islower():  # capitalized only as the first word of the sentence
        taken[0] = taken[0].lower()
    vowel = taken[0][0].lower() in "aeiou" and not taken[0].lower().startswith(("uni", "use", "eu", "ukr"))
    return " ".join(("an" if vowel else "a", *taken))
