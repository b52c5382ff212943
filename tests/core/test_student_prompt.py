"""Prompts for the student under each template, with worked examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personahub.core.answers import check, extract
from personahub.core.errors import UserError
from personahub.core.texts.student_prompt import (
    FewShot,
    load_examples,
    shows_examples,
    stop_strings,
    student_prompt,
)

PROBLEM = "What is $6 \\cdot 7$? Braces {{ stay }}."


@pytest.mark.parametrize("template", ["solve", "base", "simple_evals", "few_shot"])
def test_every_template_asks_the_problem_once(template: str) -> None:
    (message,) = student_prompt(template)(PROBLEM)
    assert message["role"] == "user"
    assert message["content"].count(PROBLEM) == 1
    system, _ = student_prompt(template, "Be brief.")(PROBLEM)
    assert system == {"role": "system", "content": "Be brief."}


def test_examples_stand_before_the_problem_in_the_form_of_the_problem() -> None:
    examples = load_examples(FewShot(count=3))
    (message,) = student_prompt("few_shot", None, examples)(PROBLEM)
    blocks = message["content"].split("\n\nProblem:\n")
    assert len(blocks) == 4
    for block, example in zip(blocks[:3], examples, strict=True):
        assert block.removeprefix("Problem:\n") == f"{example.problem}\n\nSolution:\n{example.solution}"
    assert blocks[3] == f"{PROBLEM}\n\nSolution:"


def test_a_continuation_stops_before_the_next_problem() -> None:
    """A base model continues the pattern of the prompt, so the prompt must contain the stop string."""
    (message,) = student_prompt("few_shot", None, load_examples(FewShot()))(PROBLEM)
    assert all(stop in message["content"] for stop in stop_strings("few_shot"))
    assert stop_strings("base") == stop_strings("few_shot") == ("\nProblem:",)
    assert stop_strings("solve") == ()


def test_only_few_shot_shows_examples() -> None:
    assert [shows_examples(name) for name in ("solve", "base", "simple_evals", "few_shot")] == [False] * 3 + [True]


def test_the_built_in_examples_end_in_a_boxed_answer() -> None:
    examples = load_examples(FewShot(count=8))
    assert len({example.problem for example in examples}) == 8
    for example in examples:
        found = extract(example.solution)
        assert found.rule == "boxed"
        assert check(str(found.answer), example.solution).correct


def test_the_answer_line_of_the_simple_evals_prompt_is_read() -> None:
    assert check("42", "Six times seven.\n\nAnswer: 42").correct
    assert check(r"\frac{1}{2}", "It is half of it.\nAnswer: $\\frac{1}{2}$").correct
    assert check("42", "Six times eight.\n\nAnswer: 48").label == "wrong"


def test_built_in_examples_are_in_no_benchmark(test_data: Path) -> None:
    known = set()
    for file in ("math/test.jsonl", "math/train.jsonl", "gsm8k/test.jsonl"):
        for line in (test_data / file).open(encoding="utf-8"):
            row = json.loads(line)
            known.add("".join((row.get("problem") or row["question"]).split()).lower())
    assert not [e for e in load_examples(FewShot(count=8)) if "".join(e.problem.split()).lower() in known]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"problem": "1 + 1?", "solution": "2"}\n', "has 1 examples, fewer than few_shot.count: 2"),
        ('{"problem": "1 + 1?", "solution": "2"}\n{"problem": "2"}\n', "line 2: an example must look like"),
        ('{"problem": "1 + 1?", "solution": "2"}\nnot json\n', r"mine\.jsonl, line 2: not JSON"),
        ('{"problem": "1 + 1?", "solution": "2"}\n["a"]\n', "line 2: a row must be a JSON object"),
        ("\xff", "line 1: not JSON"),
    ],
)
def test_bad_example_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load_examples(FewShot(count=2, path=str(file)))


def test_a_missing_example_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine\.jsonl: no such file"):
        load_examples(FewShot(path=str(tmp_path / "mine.jsonl")))


def test_a_template_with_a_bad_stop_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.md"
    file.write_text("---\nversion: 1\nstop: Problem\n---\n## user\n{{ problem }}\n")
    with pytest.raises(UserError, match=r"mine.md: `stop` in the head must be a list of strings"):
        student_prompt(str(file))


def test_an_example_may_hold_any_character(tmp_path: Path) -> None:
    """U+2028 ends a line for `str.splitlines`, and none in JSON Lines."""
    file = tmp_path / "few_shot.jsonl"
    line = json.dumps({"problem": "a\u2028b", "solution": "c\x85d"}, ensure_ascii=False)
    file.write_text(f"{line}\n\n", encoding="utf-8")
    (example,) = load_examples(FewShot(count=1, path=str(file)))
    assert (example.problem, example.solution) == ("a\u2028b", "c\x85d")
