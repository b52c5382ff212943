"""Word lists, and the two judgements they serve: which language is this, and is it about a person?

Both are meant for one-sentence descriptions, where statistical language identification is at its
weakest and an occupation is most of the evidence. Scripts decide first; Latin text is told apart by
its commonest words. Whom a phrase describes is read off its first words: an occupation by its form
(-er, -ist, -ian, ...) or from the list of those that have none.
"""

from __future__ import annotations

import functools
import re
import unicodedata


def words(text: str) -> frozenset[str]:
    """A word list as a set, from one string."""
    return frozenset(text.split())


_STOP_WORDS = {
    "en": "the an and of in is to for with who whose that at on from their his her are has as by but not about than i",
    "de": "der die das und ein eine einer eines ist mit von für auf sich nicht den dem im zu hat als bei über ich",
    "fr": "le la les et un une des du est qui dans pour sur avec au aux ses son sa pas de je par",
    "es": "el la los las y un una que de en con para por su sus del al es soy se como más",
    "it": "il lo la gli le e un una che di per con del della degli nella dei è sono nel al suo",
    "pt": "o os as e um uma que de em com para por do da dos das no na é sou seu sua mais ao",
    "nl": "de het een en van in die met voor op is aan zijn niet te dat naar ook bij om",
    "sv": "en ett och som att av för med är på den det till om har jag inte i",
    "pl": "i w na z do jest który która się nie o oraz dla od przez",
    "tr": "ve bir bu için ile olan da de çok ben olarak",
}
_WORDS_OF = {language: words(text) for language, text in _STOP_WORDS.items()}

# Names of Unicode letters start with their script. Han alone is read as Chinese; kana decide for Japanese.
_SCRIPTS = {
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CYRILLIC": "ru",
    "ARABIC": "ar",
    "HEBREW": "he",
    "GREEK": "el",
    "THAI": "th",
    "DEVANAGARI": "hi",
    "BENGALI": "bn",
    "TAMIL": "ta",
}
LANGUAGES = (*_STOP_WORDS, *sorted(set(_SCRIPTS.values())))

_FOREIGN_SHARE = 0.3  # of the letters: names and terms in another script are less, sentences more

# Spanish, Portuguese, Italian, French and Dutch names are no evidence of the language they come from.
_PARTICLES_IN_NAMES = re.compile(
    r"(?<=[^\W\d_] )(?:(?:da|das|de|del|della|den|der|des|di|do|dos|du|el|la|las|le|los|van|von) )+(?=[A-ZÀ-Þ])"
)
_WORD = re.compile(r"[^\W\d_]+")


@functools.lru_cache(maxsize=16)  # two checks ask in turn about one persona
def detect_language(text: str) -> str | None:
    """Code of the language of a sentence, one of `LANGUAGES`; None where nothing tells.

    A script that one code stands for (`ru` for Cyrillic) is not told apart further.
    """
    if not text.isascii():
        script = _foreign_script(text)
        if script:
            return script
    tokens = _WORD.findall(_PARTICLES_IN_NAMES.sub("", text).lower())
    hits = {language: sum(map(known.__contains__, tokens)) for language, known in _WORDS_OF.items()}
    best = max(hits, key=lambda language: hits[language])
    if best != "en" and hits[best] >= 2 and hits[best] > hits["en"]:
        return best  # one word is no evidence: "a K-pop fan en route"
    return "en" if hits["en"] else None


def _foreign_script(text: str) -> str | None:
    letters = [character for character in text if character.isalpha()]
    counts: dict[str, int] = {}
    for letter in letters:
        script = unicodedata.name(letter, "LATIN").split(" ", 1)[0]
        if script != "LATIN":
            code = _SCRIPTS.get(script, script.lower())
            counts[code] = counts.get(code, 0) + 1
    if sum(counts.values()) <= _FOREIGN_SHARE * len(letters):
        return None
    return "ja" if counts.get("ja") else max(counts, key=lambda code: counts[code])


