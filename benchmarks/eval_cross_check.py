"""Grade the same completions with lm-eval and with our checker: one table, and every row on which they differ.

    python benchmarks/eval_cross_check.py --math MATH/test.jsonl --folder /tmp/graders

No model is needed: the completions are MATH's own solutions and texts made from its answers in the
forms that models write, so the right verdicts are known. For each form, the table says how many
completions are right and how many each grader accepts:

* personahub: `personahub.core.answers` with its default policy, as in eval.benchmark
* minerva math_verify, minerva exact_match: both metrics of lm-eval's `minerva_math`
* hendrycks exact_match: the metric of lm-eval's `hendrycks_math`

lm-eval is installed into a separate environment below `--folder` on first use. With `--no-lm-eval`, only
personahub grades.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personahub.core.answers import CheckerPool

SCRIPT = Path(__file__).with_name("eval_cross_check_tools.py")
STEPS = (("--no-deps", "lm-eval==0.4.13"), ("math-verify==0.9.0", "sympy==1.14.0", "antlr4-python3-runtime==4.11.1"))
THEIRS = ("minerva math_verify", "minerva exact_match", "hendrycks exact_match")
OURS = "personahub"

Problem = dict[str, Any]


@dataclass(frozen=True)
class Completion:
    """A text that a model might have written for a problem, and whether its answer is right."""

    form: str
    problem: Problem
    text: str
    right: bool


def unchanged(problem: Problem, _: Problem) -> str:
    return problem["solution"]


def of_another_problem(_: Problem, other: Problem) -> str:
    return other["solution"]


def rewritten(problem: Problem, _: Problem) -> str:
    """Rewrite the answer: display fractions, sized brackets, a space, a sentence around it."""
    answer = problem["answer"].replace("\\frac", "\\dfrac").replace("\\tfrac", "\\dfrac").replace("\\ddfrac", "\\dfrac")
    answer = re.sub(r"(?<!\\left)\(", r"\\left( ", answer)
    answer = re.sub(r"(?<!\\right)\)", r" \\right)", answer)
    return f"Putting this together, we conclude that the value is $\\boxed{{ {answer} }}$, as desired."


def in_minerva_words(problem: Problem, _: Problem) -> str:
    return f"We compute it.\nFinal Answer: The final answer is ${problem['answer']}$. I hope it is correct."


def in_a_sentence(problem: Problem, _: Problem) -> str:
    return f"We go through the cases one by one. Therefore, the answer is ${problem['answer']}$."


def on_an_answer_line(problem: Problem, _: Problem) -> str:
    return f"We go through the cases one by one.\n\nAnswer: {problem['answer']}"


def corrected(problem: Problem, other: Problem) -> str:
    """Write a box, second thoughts, and the final box."""
    first, final = other["answer"], problem["answer"]
    return f"This gives $\\boxed{{{first}}}$. Wait, I dropped a term.\n\nDoing it again gives $\\boxed{{{final}}}$."


def corrected_wrongly(problem: Problem, other: Problem) -> str:
    return corrected(other, problem)


FORMS: dict[str, tuple[Callable[[Problem, Problem], str], bool]] = {
    "MATH's solution": (unchanged, True),
    "another problem's solution": (of_another_problem, False),
    "answer rewritten in a box": (rewritten, True),
    "minerva's closing words": (in_minerva_words, True),
    "'the answer is', no box": (in_a_sentence, True),
    "'Answer:' on the last line": (on_an_answer_line, True),
    "wrong box, then right box": (corrected, True),
    "right box, then wrong box": (corrected_wrongly, False),
}


def completions(problems: Sequence[Problem], limit: int, seed: int) -> list[Completion]:
    """Make `limit` problems in every form. The other problem has another whole number as its answer."""
    chance = random.Random(seed)
    whole = [problem for problem in problems if re.fullmatch(r"-?\d+", problem["answer"])]
    made = []
    for problem in chance.sample(problems, min(limit, len(problems))):
        other = next(p for p in iter(lambda: chance.choice(whole), None) if p["answer"] not in problem["answer"])
        made += [Completion(form, problem, write(problem, other), right) for form, (write, right) in FORMS.items()]
    return made


def interpreter(folder: Path) -> Path:
    """Return the Python of lm-eval's environment, which is made on first use."""
    home = folder / "minerva"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        for step in STEPS:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *step], check=True)
    return python


