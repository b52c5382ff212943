"""Programs that are evidence for their answer, and programs that are not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from synth.voting.grounding import COMPUTES_NOTHING, flaw_of_program

JARS = "A crate holds 12 jars. How many jars do seven crates hold?"


@pytest.mark.parametrize(
    ("problem", "program"),
    [
        (JARS, "print(12 * 7)"),
        (JARS, "total = 0\nfor _ in range(7):\n    total += 12\nprint(total)"),
        (JARS, "jars, crates = 12, 7\nprint(sum([jars] * crates))"),
        ("A coat of 80 dollars is 15% off. What does it cost?", "print(80 * 0.85)"),
        ("How many hours are 3 weeks?", "print(3 * 7 * 24)"),
        ("What is the mean of 4, 8 and 9?", "print((4 + 8 + 9) / 3)"),
        ("Write 1,250 in base eight.", "print(oct(1250)[2:])"),
        ("Write 102 of base 3 in base ten.", "print(int('102', 3))"),
        ("Write three quarters as a decimal.", "from fractions import Fraction\nprint(float(Fraction(3, 4)))"),
        ("Two angles of a triangle are 30 and 40 degrees. Find the third.", "print(180 - 30 - 40)"),
    ],
)
def test_programs_that_compute_from_the_problem(problem: str, program: str) -> None:
    assert flaw_of_program(problem, program) is None


@pytest.mark.parametrize(
    ("program", "flaw"),
    [
        ("# 12 * 7 = 84\nprint(84)", COMPUTES_NOTHING),
        ("answer = '\\\\frac{1}{2}'\nprint(str(answer))", COMPUTES_NOTHING),
        ("from fractions import Fraction\nprint(Fraction('1/2'))", COMPUTES_NOTHING),
        ("x = 84\nprint(f'{x}')", COMPUTES_NOTHING),
        ("crates = 9\nprint(12 * crates)", "9 is not in the problem"),
        ("print(12.5 * 7)", "25/2 is not in the problem"),
        ("print(1e999 * 7)", "it cannot be read"),
        ("print(" + "(" * 5000 + "1" + ")" * 5000 + ")", "it cannot be read"),
        ("print('", "it cannot be read"),
        ("print(12 * " + "9" * 200 + ")", "9" * 20 + " is not in the problem"),
    ],
)
def test_programs_that_are_no_evidence(program: str, flaw: str) -> None:
    assert flaw_of_program(JARS, program) == flaw


def calculations(solution: str) -> str:
    """The annotated steps of a GSM8K solution as a program: each result is a variable that later steps use."""
    lines, names = [], {}
    for left, result in re.findall(r"<<([\d.+\-*/() ]+)=([\d.]+)>>", solution):
        used = re.sub(r"\d*\.?\d+", lambda number: names.get(number[0], number[0].lstrip("0") or "0"), left)
        names[result] = f"step_{len(lines)}"
        lines.append(f"{names[result]} = {used}")
    return "\n".join([*lines, f"print({names[result]})"]) if lines else ""


def test_most_calculations_of_people_use_the_numbers_of_their_problem(test_data: Path) -> None:
    """False alarms on right solutions, which reckon more in the head than programs do."""
    flawed = total = 0
    for line in (test_data / "gsm8k/test.jsonl").open(encoding="utf-8"):
        row = json.loads(line)
        program = calculations(row["answer"])
        if program:
            total += 1
            flawed += flaw_of_program(row["question"], program) is not None
    assert total > 1200
    assert flawed / total < 0.18, flawed / total
