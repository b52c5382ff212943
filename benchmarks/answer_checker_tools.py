"""Run one answer checker as a process, which `answer_checker.py` starts, asks and times.

    python benchmarks/answer_checker_tools.py TOOL

Reads one JSON list [reference, prediction, is_text] per line and answers [correct, CPU seconds] or
[error, CPU seconds]. It runs in the environment that has the tool installed, so it imports only the
standard library at the top. Each tool is called as its own project does. With `is_text` the prediction
is a completion; otherwise it is first put into a box (or the tool's own phrase).
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Check = Callable[[str, str, bool], bool]


def _boxed(text: str, is_text: bool) -> str:
    return text if is_text else f"\\boxed{{{text}}}"


def personahub() -> Check:
    from personahub.core.answers import check

    return lambda gold, pred, is_text: check(gold, _boxed(pred, is_text)).correct


def reader_alone() -> Check:
    """Our checker without its second opinion, to show what math-verify adds."""
    from personahub.core.answers import Policy, check

    policy = Policy(math_verify=False)
    return lambda gold, pred, is_text: check(gold, _boxed(pred, is_text), policy=policy).correct


def math_verify() -> Check:
    from math_verify import parse, verify

    def check(gold: str, pred: str, is_text: bool) -> bool:
        reference = gold if "\\boxed" in gold or "$" in gold else f"\\boxed{{{gold}}}"
        return verify(parse(reference), parse(_boxed(pred, is_text)))

    return check


def prm800k() -> Check:
    """The PRM800K grader as packaged by MathRuler."""
    from mathruler.grader import extract_boxed_content, grade_answer

    def check(gold: str, pred: str, _is_text: bool) -> bool:
        answer = extract_boxed_content(pred) if "\\boxed" in pred else pred
        return grade_answer(answer, extract_boxed_content(gold) if "\\boxed" in gold else gold)

    return check


def minerva() -> Check:
    """minerva_math of lm-eval: its phrase, its normalization, its sympy comparison."""
    task = _task("minerva_math")

    def check(gold: str, pred: str, is_text: bool) -> bool:
        completion = pred if is_text else f"Final Answer: The final answer is ${pred}$. I hope it is correct."
        answer = task.normalize_final_answer(task.get_unnormalized_answer(completion))
        if answer.strip() == "[invalidanswer]" and "\\boxed" in pred:
            answer = task.normalize_final_answer(task.remove_boxed(task.last_boxed_only_string(pred)))
        return task.is_equiv(answer, task.normalize_final_answer(gold))

    return check


def hendrycks() -> Check:
    """hendrycks_math of lm-eval: string equality after normalization."""
    task = _task("hendrycks_math")

    def check(gold: str, pred: str, _is_text: bool) -> bool:
        box = task.last_boxed_only_string(pred) if "\\boxed" in pred else None
        return task.is_equiv(task.remove_boxed(box) if box else pred, gold)

    return check


def _task(name: str) -> Any:
    """Load a task's own module without lm-eval's other imports."""
    root = importlib.util.find_spec("lm_eval")
    if root is None or root.origin is None:
        raise SystemExit("lm-eval is not installed")
    spec = importlib.util.spec_from_file_location(name, Path(root.origin).parent / "tasks" / name / "utils.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"lm-eval has no task {name}")
    sys.modules.setdefault("datasets", SimpleNamespace(Dataset=object))  # type: ignore[arg-type]  # only an annotation
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def inspect() -> Check:
    """inspect_ai's `math()` scorer, by the two functions that its worker process runs."""
    from inspect_ai.scorer import _math

    def check(gold: str, pred: str, is_text: bool) -> bool:
        targets, _ = _math._parse_targets_worker((gold,))
        return bool(targets) and _math._score_answer_worker(_boxed(pred, is_text), targets).status == "correct"

    return check


TOOLS: dict[str, Callable[[], Check]] = {
    "personahub": personahub,
    "personahub, reader alone": reader_alone,
    "math-verify": math_verify,
    "prm800k": prm800k,
    "minerva": minerva,
    "hendrycks": hendrycks,
    "inspect": inspect,
}


def main() -> None:
    """Answer until the end of input."""
    check = TOOLS[sys.argv[1]]()
    check("1", "1", False)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        gold, pred, is_text = json.loads(line)
        started = time.process_time()
        try:
            verdict: bool | str = bool(check(gold, pred, is_text))
        except Exception as error:  # noqa: BLE001 - a crash is a result here
            verdict = f"{type(error).__name__}: {error}"[:200]
        print(json.dumps([verdict, time.process_time() - started]), flush=True)


if __name__ == "__main__":
    main()
