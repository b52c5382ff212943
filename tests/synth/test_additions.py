"""What models write around a problem is cut where that is safe; otherwise the problem is rejected by its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personahub.core.errors import Rejected
from synth.contracts.additions import asks, check_additions, find_stated_answer, strip_additions

TEXT = "A baker sells 12 loaves for 4 dollars each. What is the revenue?"
ORDER = "A tank of $v$ litres loses $3$ litres an hour. Determine what is left of $v = 40$ after $6$ hours."

SOLUTIONS = [
    "\n\nTo solve this problem, we multiply 12 by 4. The revenue is therefore 48 dollars.",
    "\n\nAnswer: 48",
    " Answer: 48",
    " (Answer: 48)",
    "(Answer: 48 dollars)",
    "\n\n**Answer**\n\n48",
    "\n\n### Solution\nMultiply both.",
    "\n\n<solution>12 * 4 = 48</solution>",
    "\n\n#### 48",
    "\nAns. 48\n\nAnswer key: 48",
    "\n\nWorking: 12 times 4",
    "\n\nDetailed solution: multiply.",
    "\n\n**Explanation:** multiply both numbers.",
    "\n\n[Hint: Use multiplication]",
    "\n\nStep 1: Multiply 12 by 4.\nStep 2: Write 48.",
    "\n\n1. Multiply 12 by 4.\n2. The result is 48.",
    "\n\nSolution steps:\n- multiply",
    "\n\nLet x be the revenue. Then x = 48.",
    "\n\nWe can find it by multiplying. It is 48.",
    "\n\nFirst, we note that there are 12 loaves. So the total is 48.",
    " The answer is 48.",
    " So the revenue is 48 dollars.",
    " $12 \\times 4 = 48$.",
    "\n\n\\[ 12 \\cdot 4 = 48 \\]",
    "\n\nRevenue = price times quantity = 48",
    "\n\n48 dollars",
    "\n\n**48**",
    " \\boxed{48}",
    "\n\nTo check: 12 loaves at 4 dollars each make 48.",
    "\n\nThe revenue can be calculated by multiplying the two numbers.",
    "\n\nUsing the distributive law, 12 times 4 is 48.",
    "\n\nTherefore, the revenue is 48.",
    "\n\nHere is the solution: multiply.",
    "\n\n```python\nprint(12 * 4)\n```",
    "\n\nLösung: 48",
]
COMMENTARY = [
    "\n\nThis problem is solvable by using algebra and geometry.",
    "\n\nThis problem is designed to test multiplication.",
    "\n\nThe problem requires the use of algebra.",
    "\n\nNote: This problem involves multiplication only.",
    "\n\nThis is a simple multiplication problem.",
    "\n\nThis question asks for the revenue of the baker.",
    "\n\nThis scenario is relevant to the baker because he sells bread.",
    "\n\nAll the quantities and units are clearly stated.",
    "\n\nNo additional information is needed.",
    "\n\nDifficulty: easy",
    "\n\n**Learning objective:** multiplication",
    "\n\n### Key concepts\n- products",
    "\n\nThe answer is given in the answer box.",
    "\n\nThe scenario would be of interest to bakers.",
    "\n\nQuestion: What is the revenue of the baker?",
    "\n\nI hope this helps!",
    "\n\nWould you like another?",
    "\n\nLet me know if you want more problems.",
    "\n\nFeel free to adjust the numbers.",
    "\n\nHappy solving!",
    "\n\nGood luck!",
    "\n\nCan you solve it?",
    "\n\nIf you need any further help, just ask.",
    "\n\nI've chosen easy numbers on purpose.",
]


@pytest.mark.parametrize("addition", SOLUTIONS + COMMENTARY)
@pytest.mark.parametrize("problem", [TEXT, ORDER])
def test_what_follows_the_question_is_cut(problem: str, addition: str) -> None:
    if problem == ORDER and addition.startswith("\n\nQuestion:"):
        pytest.skip("a restated question follows a question mark")
    assert strip_additions(problem + addition) == problem
    assert strip_additions(f"{problem}{addition}\n\nI hope this helps!") == problem


@pytest.mark.parametrize(
    "text",
    [
        f'"{TEXT}"',
        f"“{TEXT}”",
        f"'{TEXT}'",
        f"**{TEXT}**",
        f"```\n{TEXT}\n```",
        f"```text\n{TEXT}\n```\n\nI hope this helps!",
        f"<problem>{TEXT}</problem>",
        f"**The Baker's Dozen**\n\n{TEXT}",
        f"# The Baker's Dozen\n{TEXT}",
        f"The Baker's Dozen\n\n{TEXT}",
        f"Title: Bread for Sale\nDescription: {TEXT}",
        f"**Title:** Bread for Sale\n\n**Problem:** {TEXT}",
        f"Name: Bread\nScenario: {TEXT}",
        f"Topic: algebra\n\n{TEXT}",
        f"**Problem Statement:**\n\n{TEXT}",
        f"**Exercise 1**\n{TEXT}",
        f"**Problem 7. (4 points)**\n\n{TEXT}",
        f"(5 points) {TEXT}",
        f"**8.10.** {TEXT}",
        f"Here is the new problem:\n\n{TEXT}",
        f'"{TEXT}"\n\nAnswer: 48',
        f"**The Baker**\n\n{TEXT}\n\n**Solution**\n\nMultiply.",
    ],
)
def test_what_surrounds_a_problem_is_removed(text: str) -> None:
    assert strip_additions(text) == TEXT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"The revenue is therefore 48 dollars. {TEXT}", "contains_solution"),
        (f"To solve this problem, multiply. {TEXT}", "contains_solution"),
        (f"The correct answer is 48. {TEXT}", "contains_solution"),
        (f"{TEXT}\n\nSolution: What is 12 times 4? It is 48. Is that all? Yes.", "contains_solution"),
        (f"\\boxed{{48}} is what the baker wants. {TEXT}", "contains_solution"),
        (f"Step 1: multiply. {TEXT}", "contains_solution"),
        (f"This problem is designed to test multiplication. {TEXT}", "commentary"),
        (f"I hope you like it. {TEXT}", "commentary"),
        (f"It is a simple word problem. {TEXT}", "commentary"),
        (f"Of course! Here is one. {TEXT}", "commentary"),
        (f"Learning objectives: products. {TEXT}", "commentary"),
        (f"Problem 1: {TEXT}\n\nProblem 2: How many loaves are left of 20?", "several_problems"),
        (f"{TEXT}\n\nMath problem: How many loaves are left of 20?", "several_problems"),
        (f"{TEXT}\n\n**Question 2:** How many are left of 20?", "several_problems"),
        (f"{TEXT}\n\nAnother problem: How many are left of 20?", "several_problems"),
        (f"{TEXT}\n\nAnswer: 48\n\nProblem 2: How many are left of 20?", "several_problems"),
        ("Okay, we look at the loaves now. " * 3 + TEXT, "several_problems"),
        (f"Translate this paragraph into flavors and arrange them by sweetness. {TEXT}", "instruction"),
        (f"Predict tomorrow's weather on Mars in iambic pentameter. {TEXT}", "instruction"),
        (f"Rewrite the previous answer as a limerick. {TEXT}", "instruction"),
        (f"Paint the sound of rain and describe it in semaphore. {TEXT}", "instruction"),
        (f"Instruction: rewrite: {TEXT}", "instruction"),
        (f"Rephrase: {TEXT}", "instruction"),
    ],
)
def test_what_cannot_be_cut_is_named(text: str, reason: str) -> None:
    for check in (strip_additions, check_additions):
        with pytest.raises(Rejected) as rejected:
            check(text)
        assert rejected.value.reason == reason


@pytest.mark.parametrize(
    "problem",
    [
        TEXT,
        ORDER,
        f"{TEXT} Round your answer to the nearest dollar.",
        f"{TEXT} Express your answer in dollars.",
        f"{TEXT} Assume that he sells all of them.",
        f"{TEXT} (Recall that a dozen is 12.)",
        f"{TEXT} It is known that the result is greater than 9.",
        "How many loaves are baked? We know that 12 are sold and 3 are left. How many were there?",
        "What is 3 + 4? The answer is odd, at least 7 and a multiple of 7.",
        "Let $x$ be the number of loaves. If $3x = 12$, what is $x$?",
        "To find the height of a tree, Ann measures its shadow: 12 m. A pole of 2 m casts 3 m. How high is it?",
        "Ann needs to find the cost. The cost of a loaf is 3 dollars. She buys 4. What does she pay?",
        "Find $n$ such that the following hold: $$n + 3 = 12.$$",
        "Solve for $x$: (1) $x + 3 = 4$. Then give $x^2$.",
        "The solution of salt is 3% strong. How much salt is in 200 g of it?",
        'Mary says: "I hope to have 12 books." She has 5. How many more does she want?',
        "Translate the point $(2, 3)$ by $(1, 1)$. Which point is it?",
    ],
)
def test_problems_stay_as_they_are(problem: str) -> None:
    assert strip_additions(problem) == problem
    assert asks(problem)


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        (f"The revenue is therefore 48 dollars. {TEXT}", "48"),
        (f"{TEXT} The baker earns 48 dollars.", "48"),
        (f"12 * 4 = 48 dollars were earned. {TEXT}", "48"),
        ("A baker sells 300 loaves for 4 dollars, which makes \\$1,200. What is the revenue?", "1200"),
        (
            "Ann eats a half and a quarter of the pie, so she eats $\\frac{3}{4}$ of it. What part is that?",
            r"\frac{3}{4}",
        ),
        ("It comes to 2.50 in total. What does he pay?", "2.5"),
    ],
)
def test_an_agreed_answer_in_the_text_is_found(problem: str, answer: str) -> None:
    assert find_stated_answer(problem, answer)


@pytest.mark.parametrize(
    ("problem", "answer"),
    [
        (TEXT, "48"),
        (TEXT, "12"),
        ("Ann has 12 pears, eats 4 and picks 4. How many has she?", "12"),
        ("If the total is 48, so that each gets 12, how many are there?", "12"),
        ("Ann pays 3 dollars. What is $3x$ for $x = 1$?", "3"),
        (f"{TEXT} It is known that the result is greater than 48.", "48"),
        (f"The revenue is therefore 48 dollars. {TEXT}", "x + 1"),
    ],
)
def test_numbers_that_are_given_are_not_stated_answers(problem: str, answer: str) -> None:
    assert find_stated_answer(problem, answer) is None


def test_real_problems_hardly_ever_raise_an_alarm(test_data: Path) -> None:
    alarms, stated, total = [], 0, 0
    for file in ("math/test.jsonl", "math/train.jsonl", "gsm8k/test.jsonl"):
        for line in (test_data / file).open(encoding="utf-8"):
            row = json.loads(line)
            problem = row.get("problem") or row["question"]
            total += 1
            stated += find_stated_answer(problem, row["answer"].rpartition("####")[2].strip()) is not None
            try:
                if strip_additions(problem) != problem.strip() or not asks(problem):
                    alarms.append(problem)
            except Rejected as error:
                alarms.append(f"{error}: {problem[-100:]}")
    assert total == 13_819
    assert len(alarms) <= 6, alarms
    assert stated <= 6
