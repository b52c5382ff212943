"""Finds full names of people in a persona's description, by form and position.

`Massimiliano Bartoli, a chef` is a named person, `Taxi Driver, a veteran` is not, and `a friend of
Thomas Russell` mentions one. No list of names is used: capitals, honorifics and the surrounding words
decide. A single first name counts if it introduces the person (`Sam, a travel blogger`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from personahub.core.texts.words import read_words
from personahub.personas.lexicon import WORDS, names_person

_NAME = r"[A-ZÀ-ÖØ-ÞŁŚŻČŠŽ][\w'’-]*[a-zß-öø-ÿłśżčšžćńğışă]"
_PARTICLE = r"(?:[A-Z]\.|de|da|di|van|von|der|den|bin|ibn|al|el|del|la|le)"
_FULL = rf"{_NAME}(?:\s{_PARTICLE})*\s(?:al-|el-|d['’])?{_NAME}(?:\s{_NAME}){{0,2}}"
_HONORIFIC = (
    r"(?:Dr|Mr|Mrs|Ms|Miss|Prof|Professor|Sir|Dame|Lord|Lady|President|Senator|Justice|King|Queen|Pope|Saint|Sheikh"
    r"|Rev|Reverend|Pastor|Rabbi|Imam|Herrn?|Frau|Monsieur|Madame|Señora?|Signora?)\.?"
)
_AFTER = r"(?=\s?[,;:(]|\.?$|\s(?:is|was|has|who|and|from)\b)"

_INTRODUCTIONS = (
    re.compile(
        rf"^(?:(?:I\sam|I['’]m|As|Meet|This\sis|Name:)\s)?(?P<name>{_HONORIFIC}\s{_NAME}(?:\s(?:{_PARTICLE}|{_NAME}))*){_AFTER}"
    ),
    re.compile(rf"^(?:(?:I\sam|I['’]m|As|Meet|This\sis|Name:)\s)?(?P<name>{_FULL}){_AFTER}"),
    re.compile(rf"\b(?P<before>\w+)\s(?:named|called)\s(?P<name>{_FULL})"),
    re.compile(rf"\b(?:[Mm]y\sname\sis|[Nn]ame:)\s(?P<name>{_FULL})"),
)
_FIRST_NAME = re.compile(
    rf"^(?:I\sam\s|I['’]m\s|As\s|Meet\s)?(?P<name>{_NAME})(?:,\s(?:an?|the|who)|\s(?:is|was)\san?)\s"
)
_NO_FIRST_NAME = re.compile(r".+(?:ly|ed|ing|ess|er|or|an|ist)$|(?:It|He|She|They|This|That|There|Who|One|Everyone)$")
_MENTIONS = (
    re.compile(rf"\b{_HONORIFIC}\s(?P<name>{_NAME}(?:\s{_NAME}){{0,2}})"),
    re.compile(
        r"\b(?:of|to|with|by|under|alongside|for|like|and|admir\w+|idoli[sz]\w+|know|knows|knew|met|support\w*|follow\w*)\s"
        rf"(?P<name>{_FULL})"
    ),
    re.compile(rf"\b(?:von|mit|für|avec|chez|para|(?:amie?|hij[ao]|collègue|voisine?)\sd[ei])\s(?P<name>{_FULL})"),
    re.compile(rf"\blearn\w*\s(?:\w+\s){{0,4}}from\s(?P<name>{_FULL})"),
    re.compile(rf"\b(?P<before>[a-z][\w-]*),?\s(?P<name>{_FULL})"),  # her husband Edward Lacey; his tutor, Jim Bell
    re.compile(rf"\b(?P<name>{_FULL})['’](?:s\s|\s)"),
    re.compile(rf"\b(?P<name>{_FULL})\s(?:fan|superfan|supporter|admirer|stan)\b"),
)

_TITLES = read_words(WORDS / "titles.txt")
_TITLE_FORM = re.compile(r".{3,}(?:ologist|grapher|ician|eer|[^v]ist|yst|maker|worker|keeper|master|person)s?$")
_NOT_IN_NAMES = read_words(WORDS / "not_in_names.txt")
_FIELD = re.compile(r".+(?:ology|onomy|ography|istry|osophy|ics)$")
_NATIONAL = re.compile(r".+(?:ian|ean|ese|ish|[rx]ican)s?$")


def introduced_name(persona: str) -> str | None:
    """Returns the name of the described person, or None."""
    return _first_name(persona, _INTRODUCTIONS) or _single_name(persona)


def mentioned_name(persona: str) -> str | None:
    """Returns a full name in the description, or None. Also finds public figures and some companies and places."""
    return _first_name(persona, _MENTIONS)


def _first_name(persona: str, patterns: Sequence[re.Pattern[str]]) -> str | None:
    for pattern in patterns:
        for match in pattern.finditer(persona):
            before = match.groupdict().get("before")
            if (before is None or names_person(before)) and _is_name(match["name"]):
                return match["name"]
    return None


def _single_name(persona: str) -> str | None:
    match = _FIRST_NAME.match(persona)
    name = match["name"] if match else ""
    # -er, -or, -an and -ist exclude some names (Spencer, Susan), but occupations are more common here.
    is_word = _NO_FIRST_NAME.match(name) or names_person(name) or name.lower() in _TITLES or name in _NOT_IN_NAMES
    return None if not name or is_word else name


def _is_name(phrase: str) -> bool:
    parts = [re.sub(r"['’]s?$", "", part) for part in re.sub(rf"^{_HONORIFIC}\s", "", phrase).split()]
    if any(part in _NOT_IN_NAMES for part in parts) or _NATIONAL.match(parts[-1]) or _FIELD.match(parts[-1]):
        return False
    return not any(part.lower().removesuffix("s") in _TITLES or _TITLE_FORM.match(part) for part in parts)
