"""Full names of people in a persona's description, found by their form and place.

`Massimiliano Bartoli, a chef` is a named person, `Taxi Driver, a veteran` is none, and `a friend of
Thomas Russell` is tied to one. There is no list of names behind this: capitals, honorifics and the
words around decide. A first name that stands alone counts where it introduces (`Sam, a travel blogger`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from personahub.personas.lexicon import person_word, words

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

# Title-case occupations look like names; surnames such as Baker or Smith are left out on purpose.
_TITLES = words(
    """
    accountant administrator agent ambassador analyst annoyed aspiring assistant attendant attorney author banker buyer captain
    cashier chef chief clerk coach colonel commander conductor consultant contractor controller coordinator
    counsellor counselor critic curator dealer designer detective developer director doctor driver editor employee
    engineer enthusiast executive expert fan farmer father firefighter former founder guard hacker head inspector
    instructor investigator judge junior justice lawyer lead leader learner lecturer lieutenant listener manager
    mayor mechanic member mentor minister mother nurse officer operator organizer owner parent partner pastor
    patient photographer physician pilot planner player poet practitioner president producer professional professor programmer
    reader reporter representative researcher resident retired reviewer sailor sales scholar secretary senior
    sergeant singer soldier specialist student supervisor surgeon surveyor teacher teller tester trader trainer
    translator traveler traveller tutor user vendor veteran volunteer voter waiter warden worker worried writer
    """
)
_TITLE_FORM = re.compile(r".{3,}(?:ologist|grapher|ician|eer|[^v]ist|yst|maker|worker|keeper|master|person)s?$")
_NOT_IN_NAMES = words(
    """
    Academy Association Authority Board Book Books Brothers Bureau Business Center Centre Church City Clinic Club College
    Commission Committee Company Computer Corporation Council County Court Day Department Design Development District
    East Education Emeritus Empire Engineering Festival Foundation Games Group Health High History Hospital Hotel House
    Industries Institute Intelligence International Island Islands Lake League Learning Library Management Mathematics
    Ministry Mountain Museum National Network North Office Olympic Olympics Orchestra Organization Park Party Power
    Province Railway Region Republic River School Science Sciences Security Server Service Services Software South
    State States Street Studies Studio Studios System Systems Team Technology The Trust Union United University
    Valley Village War Web West World
    Affairs Agency Aires Arts Athletics Awards Bay Borough Boroughs Boys Cavaliers Channel Chemistry Cloud Clubs
    Community Conservation Cup Disease Drive Engine Fantasy Federation Forest Functions Gas Girl Heights Hotels
    Identification Initiative Kong Lanka Municipality Networks Parliament Physics Platform Policy Publishing Racing
    Rapid Ridge Secondary Society Subdistrict Tigers Titles Transit Wars Zealand
    Apache Auto Bahn Beef Deutsche Grand Process Processes Real Theorem
    An Das Der Die Een Ein Eine El Los Um Uma Un Una Une
    """
)
_FIELD = re.compile(r".+(?:ology|onomy|ography|istry|osophy|ics)$")
_NATIONAL = re.compile(r".+(?:ian|ean|ese|ish|[rx]ican)s?$")


def introduced_name(persona: str) -> str | None:
    """The name of the person described, or None."""
    return _first_name(persona, _INTRODUCTIONS) or _single_name(persona)


def mentioned_name(persona: str) -> str | None:
    """A full name anywhere in the description, or None. Finds public figures too, and some firms and places."""
    return _first_name(persona, _MENTIONS)


def _first_name(persona: str, patterns: Sequence[re.Pattern[str]]) -> str | None:
    for pattern in patterns:
        for match in pattern.finditer(persona):
            before = match.groupdict().get("before")
            if (before is None or person_word(before)) and _is_name(match["name"]):
                return match["name"]
    return None


def _single_name(persona: str) -> str | None:
    match = _FIRST_NAME.match(persona)
    name = match["name"] if match else ""
    # -er, -or, -an and -ist cost some names (Spencer, Susan); occupations that stand in front are commoner.
    is_word = _NO_FIRST_NAME.match(name) or person_word(name) or name.lower() in _TITLES or name in _NOT_IN_NAMES
    return None if not name or is_word else name


def _is_name(phrase: str) -> bool:
    parts = [re.sub(r"['’]s?$", "", part) for part in re.sub(rf"^{_HONORIFIC}\s", "", phrase).split()]
    if any(part in _NOT_IN_NAMES for part in parts) or _NATIONAL.match(parts[-1]) or _FIELD.match(parts[-1]):
        return False
    return not any(part.lower().removesuffix("s") in _TITLES or _TITLE_FORM.match(part) for part in parts)
