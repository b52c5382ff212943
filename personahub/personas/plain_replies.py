"""Reads the people in plain replies of both expansion stages, whatever the layout.

    read_people(reply("Persona: A nurse\\nPersona: A baker"))            # two people
    read_people(reply("Relation: aunt\\nPersona: A clerk"), relations=True)

The prompts ask for lines `Persona: ...`, or pairs of lines `Relation: ...` and `Persona: ...`. Models also write
several labels on one line, headings with the description below, JSON, lists without labels, bold type, quotation
marks and comments. Each of these is read if it leaves no doubt about where a description starts and ends. What is
doubtful is left out, and the rest of the reply is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from personahub.core.engines import Completion
from personahub.core.errors import Rejected
from personahub.core.texts.replies import find_refusal, without_thinking
from personahub.personas.json_replies import json_items
from personahub.personas.lexicon import count_words, detect_language, names_person


class Described(NamedTuple):
    """A person in a reply; `relation` is empty in Text-to-Persona."""

    relation: str
    persona: str


class _Block(NamedTuple):
    """A label or list item with its lines. The first line is the text behind the label or bullet."""

    label: str
    lines: list[str]


def read_people(completion: Completion, *, relations: bool = False) -> list[Described]:
    """Returns the distinct people in a reply, in order; at least one.

    If the reply was cut off, the last person is left out unless a line break or the JSON syntax shows its end.

    Args:
        completion: the reply.
        relations: whether each person must have a relation.

    Raises:
        Rejected: nobody can be read: `truncated`, `refusal`, `no_label`, `unlabelled_line`, `empty_line`,
            `unexpected_label` or `unpaired_line`.
    """
    text = without_thinking(completion.text) if completion.truncated else completion.whole_text()
    people = _from_json(text, relations)
    if not people:
        lines = split_lines(text)
        blocks = _labelled(lines[:-1] if completion.truncated else lines)
        try:
            people = _from_labels(blocks, relations) if blocks else _from_list(text, completion.truncated, relations)
        except Rejected:
            completion.whole_text()  # if the reply was cut off, that is the reason
            raise
    return distinct(people)


def distinct(people: Iterable[Described]) -> list[Described]:
    """Drops people whose description repeats an earlier one."""
    return list({normalise(person.persona): person for person in reversed(list(people))}.values())[::-1]


def normalise(persona: str) -> str:
    """Form in which two equal descriptions are equal strings: words only, case folded, no leading article."""
    words = re.findall(r"\w+", persona.casefold())
    return " ".join(words[1:] if words[:1] in (["a"], ["an"], ["the"]) else words)


def _from_json(text: str, relations: bool) -> list[Described]:
    people = [_from_item(item) for item in json_items(text)]
    return [person for person in people if person.persona and bool(person.relation) >= relations]


def _from_item(item: Any) -> Described:
    if not isinstance(item, dict):
        return Described("", clean(item) if isinstance(item, str) else "")
    values = {key.casefold(): clean(value) for key, value in item.items() if isinstance(value, str)}
    relation = values.get("relation") or values.get("relationship") or ""
    return Described(relation, values.get("persona") or values.get("description") or "")


_NUMBER = r"[ \t]*(?:\#?\d{1,3}|\(\d{1,2}\)|\[\d{1,2}\]|I{1,3}|IV|[A-E]|[Oo]ne|[Tt]wo|[Tt]hree|[Ff]our|[Ff]ive)?"
_INLINE_LABEL = re.compile(
    rf"(?<=\S)[ \t]*[;,|/–—-]*[ \t]+(?P<number>\(?\d{{1,3}}[.)][ \t]+)?(?=[*_]*(?:Persona|Relation(?:ship)?){_NUMBER}[ \t]*[*_]*[:：])"
)
_LABEL = re.compile(
    rf"""^[ \t>#*_"“”'«`]*(?:(?:[-•–+]|\(?\d{{1,3}}[.):])[ \t]+)?[ \t*_"“«`]*
    (?:(?:[Ff]irst|[Ss]econd|[Tt]hird|[Ff]ourth|[Ff]ifth|1st|2nd|3rd|[4-9]th)[ \t]+)?
    (?P<label>[Pp]ersona|PERSONA|[Pp]erson|PERSON|[Rr]elation(?:ship)?|RELATION(?:SHIP)?)
    (?:{_NUMBER}(?:[ \t](?:to|with)[ \t][^:\n]{{1,40}})?[ \t*_]*[:：]|[ \t]*\#?\d{{1,3}}[ \t*_]*(?:[.)–—-](?=[ \t])|$)|[ \t]*\*\*[ \t]*$)[ \t*_]*""",
    re.VERBOSE,
)


_LETTERS = re.compile(r"[^\W\d_]")  # before an inline label; otherwise it is behind a bullet or number


def split_lines(text: str) -> list[str]:
    """Splits a reply into lines that hold at most one label."""
    lines = []
    for line in re.sub(r"<br ?/?>", "\n", text).splitlines():
        numbered = _ITEM.match(line)  # otherwise the number before a label ends the sentence before it
        labels = [match for match in _INLINE_LABEL.finditer(line) if _LETTERS.search(line, 0, match.start())]
        ends = [match.start() if numbered or not match["number"] else match.end() for match in labels]
        begins = [0, *(match.end() for match in labels)]
        lines += [line[begin:end] for begin, end in zip(begins, [*ends, len(line)], strict=True)]
    return lines


def _labelled(lines: Sequence[str]) -> list[_Block]:
    blocks: list[_Block] = []
    for line in lines:
        match = _LABEL.match(line)
        if match:
            label = "relation" if match["label"].lower().startswith("relation") else "persona"
            blocks.append(_Block(label, [line[match.end() :]]))
        elif blocks:
            blocks[-1].lines.append(line)
    return blocks


def _from_labels(blocks: Sequence[_Block], relations: bool) -> list[Described]:
    if not relations:
        other = next((block.label for block in blocks if block.label != "persona"), None)
        if other:
            raise Rejected("unexpected_label", other)
        return _sound([(Described("", description(block.lines)), block) for block in blocks])
    pairs = []
    for first, second in zip(blocks[::2], blocks[1::2], strict=False):
        if (first.label, second.label) != ("relation", "persona"):
            break  # from here on, it is not clear which relation belongs to which persona
        pairs.append((Described(first_line(first.lines), description(second.lines)), second))
    if not pairs:
        raise Rejected("unpaired_line", f"the labels are {', '.join(block.label for block in blocks[:6])}")
    return [person for person in _sound(pairs) if person.relation] or _reject_empty("relation")


def _sound(people: Sequence[tuple[Described, _Block]]) -> list[Described]:
    """The people whose description could be read."""
    sound = [person for person, _ in people if person.persona]
    if not sound:
        doubtful = next((block for _, block in people if first_line(block.lines)), None)
        if doubtful is None:
            _reject_empty("persona")
        else:
            raise Rejected("unlabelled_line", f"{' '.join(doubtful.lines).strip():.100}")
    return sound


def _reject_empty(label: str) -> list[Described]:
    raise Rejected("empty_line", f"nothing after '{label}:'")


_ITEM = re.compile(r"^(?P<indent>[ \t]*)(?:(?:[-*•–+]|\(?(?:\d{1,3}|[a-e])[.):])[ \t]+(?=\S)|\d{1,2}[.)](?=[A-Z]))")
_INLINE_NUMBER = re.compile(r"(?:^|(?<=\s))\(?(\d{1,2})[.)][ \t]+(?=\S)")
_TITLED = re.compile(r"^(?P<title>[*_]*[^:–—*_]{2,50}?[*_]*)[ \t]*(?:[:：–—]|[ \t]-(?=[ \t]))[ \t*_]*(?P<text>\S.*)$")
_BARE = re.compile(r"(?:An?|The|Someone|Anyone|People|Person)\s", re.IGNORECASE)


def _from_list(text: str, truncated: bool, relations: bool) -> list[Described]:
    """Reads a list without labels, or lines that all describe people."""
    refusal = find_refusal(text)
    if not refusal:
        lines = _split_numbers("\n".join(text.splitlines()))
        lines = lines[:-1] if truncated else lines
        items = [description(block.lines) for block in _items(lines)]
        titled = [_titled(item, relations) for item in items or ([] if relations else _bare_lines(lines))]
        people = [person for person in titled if person and _looks_like_person(person.persona)]
        if people and 2 * len(people) > len(titled):  # otherwise it is a list of something else
            return people
    raise Rejected("refusal" if refusal else "no_label", f"{text:.100}")


def _split_numbers(text: str) -> list[str]:
    """Splits a reply into lines, and a line `1. ... 2. ...` before each number."""
    lines = []
    for line in text.split("\n"):
        numbers = list(_INLINE_NUMBER.finditer(line))
        if len(numbers) > 1 and [int(number[1]) for number in numbers] == list(range(1, len(numbers) + 1)):
            starts = [number.start() for number in numbers]
            lines += [line[: starts[0]]]
            lines += [line[start:end] for start, end in zip(starts, [*starts[1:], len(line)], strict=True)]
        else:
            lines.append(line)
    return lines


def _items(lines: Sequence[str]) -> list[_Block]:
    """The items of the outermost list."""
    blocks: list[_Block] = []
    indent = None
    for line in lines:
        match = _ITEM.match(line)
        if match and (indent is None or len(match["indent"]) <= indent):
            indent = len(match["indent"]) if indent is None else indent
            blocks.append(_Block("", [line[match.end() :]]))
        elif blocks:
            blocks[-1].lines.append(line)
    return blocks


def _bare_lines(lines: Sequence[str]) -> list[str]:
    """The lines of a reply in which every line describes a person, apart from a heading and a closing comment."""
    texts = [line.strip() for line in lines if line.strip()]
    if texts and texts[0].endswith(":"):
        texts = texts[1:]
    if texts and _COMMENT.match(texts[-1]):
        texts = texts[:-1]
    fit = all(_BARE.match(clean(text)) and count_words(text) >= _STANDS_ALONE for text in texts)
    return [clean(text) for text in texts] if fit else []


def _titled(item: str, relations: bool) -> Described | None:
    """Splits `title: text` into relation and persona, or drops a title before a complete description."""
    match = _TITLED.match(item)
    if relations:
        return Described(clean(match["title"]), clean(match["text"])) if match else None
    if match and _BARE.match(match["text"]) and count_words(match["text"]) >= _STANDS_ALONE:
        return Described("", clean(match["text"]))
    return Described("", item)


def _looks_like_person(persona: str) -> bool:
    words = re.findall(r"[\w'’-]+", persona)[:12]
    return any(map(names_person, words)) or detect_language(persona) not in ("en", None)


_STANDS_ALONE = 5  # words: a line this long is a description, and what follows is not needed to understand it
_RULE = re.compile(
    r"^[ \t]*(?:[-*_=~]{2,}|\(?\d{1,3}[.):]?|[#*_ \t]*(?:Pair|Person|Persona)?[ \t]*\d{1,2}[*_ \t:.]*)[ \t]*$"
)
_CONTINUES = re.compile(r"^[ \t]*(?:[a-zà-ÿ(]|(?:He|She|They|His|Her|Their|This person|The person)\b)")
_DETAIL = re.compile(r"^[ \t*_]*(?:Description|Details?|Profile|Summary)[ \t*_]*[:：][ \t*_]*(?=\S)", re.IGNORECASE)
_COMMENT = re.compile(
    r"^[ \t>*_(]*(?:I hope|I have|I['’]ve|I tried|Hope|Let me know|Please|Note|Notes|These|Those|Both|All|Each|Feel free|If you"
    r"|Would you|Is there|Do you|In (?:summary|conclusion|this|each)|Overall|Explanation|Reason\w*|Rationale|Justification"
    r"|The (?:first|second|above|two|three|personas?|descriptions?)|This (?:description|persona|reply|answer|text)|Here)\b",
    re.IGNORECASE,
)


def description(lines: Sequence[str]) -> str:
    """Returns the description in the lines of a block, or nothing if they leave doubt where it ends."""
    filled = [number for number, line in enumerate(lines) if clean(line) and not _RULE.match(line)]
    if not filled:
        return ""
    value, rest = clean(lines[filled[0]]), list(lines[filled[0] + 1 :])
    while rest and _CONTINUES.match(rest[0]) and not _COMMENT.match(rest[0]):
        value = f"{value} {clean(rest.pop(0))}"
    if not rest or count_words(value) >= _STANDS_ALONE:
        return value
    following = [line for line in rest if line.strip() and not _RULE.match(line)]
    if not following or _COMMENT.match(following[0]):
        return value
    below = clean(_DETAIL.sub("", following[0]))  # a title with the description below
    if (_BARE.match(below) or below != clean(following[0])) and count_words(below) >= _STANDS_ALONE:
        return below
    return value if not rest[0].strip() and not _ITEM.match(following[0]) else ""


def first_line(lines: Sequence[str]) -> str:
    """Returns the text of the first line, or of the next one below an empty label."""
    return next((clean(line) for line in lines if clean(line) and not _RULE.match(line)), "")


_QUOTES = {'"': '"', "“": "”", "«": "»", "'": "'"}


def clean(value: str) -> str:
    """Puts a value on one line and removes bold type and quotation marks around it, and separators at its end."""
    value = " ".join(re.sub(r"\*\*|__", "", value).split()).strip("*_ ").rstrip("|;–—•` ")
    if len(value) > 2 and _QUOTES.get(value[0]) == value[-1]:
        value = value[1:-1].strip()
    elif value.endswith(('"', "”")) and not re.search(r'["“].', value):
        value = value[:-1].rstrip()  # the opening mark stood before the label
    return value
