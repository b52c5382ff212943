"""Where in a text the answer is, and which rule says so."""

from __future__ import annotations

import pytest

from personahub.core.answers import extract


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        # boxes
        (r"So we get \boxed{12}.", "12", "boxed"),
        (r"\boxed{3}, no: \boxed{\frac{1}{2}}", r"\frac{1}{2}", "boxed"),
        (r"\fbox{7} is it", "7", "boxed"),
        (r"\boxed 8$", "8", "boxed"),
        (r"\boxed{\text{a } \{1, 2\}}", r"\text{a } \{1, 2\}", "boxed"),
        (r"\boxed{ x = \boxed{5} }", "5", "boxed"),
        (r"first \boxed{4}, then \boxed{}", "4", "boxed"),
        (r"first \boxed{4}, then \boxed{\frac{1}{", "4", "boxed"),
        ("\x08oxed{6}", "6", "boxed"),  # "\b" read as a backspace
        (r"only \boxed{\sqrt{2", None, "boxed_unclosed"),  # the text ends inside: more may have followed
        # GSM8K
        ("48/2 = 24\n#### 72", "72", "hashes"),
        ("#### 1,000 dollars", "1,000 dollars", "hashes"),
        # phrases
        ("Hence the answer is 42.", "42", "answer_is"),
        ("The answer is 3.5 because it has to be.", "3.5", "answer_is"),
        ("Answer: .35625", ".35625", "answer_is"),
        ("The answer is .5.", ".5", "answer_is"),
        ("Answer: ...7", "7", "answer_is"),
        ("**Answer:** $x = 4$", "$x = 4$", "answer_is"),
        ("The final answer is $12$ and $13$. I hope it is correct.", "$12$ and $13$", "answer_is"),
        ("The answer is 1. No: the answer is 2.", "2", "answer_is"),
        ("Final Answer: The largest $n$ is 34.", "34", "answer_is"),
        ("The answer is (C) because the others are odd.", "(C)", "answer_is"),
        ("Final answer:\n\\[\n\\frac{2}{3}\n\\]", r"\frac{2}{3}", "answer_is"),
        # answers alone
        (r"\frac{1}{2}", r"\frac{1}{2}", "bare"),
        ("Evelyn", "Evelyn", "bare"),
        ("12 square inches", "12 square inches", "bare"),
        ("(-1, 2]", "(-1, 2]", "bare"),
        # last resorts
        ("There are 3 red balls. Then two more come.\n\n$3 + 2 = 5$", "$3 + 2 = 5$", "last_line"),
        ("We add the two numbers up. So it must be $x + 1$ in the end, as we said before.", "x + 1", "last_math"),
        ("We add the three numbers up and so we find that there must be 17 of them there.", "17", "last_number"),
        ("All of the others fail here, so after some thought I would say it is B.", "B", "last_letter"),
    ],
)
def test_extraction(text, answer, rule):
    found = extract(text)
    assert (found.answer, found.rule) == (answer, rule)


@pytest.mark.parametrize("text", ["", "   \n", "\\boxed{}", "I do not know. Let me think about it some more, please."])
def test_nothing_to_extract(text):
    assert extract(text).answer is None


def test_boxes_of_one_sentence_are_a_list_and_others_are_not_merged():
    assert extract(r"The roots are \boxed{1} and \boxed{2}.").answer == "1, 2"
    assert extract(r"\boxed{1} is what we had at first. After that we find \boxed{2}.").answer == "2"


def test_only_the_tail_of_a_huge_text_is_searched():
    assert extract("7 " * 2_000_000 + r"\boxed{5}").answer == "5"
