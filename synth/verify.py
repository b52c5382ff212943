"""Verify solutions by agreement: a problem is kept if enough samples agree.

    verified:
      run: synth.verify
      inputs: {solutions: solutions}
      config: {policy: two_of_three}

Every sample has one vote, for its final answer (`synth.voting.votes`). A sample without an answer does not vote, but
counts as a sample. Votes with equivalent answers (`personahub.core.answers`) form a cluster, and the largest cluster
wins. With a `judge`, a model reads only the votes that could not be parsed (`synth.voting.vote_judge`). The policy
decides whether the winner has enough votes:

* `none`: nothing is compared and no program runs. The first CoT sample that is not truncated is kept, with or
  without an answer. This is the paper's training data.
* `two_of_three`: at least two of the first three samples agree. Other samples do not vote. This is the paper's test
  set (section 4.1.2), with CoT and PoT of one model and CoT of another.
* `majority`: more than half of all samples agree.
* `unanimous`: all samples vote, and they agree.

All policies except `none` need at least two votes, because one sample cannot agree with itself. `min_vote_share`
(winning votes / samples) and `require_pot` are additional conditions. `require_pot` needs a program among the winning
votes. Unless `pot_computes` is off, the program must compute its answer from the problem's own numbers
(`synth.voting.grounding`). All policies except `none` also reject problems that the rules of
`synth.contracts.validity` find unsound, by their text or by the winning answer, and problems that state the winning
answer as a result (`reject_stated_answers`). The kept solution is a CoT of the winning cluster.

Every record, kept or rejected, has its votes and the reason. `vote_share` estimates the problem's solve rate without
a reference, and `difficulty` sorts it into three levels.
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
from personahub.core.forecast import Forecast, Work
from personahub.core.generation.llm_stage import forecast_requests
from personahub.core.generation.loop import CompletionShard, map_completions
from personahub.core.records import VERIFIED, Row
from personahub.core.stage import Shard, Stage
from personahub.core.texts.replies import without_thinking
from synth.contracts.additions import check_stated_answer
from synth.contracts.validity import check_answer, check_problem
from synth.sandbox.programs import Limits
from synth.voting.grounding import COMPUTES_NOTHING
from synth.voting.vote_judge import VoteJudge, judge_prompts, parse_judgement, unparsed, with_judgements
from synth.voting.votes import Counting, Vote, answer_of, cluster_sizes

VERSION = "6"
INPUTS = ("solutions",)
WORK = Work(cpu_seconds=0.00044, memory_bytes=100, measured_by="benchmarks.million")

Policy = Literal["none", "two_of_three", "majority", "unanimous"]

_ROWS_AT_A_TIME = 256


class Config(StageConfig):
    """See the module docstring for the policies."""

    policy: Policy = "majority"
    min_vote_share: float = Field(default=0.0, ge=0, le=1)
    require_pot: bool = Field(default=False, description="Require at least one program among the winning votes.")
    pot_computes: bool = Field(
        default=True,
        description="That program must compute its answer from the problem's numbers (synth.voting.grounding).",
    )
    judge: VoteJudge | None = Field(default=None, description="Reads the votes that the rules cannot parse.")
    check_problems: bool = Field(
        default=True, description="Reject problems that the rules of synth.contracts.validity find unsound."
    )
    reject_stated_answers: bool = Field(
        default=True, description="Reject problems whose text states the winning answer as a result."
    )
    choose: Literal["first", "shortest"] = Field(
        default="first", description="Which CoT of the winning cluster to keep."
    )
    check_timeout_s: float = Field(
        default=5.0, gt=0, description="Time limit of a comparison; a slower one counts as different."
    )
    programs: Limits = Field(default=Limits(), description="Resource limits of a PoT program.")
    workers: Annotated[int, EXECUTION] = Field(default=2, gt=0, description="Processes that compare or run programs.")

    @model_validator(mode="after")
    def _judge_needs_votes(self) -> Config:
        if self.judge is not None and self.policy == "none":
            raise ValueError("policy none does not compare votes: remove `judge` or choose another policy")
        return self


def run(stage: Stage[Config]) -> None:
    """Write the `solutions` that the policy accepts."""
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
                _write_or_reject(config, shard, row, votes)


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
                _write_or_reject(config, shard, row, votes)


def _voters(policy: Policy, row: Row) -> list[Row]:
    """Return the samples that the policy uses."""
    if policy == "none":
        return [sample for sample in row["samples"] if sample["kind"] == "cot"]
    return row["samples"][:3] if policy == "two_of_three" else row["samples"]


def _write_or_reject(config: Config, shard: Shard, row: Row, votes: list[Vote]) -> None:
    problem = {key: value for key, value in row.items() if key != "samples"}
    verdict = {"votes": [vote.record() for vote in votes], "policy": config.policy}
    samples = _voters(config.policy, row)
    try:
        if config.check_problems and config.policy != "none":
            check_problem(row["problem"])
        chosen, share = decide(config, samples, votes)
        answer = votes[chosen].answer
        if answer is None and share is not None:  # a vote that the judge read has no answer of its own
            answer = answer_of(votes, votes[chosen].cluster)
        if config.check_problems and share is not None:
            check_answer(row["problem"], answer or "")
        if config.reject_stated_answers and share is not None:
            check_stated_answer(row["problem"], answer or "")
    except Rejected as error:
        shard.reject({**row, **verdict}, error)
        return
    shard.write(
        {
            **problem,
            **verdict,
            "answer": answer,
            "solution": samples[chosen]["text"],
            "solution_model": samples[chosen]["model"],
            "vote_share": share,
            "difficulty": difficulty(share),
            "reason": _why_kept(votes, chosen, share),
        }
    )


def difficulty(share: float | None) -> str | None:
    """Return `easy` if all samples agree, `medium` from two thirds, else `hard`. None if none were compared."""
    if share is None:
        return None
    return "easy" if share == 1 else "medium" if share > 0.66 else "hard"


def _why_kept(votes: Sequence[Vote], chosen: int, share: float | None) -> str:
    if share is None:
        return "first whole CoT, nothing compared"
    agreeing = [vote.kind for vote in votes if vote.cluster == votes[chosen].cluster]
    return f"{agreeing.count('cot')} CoT and {agreeing.count('pot')} PoT agree, of {len(votes)} samples"


def decide(config: Config, samples: Sequence[Row], votes: Sequence[Vote]) -> tuple[int, float | None]:
    """Return the index of the sample to keep, and the winning share.

    The share is None for policy `none`.

    Raises:
        Rejected: `no_cot`, `truncated` (policy `none`); `too_few_samples`, `no_answer`, `tie`, `no_agreement`,
            `low_vote_share`, `no_pot_in_winning_cluster`, `pot_computes_nothing`, `pot_invents_number` or
            `no_cot_in_winning_cluster`.
    """
    if config.policy == "none":
        return _first_complete(votes), None
    if len(votes) < 2:
        raise Rejected("too_few_samples", f"{len(votes)}; agreement needs at least two")
    winner = _winner(config.policy, votes)
    # A sample that failed upstream is not in the record, but still counts as one of the three requested.
    samples_asked = 3 if config.policy == "two_of_three" else len(votes)
    share = sum(vote.cluster == winner for vote in votes) / samples_asked
    if share < config.min_vote_share:
        raise Rejected("low_vote_share", f"{share:.2f} < {config.min_vote_share:g}")
    if config.require_pot:
        _check_programs(config, [vote for vote in votes if vote.cluster == winner and vote.kind == "pot"])
    solutions = [i for i, vote in enumerate(votes) if vote.cluster == winner and vote.kind == "cot"]
    if not solutions:
        raise Rejected("no_cot_in_winning_cluster", "only programs found the answer: there is no solution to keep")
    if config.choose == "shortest":
        solutions.sort(key=lambda i: len(without_thinking(samples[i]["text"])))
    solutions.sort(key=lambda i: votes[i].status == "judged")  # prefer one that states its answer in the requested form
    return solutions[0], share


def _check_programs(config: Config, programs: Sequence[Vote]) -> None:
    if not programs:
        raise Rejected("no_pot_in_winning_cluster")
    flaws = sorted({vote.flaw for vote in programs if vote.flaw is not None})
    if config.pot_computes and all(vote.flaw is not None for vote in programs):
        raise Rejected(
            "pot_computes_nothing" if flaws == [COMPUTES_NOTHING] else "pot_invents_number", "; ".join(flaws)
        )


def _first_complete(votes: Sequence[Vote]) -> int:
    if not votes:
        raise Rejected("no_cot", "no sample is a CoT")
    for index, vote in enumerate(votes):
        if vote.status != "truncated":
            return index
    raise Rejected("truncated", "all CoT samples were cut off: raise sampling.max_tokens")


def _winner(policy: Policy, votes: Sequence[Vote]) -> int:
    """Return the cluster that the policy accepts."""
    sizes = cluster_sizes(votes)
    if not sizes:
        statuses = ", ".join(sorted({vote.status for vote in votes}))
        raise Rejected("no_answer", f"no sample has an answer: {statuses}")
    ranked = sorted(sizes, key=lambda number: -sizes[number])
    most = sizes[ranked[0]]
    needed = {"two_of_three": 2, "majority": max(2, len(votes) // 2 + 1), "unanimous": len(votes)}[policy]
    if most >= needed:
        return ranked[0]
    if most > 1 and len(ranked) > 1 and sizes[ranked[1]] == most:
        raise Rejected("tie", f"two answers with {most} of {len(votes)} votes each")
    raise Rejected("no_agreement", f"at most {most} of {len(votes)} samples agree, {needed} are needed")


# Unparsed votes per problem. Assumes five samples of a GPT-4-class model, of which one in fifty ends without a box.
_JUDGED = 0.1
_JUDGE_TOKENS = (400, 60)  # the judge's prompt with the end of a solution, and its reply


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast the judge's requests. The share kept is that of the paper's test set: 11.6k of 20k (section 4.1.2)."""
    kept = 1.0 if config.policy == "none" else 0.58
    rows = round(rows_in["solutions"] * kept)
    notes = () if config.policy == "none" else ("assumes that 58% are kept, as in the paper's test set",)
    requests = {}
    if config.judge is not None:
        requests = forecast_requests((config.judge.engine, round(rows_in["solutions"] * _JUDGED), *_JUDGE_TOKENS))
        notes += (f"assumes {_JUDGED:g} unparsed votes per problem",)
    return Forecast(rows_out=rows, requests=requests, disk_bytes=rows * 3000, notes=notes)
