"""Reject texts that do not describe a person or that have unwanted content.

    quality:
      run: personahub.quality
      inputs: {personas: personas_expanded}
      config: {min_words: 4, languages: [en, de]}

Every check is a pure function `(persona, config) -> detail or None`. Its name is the reason under which a
rejected persona is stored and counted. Checks run in the order of `CHECKS`, and the first one that returns a
detail determines the reason. The paper says that low-quality descriptions were filtered (section 2), but not
how, so these rules are our own. They reject typical faults of language models and anything that can identify
a real person. One in fifteen of the paper's released personas is a fan, friend or colleague of a named person;
`named_person: subject` keeps them, and then all but 1% pass.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from personahub.core.artifact import Counts
from personahub.core.config import StageConfig, TemplateFolder, suggest
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast, Work
from personahub.core.records import PERSONA
from personahub.core.stage import Shard, Stage
from personahub.core.template import load_template
from personahub.core.texts.replies import find_refusal
from personahub.core.texts.words import read_words
from personahub.personas.lexicon import LANGUAGES, WORDS, count_words, detect_language, names_person, split_words
from personahub.personas.names import introduced_name, mentioned_name
from personahub.prompts import PROMPTS

VERSION = "4"
INPUTS = ("personas",)
WORK = Work(cpu_seconds=0.00018, memory_bytes=150, disk_bytes=53, measured_by="benchmarks.million")


class Config(StageConfig):
    """Thresholds of the checks. Checks named in `skip` do not run."""

    min_words: int = Field(
        default=2, ge=1, description="Fewer words: too_short. A Chinese or Japanese character counts as a word."
    )
    max_words: int = Field(default=150, ge=1, description="More words: too_long.")
    languages: tuple[str, ...] = Field(default=("en",), description="Languages to keep; if empty, all.")
    named_person: Literal["subject", "mention"] = Field(
        default="mention",
        description="Reject named persons (`subject`), or also persons tied to one, such as 'a friend of Jane Smith'.",
    )
    max_copied_words: int = Field(default=7, ge=3, description="Longer copies of a prompt's words: prompt_copy.")
    min_distinct_share: float = Field(
        default=0.4, ge=0, le=1, description="Distinct words / words; a smaller share: repetition."
    )
    text_template: Annotated[str, TemplateFolder(PROMPTS)] = "text_to_persona"
    relation_template: Annotated[str, TemplateFolder(PROMPTS)] = "persona_to_persona"
    skip: tuple[str, ...] = ()

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        return _only_known(languages, LANGUAGES)

    @field_validator("skip")
    @classmethod
    def _known_checks(cls, checks: tuple[str, ...]) -> tuple[str, ...]:
        return _only_known(checks, CHECKS)


def _only_known(names: tuple[str, ...], known: Mapping[str, object] | tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is unknown. {suggest(name, known)}")
    return names


def run(stage: Stage[Config]) -> None:
    """Keep the personas that pass every check, and report their share."""
    stage.map_shards(process, stage.input("personas"), PERSONA)
    _, counts, _ = stage.totals()
    stage.report(pass_rate=pass_rate(counts))


def process(stage: Stage[Config], shard: Shard) -> None:
    """Check the personas of one shard."""
    for row in shard.rows():
        try:
            check(row["persona"], stage.config)
            check_profile(row.get("profile"), stage.config)
        except Rejected as error:
            shard.reject(row, error)
        else:
            shard.write(row)


def forecast(_config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast as many rows as come in. The share of rejected personas is not known in advance."""
    return Forecast(rows_out=rows_in["personas"])


def pass_rate(counts: Counts) -> float | None:
    """Return kept / read personas, or None if none were read."""
    return counts.rows_out / counts.rows_in if counts.rows_in else None


def check(persona: str, config: Config) -> None:
    """Run all checks.

    Raises:
        Rejected: with the name of the first check that fails.
    """
    for name, find_fault in CHECKS.items():
        if name not in config.skip:
            detail = find_fault(persona, config)
            if detail is not None:
                raise Rejected(name, detail)


# Checks that also apply to profiles. The check for names is not one of them: `Machine Learning` looks like a name.
PROFILE_CHECKS = ("contact_data", "refusal", "markup")


def check_profile(profile: str | None, config: Config) -> None:
    """Run `PROFILE_CHECKS` on every text of a structured persona's profile.

    Raises:
        Rejected: with the name of the first check that fails.
    """
    for text in _texts_in(json.loads(profile)) if profile else ():
        for name in PROFILE_CHECKS:
            detail = CHECKS[name](text, config) if name not in config.skip else None
            if detail is not None:
                raise Rejected(name, f"profile: {detail}")


