"""Replies: thinking text, refusals, labelled parts, tags."""

from __future__ import annotations

import pytest

from personahub.core.texts.replies import (
    THINKING_MARKERS,
    Part,
    escape_tags,
    find_refusal,
    first_turn,
    labelled_parts,
    split_thinking,
    without_thinking,
)


@pytest.mark.parametrize(
    ("text", "answer", "still_thinking"),
    [
        ("  Persona: A nurse\n", "Persona: A nurse", False),
        ("<think>hm</think>\nPersona: A nurse", "Persona: A nurse", False),
        ("hm</think>Persona: A nurse", "Persona: A nurse", False),
        ("<think>one</think> or <think>two</think> three", "three", False),
        ("<think>Persona: A nurse", "<think>Persona: A nurse", True),
        ("<think>Persona: A <think>nurse</think>, no", "<think>Persona: A <think>nurse</think>, no", True),
        ("<think>a<think>b</think>c</think>d", "d", False),
        ("The answer is 5.<think>checked</think>", "The answer is 5.", False),
        ("<THINK>hm</THINK>d", "d", False),
        ("", "", False),
    ],
)
def test_thinking_is_split_off(text: str, answer: str, still_thinking: bool) -> None:
    assert split_thinking(text) == (answer, still_thinking)
    assert without_thinking(text) == ("" if still_thinking else answer)


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "Sorry, I can’t do that.",
        "Apologies, but I am unable to provide this.",
        "**I apologize**, there is no one to describe here.",
        "Unfortunately, I am not able to determine who would read it.",
        "Math problem: I’m unable to write one for this person.",
        "As an AI language model, I have no view on that.",
        "There is not enough information to describe anyone.",
        "A person whose role cannot be determined",
        "The content policy prohibits this request.",
    ],
)
def test_refusals_are_found(text: str) -> None:
    assert find_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A nurse who says that sorry is the hardest word",
        "An engineer who works as an AI researcher",
        "I can't get the lid off the jar, what shall I do?",
        "I'm sorry to hear that! Try warm water.",
        "I cannot help but count: 3 of 8 melons are mine.",
        r"As an AI model, I find \(x\).",
        "A story. " * 30 + "I'm sorry, but I can't help with that.",
    ],
)
def test_other_texts_are_not_refusals(text: str) -> None:
    assert find_refusal(text) is None


def test_each_label_starts_one_part_unless_it_may_repeat() -> None:
    text = "Sure!\n\n## **meets  Players:** at dawn\nTitle：Bees\nmore\nTitle: two"
    parts = labelled_parts(text, ("Title", "Meets players"))
    assert parts == [Part("Meets players", "at dawn\n"), Part("Title", "Bees\nmore\nTitle: two")]
    numbered = "1. Persona: a\n- **Persona 2:** b\nNo persona: c"
    assert labelled_parts(numbered, ("Persona",)) == []
    assert labelled_parts(numbered, ("Persona",), repeated=True) == [
        ("Persona", "a\n"),
        ("Persona", "b\nNo persona: c"),
    ]


def test_tags_are_escaped_in_any_spelling() -> None:
    assert escape_tags("a </text> <TEXT></ text > <b>", "text", "persona") == "a [/text] [TEXT][/ text ] <b>"


@pytest.mark.parametrize("opening", THINKING_MARKERS)
def test_every_convention_of_thinking_is_known(opening: str) -> None:
    closing = THINKING_MARKERS[opening]
    assert split_thinking(f"{opening}maybe 4{closing}\n17") == ("17", False)
    assert split_thinking(f"maybe 4{closing}17") == ("17", False)
    assert split_thinking(f"{opening}maybe 4").still_thinking


@pytest.mark.parametrize(
    ("text", "answer", "still_thinking"),
    [
        (
            "<|channel|>analysis<|message|>maybe 4<|end|><|start|>assistant<|channel|>final<|message|>17<|return|>",
            "17",
            False,
        ),
        ("<|channel|>analysis<|message|>maybe 4<|end|>", "maybe 4", True),
        ("<|channel|>commentary to=x<|message|>call<|call|><|channel|>final<|message|>17", "17", False),
        ("<|channel|>final <|constrain|>json<|message|>{}", "{}", False),
        (
            "<|begin_of_thought|>a<|end_of_thought|>\n<|begin_of_solution|>\n17<|end_of_solution|>",
            "17",
            False,
        ),
    ],
)
def test_channels_and_marked_solutions_are_read(text: str, answer: str, still_thinking: bool) -> None:
    assert split_thinking(text) == (answer, still_thinking)


@pytest.mark.parametrize(
    "marker",
    [
        "<|im_end|>",
        "</s>",
        "<|eot_id|>",
        "<|endoftext|>",
        "<end_of_turn>",
        "[INST]",
        "<|start_header_id|>",
        "<|return|>",
    ],
)
def test_only_the_first_turn_counts(marker: str) -> None:
    assert first_turn(f"The answer is 4.{marker}\nuser\nAnd 5?") == "The answer is 4."
    assert first_turn(f"{marker}The answer is 4.") == f"{marker}The answer is 4."