_PERSON_FORM = re.compile(
    r"\w{2,}(?:er|or|ist|ian|yst|ant|(?<!m)ent|eer|man|men|woman|women|person|mother|father|eur|ee|ster|naut|phile|maniac)"
)

_PERSON_WORDS = words(
    """
    academic ace actress adult advocate aficionado ally alum alumna alumnae alumni alumnus amateur apprentice
    architect associate athlete attorney aunt auntie baby bachelor beneficiary billionaire boss boy boyfriend bride
    bro brother buddy buff candidate captain celebrity ceo cfo chair champion chap character chauffeur chef chief
    child children citizen civilian classmate clerk clown coach colleague comedian companion comrade connoisseur
    contact cook couple cousin coworker critic cto curmudgeon cynic dad daughter delegate descendant devotee
    dictator diplomat doctor dropout dude elder elite employee enthusiast envoy everyman executive expat expatriate
    expert family fan fanatic fanboy fangirl fellow female fiancé fiancée figure folk foodie founder freak freshman
    friend gal geek ghost girl girlfriend goth governess grad graduate grandchild granddaughter grandma grandniece
    grandpa grandson guard guest guide guru guy head heir heiress hermit hero heroine host hostess human hunk
    husband individual infant insider intern introvert jock judge junior junkie justice kid king knight lad lady
    laureate lead local lord lover loyalist luminary machinist maestro magistrate magnate maid major male man mate
    matriarch maven mayor mechanic medic member men mentor merchant midwife millennial millionaire missionary mogul
    mom monarch monk mum musician mystic nanny national native neighbor neighbour nephew nerd newbie newlywed niece
    nobody nomad novice nun nurse official offspring oldie optimist orphan owner pal paralegal parent partner
    patient patriarch patriot peasant peer pensioner people person persona personality pharmacist phd physician
    pilot pioneer pirate playwright poet polyglot pope priest prince princess principal pro prodigy professional
    professor prophet pundit pupil puritan quarterback queen rabbi recluse recruit refugee relative rep
    representative rival rookie royal sage saint savant sceptic scholar scout secretary senior shepherd sibling
    sister skeptic smith soldier somebody someone son sophomore soul specialist sponsor spouse spy staff staffer
    stan star stewardess student superfan survivor teammate teen teenager toddler tot troll tutor twin tycoon uncle
    undergrad undergraduate vet veteran victim villager virtuoso visionary volunteer waitress warlord whiz widow
    widower wife witness wizard woman women worker youngster youth zealot
    """
)

_THING_WORDS = words(
    """
    accident after agreement ancient another answer apparent banner barrier beer behavior behaviour border browser
    butter calculator cancer career center centre chapter cider clever coffee color colour committee computer
    consider consist constant content corner counter cover current danger degree deliver dinner disaster discover
    disorder distant efficient either elevator enter error event ever excellent exist experiment extent exterior
    factor fee filter finger floor flower folder former four free further gender generator giant grant harbor higher
    hour however humor hunger implant important incident independent indicator inner insist instant interior larger
    later latter layer letter list liver lobster longer lower lumber matter meter mirror mist monitor motor neither
    never newer newspaper number odor offer older order other outdoor outer over paper patent per percent permanent
    plant poor poster power prayer present printer processor prominent proper quarter rather reactor recent receptor
    refer relevant remember resist restaurant river router scanner sector sensor server shelter shorter significant
    silver similar simulator smaller spent spider suffer sufficient summer superior thriller together tower tractor
    transfer transplant tree twist twitter under upper vibrant wastewater water weather whether winter
    """
)


def person_word(word: str) -> bool:
    """Whether an English word names a person: an occupation, a role, a kind of relative, a national."""
    word = word.lower().removesuffix("'s").removesuffix("’s")
    return any(_is_person(part) for part in {word, word.rsplit("-", 1)[-1]})


def _is_person(word: str) -> bool:
    singular = word.removesuffix("s")
    if word in _PERSON_WORDS or singular in _PERSON_WORDS:
        return True
    return word not in _THING_WORDS and singular not in _THING_WORDS and bool(_PERSON_FORM.fullmatch(singular))
