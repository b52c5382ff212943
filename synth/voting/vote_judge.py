"""A model that reads the votes which rules could not, and only those.

    verified:
      run: synth.verify
      config: {policy: majority, judge: {engine: judge}}

Two kinds of vote are unparsed: a CoT sample that ends without a box, and an answer that the checker could
not read or compare in time. The judge is asked whether such a vote says the same as the leading
cluster's answer; with a yes it joins that cluster (status `judged`), with anything else it stays what it was.
The judge never decides between two answers that were read, and makes no answer of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pydantic import Field

from personahub.core.answers import CheckerPool
from personahub.core.answers.judge import MAX_ANSWER, JudgeTemplate, judge_is_asked, judge_request, read_judgement
from personahub.core.config import EngineName, FrozenModel
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.generation.loop import Failure
from personahub.core.identity import derive_seed
from personahub.core.records import Row
from synth.voting.votes import Vote, answer_of, leading_cluster


class VoteJudge(FrozenModel):
    """Who reads the unparsed votes."""

    engine: EngineName
    template: JudgeTemplate = "judge"
    show_problem: bool = Field(default=False, description="The paper's judge sees the two answers only.")
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="Replies asked for until one can be read; 1 when greedy.")


def unparsed(votes: Sequence[Vote], pool: CheckerPool) -> list[int]:
    """Indices of the votes that the judge is asked about; none when nobody gave an answer that could lead."""
    leader = leading_cluster(votes)
    answer = answer_of(votes, leader)
    if answer is None:
        return []
    return [i for i, vote in enumerate(votes) if vote.cluster != leader and _is_unparsed(vote, answer, pool)]


def _is_unparsed(vote: Vote, answer: str, pool: CheckerPool) -> bool:
    if vote.answer is None:
        return vote.kind == "cot" and vote.status == "no_answer"
    return judge_is_asked("unreadable", pool.check(answer, vote.answer))


def judge_prompts(judge: VoteJudge, seed: int) -> Callable[[Row], list[Request]]:
    """The requests about one ballot: a row with `problem`, `samples`, `ballot` and `unparsed`."""

    def of_ballot(row: Row) -> list[Request]:
        answer = answer_of(row["ballot"], leading_cluster(row["ballot"])) or ""
        problem = row["problem"] if judge.show_problem else None
        requests = []
        for index in row["unparsed"]:
            # Without a box the answer, if there is one, stands at the end.
            said = row["ballot"][index].answer or row["samples"][index]["text"][-MAX_ANSWER:]
            messages = judge_request(problem, answer, said, template=judge.template)
            own_seed = derive_seed(seed, "judge", row["id"], index)
            requests.append(Request(messages, judge.sampling, own_seed, index, engine=judge.engine))
        return requests

    return of_ballot


def read(_: Request, completion: Completion) -> bool:
    """Whether the judge says that the vote is the leading answer."""
    return read_judgement(completion.text)


def with_judgements(votes: Sequence[Vote], asked: Sequence[int], judgements: Sequence[bool | Failure]) -> list[Vote]:
    """The votes, with those that the judge recognised in the leading cluster."""
    leader, told = leading_cluster(votes), dict(zip(asked, judgements, strict=True))
    return [
        replace(vote, cluster=leader, status="judged") if told.get(i) is True else vote for i, vote in enumerate(votes)
    ]