def _texts_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _texts_in(part)]


_LONGEST_WORD = 20  # average characters per word; longer text does not consist of words


def too_short(persona: str, config: Config) -> str | None:
    """Reject personas with fewer words than `min_words`."""
    count = count_words(persona[: 100 * config.min_words])
    return f"{count} words" if count < config.min_words else None


_GENERIC = read_words(WORDS / "generic_words.txt")


def vague(persona: str, _config: Config | None = None) -> str | None:
    """Reject personas that say nothing about the person. Example: `an individual with various interests`."""
    return persona if all(word.lower() in _GENERIC for word in split_words(persona[:200])) else None


def too_long(persona: str, config: Config) -> str | None:
    """Reject personas with over `max_words` words. Many characters in fewer words count too."""
    if len(persona) > _LONGEST_WORD * config.max_words:
        return f"{len(persona)} characters"
    count = count_words(persona)
    return f"{count} words" if count > config.max_words else None


def refusal(persona: str, _config: Config | None = None) -> str | None:
    """Reject replies in which the model declines, apologizes or talks about itself."""
    return find_refusal(persona)


_LABEL = re.compile(
    r"(?:^|\s)(?:persona|relation)\s*\d*\s*:|</?(?:text|persona|problem)>"
    r"|\bwho is likely to (?:read|write|like|dislike)\b|\bone (?:person|persona) per line\b"
    r"|^\W*(?:sure|certainly|of course|here (?:is|are)|here['’]s|okay)\b.{0,60}[:!,]",
    re.IGNORECASE,
)
_SOURCE = (  # nouns for the text that a persona was made from
    r"(?:text|passage|excerpt|snippet|article|abstract|piece|post|blog|blog[ -]?post|web[ -]?page|page|document|essay|story|paper|report"
    r"|review|letter|e-?mail|section|paragraph|content|material|transcript|thread|comment|question|statement|description"
    r"|persona|writing|narrative|account|history|poem|guide|tutorial|recipe|website|site|news|study|information|announcement)s?"
)
_ITEM_OF_TEXT = (
    r"(?:text|passage|excerpt|snippet|article|abstract|piece|post|page|document|essay|story|paper|webpage)s?"
)
_DEICTIC = r"(?:this|these|said|(?:the\s+)?(?:given|provided|above|aforementioned|preceding|previous|following))"
_WRITER = r"(?:author|writer|reader|narrator|poster|reviewer|commenter|blogger|speaker|audience|creator|contributor|subject)s?"
_USES = (
    r"(?:read|reads|reading|wrote|writes|written|writing|saw|sees|seen|found|finds|published|posted|authored|enjoyed)"
)
_HEDGE = (
    r"(?:seem(?:s|ed)?|appear(?:s|ed)?|is\s+(?:likely|probably|possibly|perhaps|presumably)|probably|presumably|likely)"
)
_SOURCE_MENTION = re.compile(
    rf"""
    \b(?:the|this)\s+(?:(?:given|provided|above|following|web)\s+)*
      (?:text(?!\s+(?:editor|message|box|adventure|mining|of\b))|passage|excerpt|snippet|persona\s+description)\b
    | \b(?:given|provided|above|aforementioned)\s+(?:\w+\s+)?{_SOURCE}\b | \bthis\s+(?:\w+\s+)?{_SOURCE}\b
    | \b{_WRITER}\s+(?:\w+\s+)?(?:of|behind)\s+
      (?:{_DEICTIC}\s+(?:[\w-]+\s+){{0,2}}{_SOURCE}|the\s+(?:[\w-]+\s+){{0,2}}{_ITEM_OF_TEXT})\b   # the writer of this article
    | ^(?:the\s+)?{_WRITER}\s+of\s+(?:an?\s+|the\s+)?(?:[\w-]+\s+){{0,2}}(?:text|article|document|passage|abstract|post|page)\b
    | \b{_USES}\s+(?:\w+\s+){{0,2}}{_DEICTIC}\b(?!\s+(?:year|season|week|month|day|morning|kind|sort|type|way)|['’])  # who wrote about this history
    | ^(?:\w+\s+){{0,4}}who\s+(?:has\s+|had\s+|have\s+)?(?:just\s+)?(?:read|wrote|written)\s+(?:about\s+)?the\s+(?:[\w-]+\s+){{0,2}}{_ITEM_OF_TEXT}\b
    | \bwho\s+(?:likely|probably|possibly)\s+(?:has\s+|have\s+)?(?:wrote|written|writes|reads?)\b
    | \b(?:topic|subject|issue|event|situation|person|people|individual|product|method)s?\s+
      (?:described|mentioned|discussed|presented|outlined|referenced)\s*(?:$|[.,;])
    | \b(?:described|mentioned|depicted|portrayed|discussed|referred\s+to|referenced|quoted|named|featured|presented|outlined)
      \s+(?:(?:above|here|below)\b|(?:in|by)\s+(?:the|{_DEICTIC})\s+(?:[\w-]+\s+){{0,2}}{_SOURCE}\b)
    | ^(?:(?:this|these)\b|that\s+(?:person|author|writer|reader|individual)\b)(?!\s+(?:morning|year|season|day))
    | ^(?:the|this)\s+[\w-]+(?:\s+[\w-]+)?\s+{_HEDGE}\b                  # The author seems to ...
    | ^(?:the|this)\s+(?:{_WRITER}|person|individual|user|people)\s+(?:may|might|could|would|must)\b
    | \bthe\s+(?:original\s+)?author(?:['’]s|s['’]|s)?(?!\s+(?:of|who|whose|and)\b)(?=\W|$)
    | ^the\s+{_WRITER}(?:['’]s|\s+(?!of\b|who\b|whose\b|in\b|at\b|and\b)[\w-]+|\s*[,.]|$)
    """,
    re.IGNORECASE | re.VERBOSE,
)


