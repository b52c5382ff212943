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
from pathlib import Path

import yaml

from personahub.core.texts.words import read_words

WORDS = Path(__file__).with_name("words")

_WORDS_BY_LANGUAGE = {
    language: frozenset(words.split())
    for language, words in yaml.safe_load((WORDS / "language_words.yaml").read_text(encoding="utf-8")).items()
}

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
LANGUAGES = (*_WORDS_BY_LANGUAGE, *sorted(set(_SCRIPTS.values())))

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
    hits = {language: sum(map(known.__contains__, tokens)) for language, known in _WORDS_BY_LANGUAGE.items()}
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

_PERSON_WORDS = read_words(WORDS / "person_words.txt")
_THING_WORDS = read_words(WORDS / "thing_words.txt")


def person_word(word: str) -> bool:
    """Whether an English word names a person: an occupation, a role, a kind of relative, a national."""
    word = word.lower().removesuffix("'s").removesuffix("’s")
    return any(_is_person(part) for part in {word, word.rsplit("-", 1)[-1]})


def _is_person(word: str) -> bool:
    singular = word.removesuffix("s")
    if word in _PERSON_WORDS or singular in _PERSON_WORDS:
        return True
    return word not in _THING_WORDS and singular not in _THING_WORDS and bool(_PERSON_FORM.fullmatch(singular))
