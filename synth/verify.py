"""Solutions compared with each other: a problem is kept when enough of its samples agree.

    verified:
      run: synth.verify
      inputs: {solutions: solutions}
      config: {policy: two_of_three}

Every sample may cast one vote, for its final answer. A CoT sample votes with what stands in its last
`\\boxed{}`, a PoT sample with the last line that its program prints in the sandbox. A sample that was
truncated, states no answer, or whose program fails or runs out of time casts none, but still counts
as a sample. Votes whose answers are equivalent (`personahub.core.answers`) form a cluster, and the
largest one wins. The policy decides whether that is enough:

* `none`: nothing is compared and no program runs. The first CoT sample that was not truncated is
  kept, with or without an answer, whatever the others say: the paper's training data.
* `two_of_three`: of the first three samples at least two agree. The paper's test set (section
  4.1.2): CoT and PoT of one model and CoT of another. Further samples do not vote.
* `majority`: more than half of all samples agree.
* `unanimous`: all samples vote, and they agree.

All but `none` need at least two votes: one sample cannot agree with itself. `min_vote_share` (winning
votes / samples) and `require_pot` (a program is among the winning votes) ask for more. All but `none`
also drop problems that the rules of `synth.validity` find unsound, by their text or by the answer
that won. The solution that is kept is a CoT of the winning cluster.

Kept or rejected, a record carries its votes and the reason. `vote_share` is the problem's solve rate as
far as it can be known without a reference; `difficulty` sorts it into three.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Annotated, Literal

from pydantic import Field

from personahub.core.answers import CheckerPool, cluster, extract
from personahub.core.config import EXECUTION, StageConfig
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast
from personahub.core.records import VERIFIED, Row
from personahub.core.stage import Shard, Stage
from synth.sandbox import Limits, ProgramResult, Sandbox
from synth.validity import check_answer, check_problem

VERSION = "2"
INPUTS = ("solutions",)

Policy = Literal["none", "two_of_three", "majority", "unanimous"]

_ROWS_AT_A_TIME = 256


class Config(StageConfig):
    """See the module docstring for the policies."""

    policy: Policy = "majority"
    min_vote_share: float = Field(default=0.0, ge=0, le=1)
    require_pot: bool = Field(default=False, description="At least one program is among the winning votes.")
    check_problems: bool = Field(default=True, description="Drop what the rules of synth.validity find unsound.")
    choose: Literal["first", "shortest"] = Field(default="first", description="Which CoT of the winning cluster stays.")
    check_timeout_s: float = Field(default=5.0, gt=0, description="For one comparison; then two answers differ.")
    programs: Limits = Field(default=Limits(), description="What a PoT program may use.")
    workers: Annotated[int, EXECUTION] = Field(default=2, gt=0, description="Processes that compare or run programs.")


@dataclass(frozen=True)
class Vote:
    """What one sample says. `cluster` is None until votes are compared, -1 without an answer."""

    kind: str
    model: str
    answer: str | None
    status: str  # answered, no_answer, timeout, error or truncated
    cluster: int | None = None

    def record(self) -> Row:
        """As in `records.VOTE`."""
        return {
            "kind": self.kind,
            "model": self.model,
            "answer": self.answer,
            "cluster": self.cluster,
            "status": self.status,
        }


def run(stage: Stage[Config]) -> None:
    """Write those `solutions` that the policy accepts."""
    stage.map_shards(_process, stage.input("solutions"), VERIFIED)


def _process(stage: Stage[Config], shard: Shard) -> None:
    config = stage.config
    with ExitStack() as open_while_running:
        pool = open_while_running.enter_context(CheckerPool(config.workers, config.check_timeout_s))
        threads = open_while_running.enter_context(ThreadPoolExecutor(config.workers))
        sandbox: Sandbox | None = None
        rows = shard.rows()
        while batch := list(islice(rows, _ROWS_AT_A_TIME)):
            programs = [program for row in batch for program in _programs(row, config.policy)]
            if programs and sandbox is None:
                sandbox = open_while_running.enter_context(Sandbox(config.programs, config.workers))
            outcomes = iter(sandbox.run(programs)) if sandbox else iter(())
            ballots = [cast_votes(_voters(row, config.policy), outcomes) for row in batch]
            if config.policy != "none":
                ballots = list(threads.map(partial(_clustered, pool), ballots))
            for row, votes in zip(batch, ballots, strict=True):
                _settle(config, shard, row, votes)


def _voters(row: Row, policy: Policy) -> list[Row]:
    """The samples that the policy looks at."""
    if policy == "none":
        return [sample for sample in row["samples"] if sample["kind"] == "cot"]
    return row["samples"][:3] if policy == "two_of_three" else row["samples"]


_CODE = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\r?\n(.*?)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


def program_of(text: str) -> str | None:
    """The program of a PoT sample: its last closed code block."""
    blocks = _CODE.findall(text)
    return blocks[-1] if blocks and blocks[-1].strip() else None


def _programs(row: Row, policy: Policy) -> Iterator[str]:
    for sample in _voters(row, policy):
        program = _runnable(sample)
        if program is not None:
            yield program


def _runnable(sample: Row) -> str | None:
    return program_of(sample["text"]) if sample["kind"] == "pot" and sample["finish_reason"] != "length" else None


def cast_votes(samples: Iterable[Row], outcomes: Iterator[ProgramResult]) -> list[Vote]:
    """One vote per sample; `outcomes` holds the results of their programs, in order."""
    votes = []
    for sample in samples:
        answer, status = None, "no_answer"
        if sample["finish_reason"] == "length":
            status = "truncated"
        elif sample["kind"] == "cot":
            answer = _boxed(sample["text"])
        elif _runnable(sample) is not None:
            answer, status = _printed(next(outcomes))
        votes.append(Vote(sample["kind"], sample["model"], answer, "answered" if answer else status))
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


def _clustered(pool: CheckerPool, votes: list[Vote]) -> list[Vote]:
    numbers = dict.fromkeys(range(len(votes)), -1)
    for number, members in enumerate(cluster([vote.answer for vote in votes], pool)):
        numbers.update(dict.fromkeys(members, number))
    return [Vote(v.kind, v.model, v.answer, v.status, numbers[index]) for index, v in enumerate(votes)]


def _settle(config: Config, shard: Shard, row: Row, votes: list[Vote]) -> None:
    problem = {key: value for key, value in row.items() if key != "samples"}
    told = {"votes": [vote.record() for vote in votes], "policy": config.policy}
    samples = _voters(row, config.policy)
    try:
        if config.check_problems and config.policy != "none":
            check_problem(row["problem"])
        chosen, share = decide(config, samples, votes)
        if config.check_problems and share is not None:
            check_answer(row["problem"], votes[chosen].answer or "")
    except Rejected as error:
        shard.reject({**row, **told}, error)
        return
    shard.write(
        {
            **problem,
            **told,
            "answer": votes[chosen].answer,
            "solution": samples[chosen]["text"],
            "solution_model": samples[chosen]["model"],
            "vote_share": share,
            "difficulty": difficulty(share),
            "reason": _why_kept(votes, chosen, share),
        }
    )


def difficulty(share: float | None) -> str | None:
    """`easy` where all samples agree, `medium` from two thirds on, `hard` below; null where none were compared."""
    if share is None:
        return None
    return "easy" if share == 1 else "medium" if share > 0.66 else "hard"


def _why_kept(votes: Sequence[Vote], chosen: int, share: float | None) -> str:
    if share is None:
        return "first whole CoT, nothing compared"
    agreeing = [vote.kind for vote in votes if vote.cluster == votes[chosen].cluster]
    return f"{agreeing.count('cot')} CoT and {agreeing.count('pot')} PoT agree, of {len(votes)} samples"


def decide(config: Config, samples: Sequence[Row], votes: Sequence[Vote]) -> tuple[int, float | None]:
    """Index of the sample whose solution is kept, and the winning share of the samples (null for `none`).

    Raises:
        Rejected: `no_cot`, `truncated` (policy `none`); `too_few_samples`, `no_answer`, `tie`, `no_agreement`,
            `low_vote_share`, `no_pot_in_winning_cluster` or `no_cot_in_winning_cluster`.
    """
    if config.policy == "none":
        return _first_whole(votes), None
    if len(votes) < 2:
        raise Rejected("too_few_samples", f"{len(votes)} of them: agreement takes two")
    winner = _winner(config.policy, votes)
    # A sample that failed upstream is not in the record; of three that were asked for it is still one.
    samples_asked = 3 if config.policy == "two_of_three" else len(votes)
    share = sum(vote.cluster == winner for vote in votes) / samples_asked
    if share < config.min_vote_share:
        raise Rejected("low_vote_share", f"{share:.2f} < {config.min_vote_share:g}")
    if config.require_pot and not any(vote.cluster == winner and vote.kind == "pot" for vote in votes):
        raise Rejected("no_pot_in_winning_cluster")
    solutions = [i for i, vote in enumerate(votes) if vote.cluster == winner and vote.kind == "cot"]
    if not solutions:
        raise Rejected("no_cot_in_winning_cluster", "only programs found the answer: there is no solution to keep")
    if config.choose == "shortest":
        solutions.sort(key=lambda i: len(samples[i]["text"]))
    return solutions[0], share


def _first_whole(votes: Sequence[Vote]) -> int:
    if not votes:
        raise Rejected("no_cot", "no sample is a CoT")
    for index, vote in enumerate(votes):
        if vote.status != "truncated":
            return index
    raise Rejected("truncated", "all CoT samples were cut off: raise sampling.max_tokens")


def _winner(policy: Policy, votes: Sequence[Vote]) -> int:
    """The cluster that the policy accepts."""
    sizes: dict[int, int] = {}
    for vote in votes:
        if vote.cluster is not None and vote.cluster >= 0:
            sizes[vote.cluster] = sizes.get(vote.cluster, 0) + 1
    if not sizes:
        statuses = ", ".join(sorted({vote.status for vote in votes}))
        raise Rejected("no_answer", f"no sample gave one: {statuses}")
    ranked = sorted(sizes, key=lambda number: -sizes[number])
    most = sizes[ranked[0]]
    needed = {"two_of_three": 2, "majority": max(2, len(votes) // 2 + 1), "unanimous": len(votes)}[policy]
    if most >= needed:
        return ranked[0]
    if most > 1 and len(ranked) > 1 and sizes[ranked[1]] == most:
        raise Rejected("tie", f"two answers with {most} votes each of {len(votes)}")
    raise Rejected("no_agreement", f"{most} of {len(votes)} samples agree at the most, {needed} have to")


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Asks no engine. The share kept is the paper's for its test set: 11.6k of 20k (section 4.1.2)."""
    kept = 1.0 if config.policy == "none" else 0.58
    rows = round(rows_in["solutions"] * kept)
    notes = () if config.policy == "none" else ("assumes that 58% are kept, as in the paper's test set",)
    return Forecast(rows_out=rows, disk_bytes=rows * 3000, notes=notes)
