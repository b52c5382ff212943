"""Word lists that detect a text's language and whether a word names a person.

Both are meant for one-sentence descriptions, where statistical language identification is weakest and an
occupation is most of the evidence. The script decides first; languages in Latin script are distinguished by
their most common words. A word names a person by its form (-er, -ist, -ian, ...) or because it is listed.
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

# Unicode names of letters start with their script. Han alone counts as Chinese; any kana make it Japanese.
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

_FOREIGN_SHARE = 0.3  # of the letters: single names and terms stay below this, sentences exceed it

# Spanish, Portuguese, Italian, French and Dutch names say nothing about the language of the text.
_PARTICLES_IN_NAMES = re.compile(
    r"(?<=[^\W\d_] )(?:(?:da|das|de|del|della|den|der|des|di|do|dos|du|el|la|las|le|los|van|von) )+(?=[A-ZÀ-Þ])"
)
_WORD = re.compile(r"[^\W\d_]+")


@functools.lru_cache(maxsize=16)  # two checks in a row ask about the same persona
def detect_language(text: str) -> str | None:
    """Returns a sentence's language code from `LANGUAGES`, or None without evidence.

    Languages that share a non-Latin script have the same code (`ru` for all Cyrillic text).
    """
    if not text.isascii():
        script = _script_language(text)
        if script:
            return script
    tokens = _WORD.findall(_PARTICLES_IN_NAMES.sub("", text).lower())
    hits = {language: sum(map(known.__contains__, tokens)) for language, known in _WORDS_BY_LANGUAGE.items()}
    best = max(hits, key=lambda language: hits[language])
    if best != "en" and hits[best] >= 2 and hits[best] > hits["en"]:
        return best  # one word is not enough: "a K-pop fan en route"
    return "en" if hits["en"] else None


def _script_language(text: str) -> str | None:
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


_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['’-][^\W_]+)*")


def split_words(text: str) -> list[str]:
    """Returns the words of a description. A Chinese or Japanese character counts as a word."""
    return _TOKEN.findall(text)


def count_words(text: str) -> int:
    """Returns the number of words as `split_words` finds them."""
    return len(split_words(text))


_PERSON_FORM = re.compile(
    r"\w{2,}(?:er|or|ist|ian|yst|ant|(?<!m)ent|eer|man|men|woman|women|person|mother|father|eur|ee|ster|naut|phile|maniac)"
)

_PERSON_WORDS = read_words(WORDS / "person_words.txt")
_THING_WORDS = read_words(WORDS / "thing_words.txt")


def names_person(word: str) -> bool:
    """Returns whether an English word names a person. Jobs, roles, relatives and nationalities do."""
    word = word.lower().removesuffix("'s").removesuffix("’s")
    return any(_is_person(part) for part in {word, word.rsplit("-", 1)[-1]})


def _is_person(word: str) -> bool:
    singular = word.removesuffix("s")
    if word in _PERSON_WORDS or singular in _PERSON_WORDS:
        return True
    return word not in _THING_WORDS and singular not in _THING_WORDS and bool(_PERSON_FORM.fullmatch(singular))
