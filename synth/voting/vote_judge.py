"""A model that reads the votes that the rules cannot read, and only those.

    verified:
      run: synth.verify
      config: {policy: majority, judge: {engine: judge}}

Two kinds of votes are unparsed: a CoT sample without a boxed answer, and an answer that the checker cannot
read or compare in time. The judge decides whether such a vote has the same answer as the leading
cluster. If it says yes, the vote joins that cluster (status `judged`); otherwise the vote does not change.
The judge never decides between two answers that the rules can read, and never adds an answer.
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
from personahub.core.texts.replies import without_thinking
from synth.voting.votes import Vote, answer_of, leading_cluster


class VoteJudge(FrozenModel):
    """Configuration of the judge of unparsed votes."""

    engine: EngineName
    template: JudgeTemplate = "judge"
    show_problem: bool = Field(
        default=False, description="Show the problem, too. The paper's judge sees only the two answers."
    )
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)
    attempts: int = Field(
        default=3, gt=0, description="Attempts per judgment until one can be read; 1 with greedy decoding."
    )


def unparsed(votes: Sequence[Vote], pool: CheckerPool) -> list[int]:
    """Returns the indices of the votes that the judge must read; empty if no vote has an answer."""
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
    """Returns a function that makes the requests of a row. Uses `problem`, `samples`, `ballot` and `unparsed`."""

    def of_ballot(row: Row) -> list[Request]:
        answer = answer_of(row["ballot"], leading_cluster(row["ballot"])) or ""
        problem = row["problem"] if judge.show_problem else None
        requests = []
        for index in row["unparsed"]:
            # Without a box, the answer is at the end if there is one.
            candidate = row["ballot"][index].answer or without_thinking(row["samples"][index]["text"])[-MAX_ANSWER:]
            messages = judge_request(problem, answer, candidate, template=judge.template)
            own_seed = derive_seed(seed, "judge", row["id"], index)
            requests.append(Request(messages, judge.sampling, own_seed, index, engine=judge.engine))
        return requests

    return of_ballot


def parse_judgement(_: Request, completion: Completion) -> bool:
    """Returns whether the judge says that the vote has the leading answer."""
    return read_judgement(without_thinking(completion.text))


def with_judgements(votes: Sequence[Vote], asked: Sequence[int], judgements: Sequence[bool | Failure]) -> list[Vote]:
    """Returns the votes, with those that the judge accepted in the leading cluster."""
    leader, judged = leading_cluster(votes), dict(zip(asked, judgements, strict=True))
    return [
        replace(vote, cluster=leader, status="judged") if judged.get(i) is True else vote
        for i, vote in enumerate(votes)
    ]