def grade_with_lm_eval(made: Sequence[Completion], python: Path) -> list[dict[str, bool]]:
    """Return verdicts of each completion by grader."""
    lines = "".join(
        json.dumps({"problem": c.problem["problem"], "solution": c.problem["solution"], "completion": c.text}) + "\n"
        for c in made
    )
    done = subprocess.run([python, SCRIPT], input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"lm-eval's graders failed:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def print_table(made: Sequence[Completion], verdicts: Sequence[dict[str, bool]], graders: Sequence[str]) -> None:
    print("\n| completion | right | " + " | ".join(graders) + " |\n|---|---|" + "---|" * len(graders))
    for form in (*FORMS, "all, graded correctly"):
        here = [i for i, completion in enumerate(made) if form in (completion.form, "all, graded correctly")]
        if form in FORMS:
            right = f"{sum(made[i].right for i in here):,} of {len(here):,}"
            counts = [f"{sum(verdicts[i][name] for i in here):,}" for name in graders]
        else:
            right = f"{len(here):,}"
            counts = [f"{sum(verdicts[i][name] == made[i].right for i in here) / len(here):.2%}" for name in graders]
        print(f"| {form} | {right} | " + " | ".join(counts) + " |")


def print_discordant(made: Sequence[Completion], verdicts: Sequence[dict[str, bool]], show: int) -> None:
    """Print the completions that our checker and minerva's math_verify grade differently."""
    rows = [i for i, verdict in enumerate(verdicts) if verdict[OURS] != verdict[THEIRS[0]]]
    ours_right = sum(verdicts[i][OURS] == made[i].right for i in rows)
    print(f"\n{len(rows):,} completions on which {OURS} and {THEIRS[0]} differ; {OURS} is right in {ours_right:,}:\n")
    print("| completion | reference | end of the text | right | personahub | math_verify |\n|---|---|---|---|---|---|")
    for i in sorted(rows, key=lambda i: (verdicts[i][OURS] == made[i].right, made[i].form))[:show]:
        reference, end = (json.dumps(text)[1:-1] for text in (made[i].problem["answer"], made[i].text[-90:]))
        answers = ["yes" if value else "no" for value in (made[i].right, verdicts[i][OURS], verdicts[i][THEIRS[0]])]
        print(f"| {made[i].form} | `{reference}` | `{end}` | " + " | ".join(answers) + " |")
    if len(rows) > show:
        print(f"\n({len(rows) - show:,} more: --show)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--math", type=Path, required=True, help="MATH's test split: problem, solution, answer")
    parser.add_argument("--folder", type=Path, required=True, help="folder of lm-eval's environment, made on first use")
    parser.add_argument("--limit", type=int, default=1000, help="number of problems; each is used in every form")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-lm-eval", action="store_true", help="grade with personahub only")
    parser.add_argument("--show", type=int, default=60, help="number of differing rows to print")
    options = parser.parse_args()
    problems = [json.loads(line) for line in options.math.read_text(encoding="utf-8").splitlines()]
    made = completions(problems, options.limit, options.seed)
    print(f"{len(made):,} completions of {options.limit:,} problems; Python {sys.version.split()[0]}", flush=True)
    alone = options.no_lm_eval
    verdicts = [{} for _ in made] if alone else grade_with_lm_eval(made, interpreter(options.folder))
    with CheckerPool(2) as pool:
        ours = pool.check_many((completion.problem["answer"], completion.text) for completion in made)
        for verdict, verdict_of_ours in zip(verdicts, ours, strict=True):
            verdict[OURS] = verdict_of_ours.correct
    print_table(made, verdicts, (OURS,) if alone else (OURS, *THEIRS))
    if not alone:
        print_discordant(made, verdicts, options.show)


if __name__ == "__main__":
    main()
