"""Solutions compared with each other: a problem is kept when enough of its samples agree.

    verified:
      run: synth.verify
      inputs: {solutions: solutions}
      config: {policy: two_of_three}

Every sample may cast one vote, for its final answer (`synth.voting.votes`); one without an answer casts none, but
still counts as a sample. Votes whose answers are equivalent (`personahub.core.answers`) form a cluster,
and the largest one wins. With a `judge`, a model reads the votes that could not be parsed, and no
others (`synth.voting.vote_judge`). The policy decides whether the winner has enough:

* `none`: nothing is compared and no program runs. The first CoT sample that was not truncated is
  kept, with or without an answer, whatever the others say: the paper's training data.
* `two_of_three`: of the first three samples at least two agree. The paper's test set (section
  4.1.2): CoT and PoT of one model and CoT of another. Further samples do not vote.
* `majority`: more than half of all samples agree.
* `unanimous`: all samples vote, and they agree.

All but `none` need at least two votes: one sample cannot agree with itself. `min_vote_share` (winning
votes / samples) and `require_pot` ask for more: a program among the winning votes which, unless
`pot_computes` is off, computes its answer from the problem's own numbers (`synth.voting.grounding`). All but `none`
also drop problems that the rules of `synth.contracts.validity` find unsound, by their text or by the answer
that won. The solution that is kept is a CoT of the winning cluster.

Kept or rejected, a record carries its votes and the reason. `vote_share` is the problem's solve rate as
far as it can be known without a reference; `difficulty` sorts it into three.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Annotated, Literal

from pydantic import Field, model_validator

from personahub.core.config import EXECUTION, StageConfig
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast, Requests, Work
from personahub.core.generation.loop import CompletionShard, map_completions
from personahub.core.records import VERIFIED, Row
from personahub.core.stage import Shard, Stage
from synth.contracts.validity import check_answer, check_problem
from synth.sandbox.programs import Limits
from synth.voting.grounding import COMPUTES_NOTHING
from synth.voting.vote_judge import VoteJudge, judge_prompts, parse_judgement, unparsed, with_judgements
from synth.voting.votes import Counting, Vote, answer_of, cluster_sizes

VERSION = "5"
INPUTS = ("solutions",)
WORK = Work(cpu_seconds=0.00044, memory_bytes=100, measured_by="benchmarks.million")

Policy = Literal["none", "two_of_three", "majority", "unanimous"]

_ROWS_AT_A_TIME = 256


class Config(StageConfig):
    """See the module docstring for the policies."""

    policy: Policy = "majority"
    min_vote_share: float = Field(default=0.0, ge=0, le=1)
    require_pot: bool = Field(default=False, description="At least one program is among the winning votes.")
    pot_computes: bool = Field(
        default=True,
        description="That program computes its answer from the problem's numbers (synth.voting.grounding).",
    )
    judge: VoteJudge | None = Field(default=None, description="Reads the votes that the rules could not.")
    check_problems: bool = Field(
        default=True, description="Drop what the rules of synth.contracts.validity find unsound."
    )
    choose: Literal["first", "shortest"] = Field(default="first", description="Which CoT of the winning cluster stays.")
    check_timeout_s: float = Field(default=5.0, gt=0, description="For one comparison; then two answers differ.")
    programs: Limits = Field(default=Limits(), description="What a PoT program may use.")
    workers: Annotated[int, EXECUTION] = Field(default=2, gt=0, description="Processes that compare or run programs.")

    @model_validator(mode="after")
    def _the_judge_has_votes_to_read(self) -> Config:
        if self.judge is not None and self.policy == "none":
            raise ValueError("policy none compares no votes: take `judge` out, or name another policy")
        return self


def run(stage: Stage[Config]) -> None:
    """Write those `solutions` that the policy accepts."""
    if stage.config.judge is None:
        stage.map_shards(_process, stage.input("solutions"), VERIFIED)
    else:
        map_completions(stage, partial(_process_with_judge, stage.config.judge), stage.input("solutions"), VERIFIED)


def _process(stage: Stage[Config], shard: Shard) -> None:
    config, rows = stage.config, shard.rows()
    with Counting(config.programs, config.workers, config.check_timeout_s) as counting:
        while batch := list(islice(rows, _ROWS_AT_A_TIME)):
            ballots = counting.ballots(batch, partial(_voters, config.policy), compare=config.policy != "none")
            for row, votes in zip(batch, ballots, strict=True):
                _settle(config, shard, row, votes)


async def _process_with_judge(judge: VoteJudge, stage: Stage[Config], shard: CompletionShard) -> None:
    config, rows = stage.config, shard.rows()
    asking = judge_prompts(judge, config.seed)

    def count(counting: Counting, batch: Sequence[Row]) -> list[Row]:
        ballots = counting.ballots(batch, partial(_voters, config.policy))
        return [
            {**row, "ballot": votes, "unparsed": unparsed(votes, counting.pool)}
            for row, votes in zip(batch, ballots, strict=True)
        ]

    with Counting(config.programs, config.workers, config.check_timeout_s) as counting:
        while batch := list(islice(rows, _ROWS_AT_A_TIME)):
            counted = await asyncio.to_thread(count, counting, batch)
            async for row, judgements in shard.generate(counted, asking, parse_judgement, judge.attempts):
                votes = with_judgements(row.pop("ballot"), row.pop("unparsed"), judgements)
                _settle(config, shard, row, votes)


def _voters(policy: Policy, row: Row) -> list[Row]:
    """The samples that the policy looks at."""
    if policy == "none":
        return [sample for sample in row["samples"] if sample["kind"] == "cot"]
    return row["samples"][:3] if policy == "two_of_three" else row["samples"]


def _settle(config: Config, shard: Shard, row: Row, votes: list[Vote]) -> None:
    problem = {key: value for key, value in row.items() if key != "samples"}
    told = {"votes": [vote.record() for vote in votes], "policy": config.policy}
    samples = _voters(config.policy, row)
    try:
        if config.check_problems and config.policy != "none":
            check_problem(row["problem"])
        chosen, share = decide(config, samples, votes)
        answer = votes[chosen].answer
        if answer is None and share is not None:  # a vote that the judge has read has no answer of its own
            answer = answer_of(votes, votes[chosen].cluster)
        if config.check_problems and share is not None:
            check_answer(row["problem"], answer or "")
    except Rejected as error:
        shard.reject({**row, **told}, error)
        return
    shard.write(
        {
            **problem,
            **told,
            "answer": answer,
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
            `low_vote_share`, `no_pot_in_winning_cluster`, `pot_computes_nothing`, `pot_invents_number` or
            `no_cot_in_winning_cluster`.
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
    if config.require_pot:
        _need_program(config, [vote for vote in votes if vote.cluster == winner and vote.kind == "pot"])
    solutions = [i for i, vote in enumerate(votes) if vote.cluster == winner and vote.kind == "cot"]
    if not solutions:
        raise Rejected("no_cot_in_winning_cluster", "only programs found the answer: there is no solution to keep")
    if config.choose == "shortest":
        solutions.sort(key=lambda i: len(samples[i]["text"]))
    solutions.sort(key=lambda i: votes[i].status == "judged")  # one that states its answer as it was asked to
    return solutions[0], share


def _need_program(config: Config, programs: Sequence[Vote]) -> None:
    if not programs:
        raise Rejected("no_pot_in_winning_cluster")
    flaws = sorted({vote.flaw for vote in programs if vote.flaw is not None})
    if config.pot_computes and all(vote.flaw is not None for vote in programs):
        raise Rejected(
            "pot_computes_nothing" if flaws == [COMPUTES_NOTHING] else "pot_invents_number", "; ".join(flaws)
        )


def _first_whole(votes: Sequence[Vote]) -> int:
    if not votes:
        raise Rejected("no_cot", "no sample is a CoT")
    for index, vote in enumerate(votes):
        if vote.status != "truncated":
            return index
    raise Rejected("truncated", "all CoT samples were cut off: raise sampling.max_tokens")


def _winner(policy: Policy, votes: Sequence[Vote]) -> int:
    """The cluster that the policy accepts."""
    sizes = cluster_sizes(votes)
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


_JUDGED = (
    0.1  # unparsed votes per problem: of five samples by a GPT-4-class model, one in fifty ends without a box (assumed)
)
_JUDGE_TOKENS = (400, 60)  # the judge's prompt with the end of a solution, and its reply


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Asks the judge at the most. The share kept is the paper's for its test set: 11.6k of 20k (section 4.1.2)."""
    kept = 1.0 if config.policy == "none" else 0.58
    rows = round(rows_in["solutions"] * kept)
    notes = () if config.policy == "none" else ("assumes that 58% are kept, as in the paper's test set",)
    requests = {}
    if config.judge is not None:
        count = round(rows_in["solutions"] * _JUDGED)
        requests[config.judge.engine] = Requests(count, count * _JUDGE_TOKENS[0], count * _JUDGE_TOKENS[1])
        notes += (f"assumes {_JUDGED:g} unparsed votes per problem",)
    return Forecast(rows_out=rows, requests=requests, disk_bytes=rows * 3000, notes=notes)
