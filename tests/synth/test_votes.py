"""Votes of samples: the program in a reply, boxes and printed lines."""

from __future__ import annotations

import time

import pytest

from synth.sandbox.programs import ProgramResult
from synth.voting.votes import cast_votes, program_of


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("Here:\n```python\nprint(1)\n```", "print(1)"),
        ("```py\nprint(1)\n```\nbetter:\n```Python3\nx = 2\nprint(x)\n```\nDone.", "x = 2\nprint(x)"),
        ("```\nprint(1)\n```", "print(1)"),
        ("```python\nprint(1)", None),
        ("print(1)", None),
        ("```python\n\n```", None),
        ("```python\nprint(1)\n```\n```python\nprint(2)", "print(1)"),  # the last was cut off
        ('```json\n{"a": 12}\n```\nNow the program:\n```python\nprint(84)\n```\n', "print(84)"),
        ("```text\nplan: multiply\n```\n\n```python\nprint(84)\n```", "print(84)"),
        ("```bash\npip install sympy\n```\nThen:\n```python\nprint(84)\n```", "print(84)"),
        ("```python\nprint(84)\n```\nOutput:\n```\n84\n```\nSo it is 84.", "print(84)"),
        ("```python\nprint(84)\n```\n```output\n84\n```", "print(84)"),
        ("```python\nprint(84)\n```\n```\n84", "print(84)"),
        ("Input:\n```\n12 7\n```\n```\nprint(84)\n```", "print(84)"),
        ("```json\n{}\n```", None),
        ('```Python 3.11 title="a.py"\nprint(1)\n```', "print(1)"),
        ("```{.python}\nprint(1)\n```", "print(1)"),
        ("```python-repl\n>>> 1\n```", None),
        ("```python\r\nx = 1\r\nprint(x)\r\n```\r\nOutput:\r\n```\r\n1\r\n```\r\n", "x = 1\nprint(x)"),
        ("1. So:\n   ```python\n   if True:\n       print(1)\n   ```", "if True:\n    print(1)"),
        ("- ```python\n  print(1)\n  ```", "print(1)"),
        ("The code: ```python\nif 1:\n    print(1)\n``` Done.", "if 1:\n    print(1)"),
        ("~~~python\nprint(1)\n~~~\n~~~\n1\n~~~", "print(1)"),
        ("````python\nprint('''\n```\n''')\n````", "print('''\n```\n''')"),
        ("````markdown\n```python\nprint(1)\n```\n````", "print(1)"),
        ("Use ```x``` here.\n```python\nprint(1)\n```\nand ```print(2)```", "print(1)"),
        ("```python\nx = 5  # a ``` in it: ```\nprint(x)\n```", "x = 5  # a ``` in it: ```\nprint(x)"),
        ("```python\nprint(1)\n```\n```python\n\n```", "print(1)"),
    ],
)
def test_the_program_is_the_last_whole_block_of_python(text: str, program: str | None) -> None:
    assert program_of(text) == program


def test_votes_are_cast_by_boxes_and_printed_lines() -> None:
    def sample(kind: str, text: str, finish_reason: str = "stop") -> dict:
        return {"kind": kind, "text": text, "model": "m", "finish_reason": finish_reason}

    code = "```python\nprint(1)\n```"
    samples = [
        sample("cot", r"so $\boxed{\frac12}$."),
        sample("cot", r"so $\boxed{3}$ an", "length"),
        sample("cot", "The answer is 4."),
        sample("cot", r"nothing in it: $\boxed{}$."),
        sample("pot", code),
        sample("pot", "no program"),
        sample("pot", code, "length"),
        sample("pot", code),
        sample("pot", code),
        sample("pot", code),
    ]
    results = iter(
        [
            ProgramResult("ok", "checking\n 1/2 \n\n", "", 0.1),
            ProgramResult("ok", " \n", "", 0.1),
            ProgramResult("timeout", "7\n", "", 10),
            ProgramResult("error", "7\n", "ZeroDivisionError", 0.1),
        ]
    )
    votes = cast_votes(samples, results, "What is 1 / 2?")
    assert [(vote.answer, vote.status) for vote in votes] == [
        (r"\frac12", "answered"),
        (None, "truncated"),
        (None, "no_answer"),
        (None, "no_answer"),
        ("1/2", "answered"),
        (None, "no_answer"),
        (None, "truncated"),
        (None, "no_answer"),
        (None, "timeout"),
        (None, "error"),
    ]
    assert next(results, None) is None


@pytest.mark.parametrize("mark", ["`", "~", "``` ", "~~~ ", "```python ", "\n```", "\n~~~"])
def test_a_reply_full_of_fences_takes_no_time(mark: str) -> None:
    """Work grows with the length of a reply, not with its square."""
    started = time.process_time()
    program_of(mark * (200_000 // len(mark)) + "`~")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("kind", "text", "answer", "status"),
    [
        ("cot", "<think>maybe \\boxed{4}</think>So \\boxed{17}.", "17", "answered"),
        ("cot", "<think>maybe \\boxed{4}", None, "no_answer"),
        ("cot", "maybe \\boxed{4}</think>", None, "no_answer"),
        ("cot", "<|channel|>analysis<|message|>\\boxed{4}<|end|><|start|>assistant<|channel|>final<|message|>\\boxed{17}", "17", "answered"),
        ("pot", "<think>```python\nprint(4)\n```</think>No program.", None, "no_answer"),
        ("pot", "<think>```python\nprint(4)\n```", None, "no_answer"),
    ],
)  # fmt: skip
def test_thoughts_do_not_vote(kind: str, text: str, answer: str | None, status: str) -> None:
    sample = {"kind": kind, "text": text, "model": "m", "finish_reason": "stop"}
    (vote,) = cast_votes([sample], iter([]), "What is 10 + 7?")
    assert (vote.answer, vote.status) == (answer, status)