def prompt_copy(persona: str, config: Config) -> str | None:
    """Reject copies of the prompt's labels, tags or words, and references to its text."""
    matched = _matched(_LABEL, persona) or _matched(_SOURCE_MENTION, persona)
    if matched:
        return matched
    size = config.max_copied_words + 1
    known = _prompt_runs(config.text_template, config.relation_template, size)
    copied = next((run for run in _runs(persona, size) if run in known), None)
    return " ".join(copied) if copied else None


@functools.cache
def _prompt_runs(text_template: str, relation_template: str, size: int) -> frozenset[tuple[str, ...]]:
    rendered = [
        load_template(name, PROMPTS).render(text="", mode=mode, granularity=granularity, count=count)
        for name, mode, granularity, count in itertools.product(
            (text_template, "text_to_persona_structured"),
            ("read", "write", "like", "dislike"),
            ("fine", "medium", "coarse"),
            (1, 2),
        )
    ]
    rendered += [
        load_template(name, PROMPTS).render(persona="", count=count)
        for name, count in itertools.product((relation_template, "persona_to_persona_structured"), (1, 2))
    ]
    lines = {line for messages in rendered for message in messages for line in message["content"].splitlines()}
    return frozenset(run for line in lines for run in _runs(line, size))


def _runs(text: str, size: int) -> list[tuple[str, ...]]:
    tokens = [word.lower() for word in split_words(text)]
    return [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]


_MARKUP = re.compile(
    r"""
    ```|\*\*|__|^\#+\s|</?[a-z][^<>]{0,60}>|&(?:amp|lt|gt|quot|nbsp|\#\d+);   # Markdown and HTML
    | \{[^{}]{0,80}\}|\[[^\[\]]{1,60}\]|<[a-z_ ]{2,30}>                       # placeholders: {name}, [name], <name>
    | ^\s*(?:[-*•]|\d{1,2}[.)])\s                                             # an item of a list
    | \\[ntu]|[\x00-\x08\x0b-\x1f\x7f\ufffd]|\n                               # escapes, control characters, line breaks
    | \blorem\ ipsum\b|\b(?:TBD|XXX+)\b|^\W*(?:N/?A|none|null|unknown|undefined)\W*$|\binsert\ \w+\ here\b
    """,
    re.IGNORECASE | re.VERBOSE,
)


def markup(persona: str, _config: Config | None = None) -> str | None:
    """Reject formatting, placeholders and broken text instead of a plain sentence."""
    return _matched(_MARKUP, persona)


