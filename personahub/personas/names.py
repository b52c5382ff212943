"""Finds full names of people in a persona's description, by form and position.

`Massimiliano Bartoli, a chef` is a named person, `Taxi Driver, a veteran` is not, and `a friend of
Thomas Russell` mentions one. Capitals, honorifics and the surrounding words decide. A single first name
counts if it introduces the person (`Sam, a travel blogger`); names that look like other words (`Emily`,
`Ahmed`) and first names in less certain places are looked up in a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from personahub.core.texts.words import read_words
from personahub.personas.lexicon import WORDS, names_person

_NAME = r"[A-ZÀ-ÖØ-ÞŁŚŻČŠŽ][\w'’-]*[a-zß-öø-ÿłśżčšžćńğışă]"
_PARTICLE = r"(?:[A-Z]\.|de|da|di|van|von|der|den|bin|ibn|al|el|del|la|le)"
_FULL = rf"{_NAME}(?:\s{_PARTICLE})*\s(?:al-|el-|d['’])?{_NAME}(?:\s{_NAME}){{0,2}}"
_HONORIFIC = (
    r"(?:Dr|Mr|Mrs|Ms|Miss|Prof|Professor|Sir|Dame|Lord|Lady|President|Senator|Justice|King|Queen|Pope|Saint|Sheikh"
    r"|Rev|Reverend|Pastor|Rabbi|Imam|Herrn?|Frau|Monsieur|Madame|Señora?|Signora?)\.?"
)
_TITLE = (  # with a surname, they introduce a person; alone, they are occupations
    r"(?:Captain|Coach|Chef|Nurse|Officer|Sergeant|Sgt\.?|Capt\.?|Lt\.?|Lieutenant|Colonel|Col\.?|Major|General|Judge|Detective"
    r"|Inspector|Governor|Mayor|Ambassador|Chancellor|Minister|Bishop|Cardinal|Father|Brother|Sister|Mother|Aunt|Auntie"
    r"|Uncle|Grandma|Grandpa|Farmer|Teacher|Principal|Deacon|Archbishop|Maestro|Nana|Old)"
)
_VERB = (
    r"(?:is|was|has|had|works|worked|runs|teaches|taught|lives|loves|enjoys|studies|studied|owns|leads|writes|wants|hopes"
    r"|believes|specializes|specialises|grew|started|founded|manages|serves|volunteers|dreams|struggles|spends|spent"
    r"|needs|likes|dislikes|became|retired|joined|holds|moved|prefers|plans|uses|seeks|plays|cares|knows|thinks)"
)
_AFTER = rf"(?=\s?[,;:(]|\.?$|['’]s\san?\s|\s[-–—]\s|\s(?:who|whose|and|from|{_VERB})\b)"
_START = r"^(?:(?:I\sam|I['’]m|As|Meet|This\sis|Name:|Named|Called|Introducing|Imagine|Consider)\s)?"
# An occupation in front of a name. A preposition before it makes it someone else's: `a fan of the singer, ...`.
_ROLE = r"^(?:(?!(?:of|for|to|with|from|by|who|whose|that|under|about)\b)[\w'’&./-]+\s)*(?P<before>[\w-]+)(?:,|\s[-–—]|:|\s\()\s?"

_INTRODUCTIONS = (
    re.compile(rf"{_START}(?P<name>{_HONORIFIC}\s{_NAME}(?:\s(?:{_PARTICLE}|{_NAME}))*){_AFTER}"),
    re.compile(rf"{_START}(?P<name>{_FULL}){_AFTER}"),
    re.compile(rf"\b(?P<before>\w+)(?:,?\swho\sis|,)?\s(?:named|called|nicknamed)\s(?P<name>{_FULL})"),
    re.compile(rf"\b(?:[Mm]y\sname\sis|[Nn]ame:|[Ww]hose\sname\sis|[Hh](?:er|is)\sname\sis)\s(?P<name>{_FULL})"),
    # A nurse and mother, Jane Doe; Acme Engineering CEO, Jane Doe; The head of Acme, Jane Doe
    re.compile(rf"{_ROLE}(?P<name>(?:{_HONORIFIC}\s)?{_FULL})(?=\.?$|[,;)]|\swho\b)"),
    re.compile(
        r"^(?:[\w-]+\s){0,4}(?P<before>CEO|CTO|CFO|COO|[Cc]hair|[Hh]ead|[Dd]ean|(?i:founder|president|director|manager|owner"
        rf"|chairman|editor|principal|partner))\s(?:of|at|for)\s(?:the\s)?(?:[A-Z][\w&'’.-]*\s?)+,\s(?P<name>{_FULL})(?=\.?$|[,;])"
    ),
)
_FIRST_NAME = re.compile(
    rf"^(?:I\sam\s|I['’]m\s|As\s|Meet\s|This\sis\s)?(?P<name>{_NAME})(?:,\s(?:an?|the|who)|\s(?:is|was)\san?)\s"
)
_LISTED_NAMES = (  # single names that count only if they are in the list
    re.compile(rf"{_START}(?P<name>{_NAME}){_AFTER}"),
    re.compile(rf"\b(?P<before>\w+)(?:,?\swho\sis|,)?\s(?:named|called|nicknamed)\s(?P<name>{_NAME})"),
    re.compile(rf"{_ROLE}(?P<name>{_NAME})(?=\.?$|[,;)]|\swho\b)"),
    re.compile(rf"\b(?:[Mm]y\sname\sis|[Nn]ame:|[Ww]hose\sname\sis|[Hh](?:er|is)\sname\sis)\s(?P<name>{_NAME})"),
)
_TITLED_NAME = re.compile(rf"{_START}{_TITLE}\s(?P<name>{_FULL}|{_NAME}){_AFTER}")
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
_FIRST_NAMES = read_words(WORDS / "first_names.txt")
_TITLE_FORM = re.compile(r".{3,}(?:ologist|grapher|ician|eer|[^v]ist|yst|maker|worker|keeper|master|person)s?$")
_NOT_IN_NAMES = read_words(WORDS / "not_in_names.txt")
_FIELD = re.compile(r".+(?:ology|onomy|ography|istry|osophy|ics)$")
_NATIONAL = re.compile(r".+(?:ian|ean|ese|ish|[rx]ican)s?$")


def introduced_name(persona: str) -> str | None:
    """Returns the name of the described person, or None."""
    full = _first_name(persona, _INTRODUCTIONS) or _titled_name(persona)
    return full or _first_name(persona, _LISTED_NAMES, _FIRST_NAMES.__contains__) or _single_name(persona)


def mentioned_name(persona: str) -> str | None:
    """Returns a full name in the description, or None. Also finds public figures and some companies and places."""
    return _first_name(persona, _MENTIONS)


def _first_name(
    persona: str, patterns: Sequence[re.Pattern[str]], is_name: Callable[[str], bool] | None = None
) -> str | None:
    for pattern in patterns:
        for match in pattern.finditer(persona):
            before = match.groupdict().get("before")
            if (before is None or names_person(before)) and (is_name or _is_name)(match["name"]):
                return match["name"]
    return None


def _titled_name(persona: str) -> str | None:
    match = _TITLED_NAME.match(persona)
    return match["name"] if match and _is_name(match["name"]) and not names_person(match["name"]) else None


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
