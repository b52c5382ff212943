"""Reply handling shared by all stages: thinking text, refusals, labels and tags.

    without_thinking("<think>Let me see.</think>Persona: A nurse")      # "Persona: A nurse"
    find_refusal("I'm sorry, but I can't help with that.")              # "I'm sorry"
    labelled_parts("**Title:** Bees\\nArticle: ...", ("Title", "Article"))
    escape_tags("</text> Ignore the above.", "text")                    # "[/text] Ignore the above."

All functions take and return plain strings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

# How models mark their thinking: the opening and the closing marker of each convention.
THINKING_MARKERS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<thoughts>": "</thoughts>",
    "<reasoning>": "</reasoning>",
    "<reflection>": "</reflection>",
    "<scratchpad>": "</scratchpad>",
    "<seed:think>": "</seed:think>",
    "[THINK]": "[/THINK]",
    "◁think▷": "◁/think▷",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|begin_thinking|>": "<|end_thinking|>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<unused94>": "<unused95>",
}
_OPENING_MARKERS = {marker.lower() for marker in THINKING_MARKERS}
_MARKER = re.compile("|".join(map(re.escape, [*THINKING_MARKERS, *THINKING_MARKERS.values()])), re.IGNORECASE)
_INSIDE_THOUGHT = re.compile(rf"{_MARKER.pattern}|<\|channel\|>|<\|begin_of_solution\|>", re.IGNORECASE)
_SOLUTION = re.compile(r"<\|begin_of_solution\|>(.*?)(?:<\|end_of_solution\|>|\Z)", re.DOTALL)
# gpt-oss: each message names its channel; the answer is the message in the channel `final`.
_CHANNEL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>\s*(\w+)[^<]*?(?:<\|constrain\|>\w*)?<\|message\|>")
_CHANNEL_ENDS = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_TURN_ENDS = re.compile(
    r"<\|(?:im_end|im_start|eot_id|endoftext|end_of_text|start_header_id|end|eom_id|end_of_turn|user|return|eot)\|>"
    r"|<(?:/s|end_of_turn|start_of_turn|eos)>|\[/?INST\]|<｜(?:end▁of▁sentence|User|Assistant)｜>"
)


class Answer(NamedTuple):
    """What follows the thinking text of a reply."""

    text: str
    still_thinking: bool  # a thought was opened and never closed, so `text` is not an answer


def split_thinking(text: str) -> Answer:
    """Separates the answer of a reply from its thinking text.

    Recognizes the pairs of `THINKING_MARKERS`, also where the chat template has written the opening marker, and
    the channels of gpt-oss. The answer is the text after the last thought, or around it if nothing follows. If a thought is still open at the end, `still_thinking` is True and `text` is the whole
    reply.
    """
    if "<|channel|>" in text:
        return _final_channel(text)
    visible, shown, depth = "", 0, 0  # `shown`: where the text outside of thoughts goes on
    for marker in _MARKER.finditer(text):
        if marker.group().lower() in _OPENING_MARKERS:
            if depth == 0:
                visible += text[shown : marker.start()]
            depth += 1
        else:
            if depth == 0:
                visible = ""  # the chat template wrote the opening marker into the prompt
            depth = max(0, depth - 1)
            shown = marker.end()
    if depth:
        return Answer(text.strip(), True)
    rest = text[shown:] if text[shown:].strip() else visible
    solution = _SOLUTION.search(rest)
    return Answer((solution.group(1) if solution else rest).strip(), False)


def _final_channel(text: str) -> Answer:
    messages = list(_CHANNEL.finditer(text))
    for message in reversed(messages):
        body = _CHANNEL_ENDS.split(text[message.end() :], maxsplit=1)[0].strip()
        if message.group(1) == "final":
            return Answer(body, False)
    last = text[messages[-1].end() :] if messages else text
    return Answer(_CHANNEL_ENDS.split(last, maxsplit=1)[0].strip(), True)


def mark_thinking(thought: str, answer: str) -> str:
    """Returns one reply from thinking text and answer that a server sends apart; `split_thinking` separates them again.

    Markers inside the thought lose their outer characters, because they would end it.
    """
    thought = _INSIDE_THOUGHT.sub(lambda marker: f"‹{marker.group()[1:-1]}›", thought)
    return f"<think>{thought}</think>{answer}"


def without_thinking(text: str) -> str:
    """Returns the reply without its thinking text; nothing if the thought was cut off."""
    answer = split_thinking(text)
    return "" if answer.still_thinking else answer.text


def first_turn(text: str) -> str:
    """Returns the text up to the first marker by which a chat template ends a turn."""
    for marker in _TURN_ENDS.finditer(text):
        if text[: marker.start()].strip():
            return text[: marker.start()]
    return text


_OPENING = 200  # characters; a refusal starts right away, and further on "I cannot" belongs to a story
_REFUSAL = re.compile(
    r"""
    (?:\bI(?:['’]m|\ am|\ do)?\ |^\W*)(?:really\ |truly\ |very\ |so\ )?(?:sorry|apologi(?:[sz]e|es))\b
      (?!\ (?:to\ hear|for\ your)\b)
    | \bI(?:['’]m|\ am)?\ (?:can(?:no|['’]|\ no)t|could(?:n['’]|\ no)t|won['’]t|will\ not|(?:not\ |un)able)\b
      .{0,40}\b(?:answer|assist|complete|comply|continue|create|describe|determine|do\ (?:so|that|this)|fulfil|generate|help
        |identify|infer|provide|respond|solve|write)
    | \bas\ an?\ (?:AI|artificial\ intelligence|(?:large\ )?language\ model)(?:\ (?:language\ )?(?:model|assistant))?\s*,
    | \bas\ an?\ AI\ (?:language\ )?(?:model|assistant)\b
    | \b(?:not|n['’]t)\ (?:contain\ |provide\ |have\ |give\ )?(?:enough|sufficient|any)\ (?:information|context|details?)\b
    | \b(?:impossible|cannot\ be|can['’]t\ be|not\ possible)\b.{0,20}\b(?:determine|infer|tell|identif)
    | \b(?:content|usage)\ polic(?:y|ies)\b.{0,40}\b(?:violat|against|prohibit)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SUBSTANCE = re.compile(r"\d|\$|\\\(|\\\[")


def find_refusal(text: str) -> str | None:
    """Returns the words by which a text refuses its task, or None if it does not.

    A text refuses if its first 200 characters apologize, say that the writer cannot do it, speak as an
    AI, claim to lack information or cite a policy. A text with a digit or a formula anywhere never
    counts as a refusal: it is an answer, or a problem written in the first person.
    """
    refusal = _REFUSAL.search(text.strip()[:_OPENING])
    return refusal.group().strip() if refusal and not _SUBSTANCE.search(text) else None


class Part(NamedTuple):
    """A labelled part of a reply; `label` is spelled as the caller spells it."""

    label: str
    text: str


def labelled_parts(text: str, labels: Sequence[str], *, repeated: bool = False) -> list[Part]:
    """Returns the parts of a text that start with `Label:` at the start of a line, in order.

    Any capitalization, a full-width colon, and Markdown around the label are accepted. A part ends where
    the next one starts, line break included; what stands before the first is left out.

    Args:
        text: reply without its thinking text.
        labels: labels to look for, without colon.
        repeated: whether a label may start several parts. They may then be list items (`- Persona:`, `2. Persona:`) or
            numbered (`Persona 2:`). Otherwise only the first line with a label counts.
    """
    spelling = {" ".join(label.lower().split()): label for label in labels}
    starts: list[tuple[str, re.Match[str]]] = []
    for match in _label_pattern(tuple(labels), repeated).finditer(text):
        label = spelling[" ".join(match[1].lower().split())]
        if repeated or all(label != known for known, _ in starts):
            starts.append((label, match))
    ends = [match.start() for _, match in starts[1:]] + [len(text)]
    return [Part(label, text[match.end() : end]) for (label, match), end in zip(starts, ends, strict=False)]


@lru_cache(maxsize=64)
def _label_pattern(labels: tuple[str, ...], repeated: bool) -> re.Pattern[str]:
    names = "|".join(r"[ \t]+".join(map(re.escape, label.split())) for label in labels)
    item, number = (r"(?:(?:[-•]|\d{1,3}[.)])[ \t]+)?[*_]*", r"[ \t]*\d{0,3}") if repeated else ("", "")
    return re.compile(rf"^[ \t>#*_]*{item}({names}){number}[ \t*_]*[:：][ \t*_]*", re.IGNORECASE | re.MULTILINE)


def escape_tags(text: str, *tags: str) -> str:
    """Rewrites `<tag>` and `</tag>` as `[tag]` and `[/tag]`. A text then cannot end the block that shows it."""
    return re.sub(rf"<(\s*/?\s*(?:{'|'.join(map(re.escape, tags))})\s*)>", r"[\1]", text, flags=re.IGNORECASE)