_CONTACT = re.compile(
    r"""
    (?<![\w.+-])[\w.+-]+\s?(?:@|[\[(]\s?at\s?[\])])\s?[\w-]+\s?(?:\.|[\[(]\s?dot\s?[\])])\s?\w+  # e-mail, also spelled out
    | \b[\w.+-]+\s(?:at|AT)\s[\w-]+\s(?:dot|DOT)\s\w{2,}
    | \bhttps?://|\bwww\.\w|\b[\w-]+\.(?:com|org|net|info|edu|gov|io|co\.uk)/\w      # address of a page
    | (?<![\w.,@/-])@\w{3,}                                                          # handle
    | \b\d{1,5}[a-z]?\s(?:[A-Z][\w'’.-]*\s){1,3}(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Boulevard|Blvd|Drive|Close)\b
    | \b[A-ZÄÖÜ][\wäöüß-]*(?:straße|strasse|str\.|weg|platz|gasse|allee)\s\d{1,4}[a-z]?\b
    | \b\d{1,4},?\s(?:rue|avenue|boulevard|place|chemin|impasse|quai)\s(?:du|des?|d['’]|l['’]|la)
    | \b(?:Calle|Avenida|Plaza|Via|Viale|Piazza|Rua)\s(?:\w+\s){0,2}[A-Z]\w+,?\s\d{1,4}\b
    """,
    re.VERBOSE,
)
_DIGITS = re.compile(r"(?<![\w.])(?:\+|\(\+?)?\d(?:[\s().-]{0,2}\d){6,17}(?!\w)")
_BOOK = re.compile(r"\bISBN[\s:-]*(?:1[03][\s:]+)?[\d\s-]{9,17}[\dX]")
_DATE_OR_RANGE = re.compile(
    r"\d+\.\d+|\d{4}\s?[-–./]\s?\d{1,2}(?:\s?[-–./]\s?\d{1,2})?|\d{1,2}[-./]\d{1,2}[-./]\d{4}|\d{4}\s?[-–]\s?\d{4}|\d+"
)


def contact_data(persona: str, _config: Config | None = None) -> str | None:
    """Reject e-mails, phone numbers, URLs, handles and street addresses. Covers five languages."""
    persona = _BOOK.sub("", unicodedata.normalize("NFKC", persona))  # full-width @ and digits, too
    matched = _matched(_CONTACT, persona)
    if matched:
        return matched
    numbers = (match.group() for match in _DIGITS.finditer(persona))
    return next((number for number in numbers if _looks_like_phone_number(number)), None)


def _looks_like_phone_number(number: str) -> bool:
    if number.startswith(("+", "(")):
        return True
    return not _DATE_OR_RANGE.fullmatch(number) and (bool(re.search(r"\d[\s.-]\d", number)))


_RUN_OF_ONE = re.compile(r"(\S)\1{5,}|(\b\w+\b)(?:\W+\2\b){3,}", re.IGNORECASE)
_REPEATED_RUN = 3  # three words that occur three times are a loop


def repetition(persona: str, config: Config) -> str | None:
    """Reject loops of a character, word or phrase, and texts with few distinct words."""
    matched = _matched(_RUN_OF_ONE, persona)
    if matched:
        return matched
    runs = Counter(_runs(persona, _REPEATED_RUN))
    most, times = max(runs.items(), key=lambda item: item[1], default=((), 0))
    if times >= _REPEATED_RUN:
        return f"{' '.join(most)!r} {times} times"
    tokens = [word.lower() for word in split_words(persona)]
    share = len(set(tokens)) / len(tokens) if len(tokens) >= 12 else 1.0
    return f"{share:.2f} of the words are distinct" if share < config.min_distinct_share else None


def language(persona: str, config: Config) -> str | None:
    """Reject texts whose script or common words show a language not in `languages`."""
    detected = detect_language(persona) if config.languages else None
    return None if detected is None or detected in config.languages else detected


def named_person(persona: str, config: Config) -> str | None:
    """Reject persons with a full name. With `named_person: mention`, also reject persons tied to one."""
    name = introduced_name(persona)
    return name or (mentioned_name(persona) if config.named_person == "mention" else None)


_FIRST_WORDS = 12  # all but 1% of the released English personas mention the person in their first 12 words
_FIRST_PERSON = re.compile(r"\b(?:I|I['’]m|my)\b|\b(?:who|whose)\b", re.IGNORECASE)


def not_a_person(persona: str, _config: Config | None = None) -> str | None:
    """Reject English texts that do not start with a person. Examples: things, firms, questions."""
    if persona.rstrip().endswith("?"):
        return "a question"
    if detect_language(persona) not in ("en", None):
        return None
    start = re.findall(r"[\w'’-]+", persona)[:_FIRST_WORDS]
    if any(names_person(word) for word in start) or _FIRST_PERSON.search(" ".join(start)):
        return None
    return " ".join(start)


def _matched(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match.group().strip() or "line break" if match else None


CHECKS: dict[str, Callable[[str, Config], str | None]] = {
    "too_short": too_short,
    "too_long": too_long,
    "vague": vague,
    "refusal": refusal,
    "prompt_copy": prompt_copy,
    "markup": markup,
    "contact_data": contact_data,
    "repetition": repetition,
    "named_person": named_person,
    "language": language,
    "not_a_person": not_a_person,
}
