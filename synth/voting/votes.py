r"""What the samples of a problem say: one vote each, and votes for equivalent answers in one cluster.

    with Counting(config.programs, config.workers, config.check_timeout_s) as counting:
        ballots = counting.ballots(rows, voters, compare=True)     # [[Vote(kind="cot", answer="7", cluster=0), ...], ...]

A CoT sample votes with what stands in its last `\boxed{}`, a PoT sample with the last line that its
program prints in the sandbox. A sample that was truncated, states no answer, or whose program fails or
runs out of time casts no vote, but is there as one.
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
from synth.sandbox.programs import Limits, ProgramResult, Sandbox
from synth.voting.grounding import flaw_of_program


@dataclass(frozen=True)
class Vote:
    """What one sample says.

    Attributes:
        kind: `cot` or `pot`.
        model: that wrote the sample.
        answer: as written; None when the sample gives none.
        status: `answered`, `no_answer`, `timeout`, `error`, `truncated`, or `judged` where a judge has put
            it into the leading cluster.
        cluster: None until votes are compared, -1 without an answer.
        flaw: why the program that gave the answer is no evidence for it (`synth.voting.grounding`), or None.
    """

    kind: str
    model: str
    answer: str | None
    status: str
    cluster: int | None = None
    flaw: str | None = None

    def record(self) -> Row:
        """As in `records.VOTE`."""
        return {
            "kind": self.kind,
            "model": self.model,
            "answer": self.answer,
            "cluster": self.cluster,
            "status": self.status,
            "flaw": self.flaw,
        }


class Counting:
    """The processes that compare answers and run programs. Use as a context manager; the sandbox starts when needed."""

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
        """The votes of each row's `voters`; without `compare` no program runs and nothing is clustered."""
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


# No other mark in the line: one that quotes code within itself is no fence.
_FENCE = re.compile(r"(?P<before>[^`~]*)(?P<mark>`{3,}|~{3,})(?P<info>[^`~]*)")
_PYTHON = ("python", "python3", "py")


def program_of(text: str) -> str | None:
    """The program of a PoT sample: its last closed code block labelled as Python, else its last without a label.

    Blocks of data, shell commands and output stand beside it in many replies.
    """
    blocks = [(label, code) for label, code in _code_blocks(text) if code.strip()]
    programs = [code for label, code in blocks if label in _PYTHON] or [code for label, code in blocks if not label]
    return programs[-1] if programs else None


def _code_blocks(text: str) -> Iterator[tuple[str, str]]:
    """(label, content) of the closed fenced blocks of Markdown, without their indentation.

    More is taken for a fence than CommonMark does, because models write more: one behind words (`1. So: ```python`),
    one that closes with words behind it, and one with a label inside of a block that holds no Python.
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
    """Whether a fence opens a block or, within one that began with `mark` and `label`, ends it."""
    found = _label(fence["info"])
    if not mark:
        return not fence["before"].strip() or (fence["mark"][0] == "`" and found in ("", *_PYTHON))
    if fence["before"].strip():
        return False
    return fence["mark"].startswith(mark) or (bool(found) and label not in _PYTHON)


def _label(info: str) -> str:
    """The language that an info string names: `python` of `{.python}` and of `Python 3.11 title="a.py"`."""
    words = re.split(r"[\s:,.={}]+", info.strip(" \t{."), maxsplit=1)
    return words[0].lower()


def _runnable(sample: Row) -> str | None:
    return program_of(sample["text"]) if sample["kind"] == "pot" and sample["finish_reason"] != "length" else None


def cast_votes(samples: Iterable[Row], outcomes: Iterator[ProgramResult], problem: str) -> list[Vote]:
    """One vote per sample of `problem`; `outcomes` holds the results of their programs, in order."""
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
    """Only what is boxed is meant as the answer; a last number in the text may be anything."""
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
    """The largest cluster, the first of them where several are as large; None when nobody answered."""
    sizes = cluster_sizes(votes)
    return max(sizes, key=lambda number: (sizes[number], -number)) if sizes else None


def cluster_sizes(votes: Sequence[Vote]) -> dict[int, int]:
    """Votes by cluster, in order of first appearance."""
    sizes: dict[int, int] = {}
    for vote in votes:
        if vote.cluster is not None and vote.cluster >= 0:
            sizes[vote.cluster] = sizes.get(vote.cluster, 0) + 1
    return sizes


def answer_of(votes: Sequence[Vote], number: int | None) -> str | None:
    """The answer of a cluster, as its first member writes it."""
    return next((vote.answer for vote in votes if vote.cluster == number and vote.answer is not None), None)
