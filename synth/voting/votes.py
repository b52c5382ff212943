r"""Counts the samples of a problem: one vote each, equivalent answers in one cluster.

    with Counting(config.programs, config.workers, config.check_timeout_s) as counting:
        ballots = counting.ballots(rows, voters, compare=True)     # [[Vote(kind="cot", answer="7", cluster=0), ...], ...]

A CoT sample votes with the content of its last `\boxed{}`, a PoT sample with the last line that its
program prints in the sandbox. A sample that is truncated or has no answer, or whose program fails or
times out, is on the ballot as a vote without an answer.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

from personahub.core.answers import CheckerPool, cluster, extract
from personahub.core.records import Row
from personahub.core.texts.replies import without_thinking
from synth.sandbox.programs import Limits, ProgramResult, Sandbox
from synth.voting.grounding import flaw_of_program


@dataclass(frozen=True)
class Vote:
    """The vote of one sample.

    Attributes:
        kind: `cot` or `pot`.
        model: the model that wrote the sample.
        answer: the answer as written; None if the sample has no answer.
        status: `answered`, `no_answer`, `timeout`, `error`, `truncated`, or `judged` if a judge has put
            it into the leading cluster.
        cluster: None until votes are compared; -1 without an answer.
        flaw: why the program behind the answer is not evidence for it (`synth.voting.grounding`), or None.
    """

    kind: str
    model: str
    answer: str | None
    status: str
    cluster: int | None = None
    flaw: str | None = None

    def record(self) -> Row:
        """Returns the vote as a row of `records.VOTE`."""
        return {
            "kind": self.kind,
            "model": self.model,
            "answer": self.answer,
            "cluster": self.cluster,
            "status": self.status,
            "flaw": self.flaw,
        }


class Counting:
    """Processes that compare answers and run programs. A context manager; the sandbox starts when needed."""

    def __init__(self, programs: Limits, workers: int, check_timeout_s: float) -> None:
        self._limits, self._workers = programs, workers
        self._stack = ExitStack()
        self.pool = self._stack.enter_context(CheckerPool(workers, check_timeout_s))
        self._threads = self._stack.enter_context(ThreadPoolExecutor(workers))
        self._sandbox: Sandbox | None = None

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ballots(
        self, rows: Sequence[Row], voters: Callable[[Row], Sequence[Row]], *, compare: bool = True
    ) -> list[list[Vote]]:
        """Returns the votes of each row's `voters`. Without `compare`, no program runs and nothing is clustered."""
        programs = [code for row in rows for code in map(_runnable, voters(row)) if code is not None]
        if programs and compare and self._sandbox is None:
            self._sandbox = self._stack.enter_context(Sandbox(self._limits, self._workers))
        outcomes = iter(self._sandbox.run(programs)) if self._sandbox and compare else iter(())
        ballots = [cast_votes(voters(row), outcomes, row["problem"]) for row in rows]
        return list(self._threads.map(self._clustered, ballots)) if compare else ballots

    def _clustered(self, votes: list[Vote]) -> list[Vote]:
        numbers = dict.fromkeys(range(len(votes)), -1)
        for number, members in enumerate(cluster([vote.answer for vote in votes], self.pool)):
            numbers.update(dict.fromkeys(members, number))
        return [replace(vote, cluster=numbers[index]) for index, vote in enumerate(votes)]


# A line with a second mark quotes code inline and is not a fence.
_FENCE = re.compile(r"(?P<before>[^`~]*)(?P<mark>`{3,}|~{3,})(?P<info>[^`~]*)")
_PYTHON = ("python", "python3", "py")


def program_of(text: str) -> str | None:
    """Returns the program of a PoT sample.

    Takes the last closed Python block, or else the last without a label. Many replies also have blocks of data, shell
    commands or output.
    """
    blocks = [(label, code) for label, code in _code_blocks(text) if code.strip()]
    programs = [code for label, code in blocks if label in _PYTHON] or [code for label, code in blocks if not label]
    return programs[-1] if programs else None


def _code_blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yields (label, content) of the closed fenced blocks in Markdown, dedented.

    Models write more kinds of fences than CommonMark allows, so this also accepts a fence after words
    (`1. So: ```python`), a closing fence with words after it, and a fence with a label inside a block that is not Python.
    """
    mark, label = "", ""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        fence = _FENCE.fullmatch(line)
        if fence is None or not _bounds(fence, mark, label):
            lines.append(line)
            continue
        if mark:
            code = "\n".join(lines)
            yield label, textwrap.dedent(code) if code[:1].isspace() else code
        found = _label(fence["info"])
        mark = fence["mark"] if found or not mark else ""
        label, lines = found, []


def _bounds(fence: re.Match[str], mark: str, label: str) -> bool:
    """Returns whether a fence opens a block or ends the one opened by `mark` and `label`."""
    found = _label(fence["info"])
    if not mark:
        return not fence["before"].strip() or (fence["mark"][0] == "`" and found in ("", *_PYTHON))
    if fence["before"].strip():
        return False
    return fence["mark"].startswith(mark) or (bool(found) and label not in _PYTHON)


def _label(info: str) -> str:
    """Returns the language of an info string. Gives `python` for `{.python}` and `Python 3.11 title="a.py"`."""
    words = re.split(r"[\s:,.={}]+", info.strip(" \t{."), maxsplit=1)
    return words[0].lower()


def _runnable(sample: Row) -> str | None:
    return (
        program_of(without_thinking(sample["text"]))
        if sample["kind"] == "pot" and sample["finish_reason"] != "length"
        else None
    )


def cast_votes(samples: Iterable[Row], outcomes: Iterator[ProgramResult], problem: str) -> list[Vote]:
    """Returns one vote per sample of `problem`. `outcomes` yields the results of their programs, in order."""
    votes = []
    for sample in samples:
        answer, status, flaw = None, "no_answer", None
        if sample["finish_reason"] == "length":
            status = "truncated"
        elif sample["kind"] == "cot":
            answer = _boxed(sample["text"])
        elif (program := _runnable(sample)) is not None:
            answer, status = _printed(next(outcomes))
            flaw = flaw_of_program(problem, program) if answer else None
        votes.append(Vote(sample["kind"], sample["model"], answer, "answered" if answer else status, flaw=flaw))
    return votes


def _boxed(text: str) -> str | None:
    """Only a boxed answer counts, because the last number in a text can be anything."""
    found = extract(text)
    return found.answer if found.rule == "boxed" else None


def _printed(result: ProgramResult) -> tuple[str | None, str]:
    if result.status == "timeout":
        return None, "timeout"
    if result.status != "ok":
        return None, "error"
    lines = result.output.strip().splitlines()
    return (lines[-1].strip() or None if lines else None), "no_answer"


def leading_cluster(votes: Sequence[Vote]) -> int | None:
    """Returns the largest cluster, the first one on ties. None if no vote has an answer."""
    sizes = cluster_sizes(votes)
    return max(sizes, key=lambda number: (sizes[number], -number)) if sizes else None


def cluster_sizes(votes: Sequence[Vote]) -> dict[int, int]:
    """Returns votes by cluster, in order of first appearance."""
    sizes: dict[int, int] = {}
    for vote in votes:
        if vote.cluster is not None and vote.cluster >= 0:
            sizes[vote.cluster] = sizes.get(vote.cluster, 0) + 1
    return sizes


def answer_of(votes: Sequence[Vote], number: int | None) -> str | None:
    """Returns the answer of a cluster as its first member writes it."""
    return next((vote.answer for vote in votes if vote.cluster == number and vote.answer is not None), None)
