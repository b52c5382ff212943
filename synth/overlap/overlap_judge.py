"""A model that decides whether problems near a benchmark item are copies.

    clean:
      run: synth.decontaminate
      inputs: {problems: verified, math: math}
      config: {judge: {engine: judge, words: 0.5}}

The judge reads only problems whose best match is between its own threshold and that of the stage. A yes
removes the problem, and so do replies that cannot be read, because a leak costs more than a problem.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from personahub.core.config import EngineName, FrozenModel, TemplateFolder
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected
from personahub.core.identity import derive_seed
from personahub.core.records import Row
from personahub.core.template import load_template
from personahub.core.texts.replies import escape_tags, without_thinking
from synth.overlap.index import Match
from synth.prompts import PROMPTS

PROMPT_TOKENS, REPLY_TOKENS = 550, 60  # two word problems and the question; three sentences

_MAX_CHARS = 6000  # of either problem
_LABEL = re.compile(r"(same problem)(?=\W{0,50}:)", re.IGNORECASE)
_JUDGEMENT = re.compile(r"^\W{0,20}same problem\W{0,20}:\W{0,20}(yes|no)\W{0,20}$", re.IGNORECASE | re.MULTILINE)


class OverlapJudge(FrozenModel):
    """Configuration of the judge. The gray zone starts here and ends at the stage's `words` and `cosine`."""

    engine: EngineName
    words: float = Field(
        default=0.5, gt=0, lt=1, description="Start of the gray zone: Jaccard similarity of the sets of words."
    )
    cosine: float = Field(default=0.8, gt=-1, lt=1, description="Start of the gray zone: cosine of the embeddings.")
    template: Annotated[str, TemplateFolder(PROMPTS)] = "same_problem"
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)
    attempts: int = Field(
        default=3, gt=0, description="Attempts per judgment until one can be read; 1 with greedy decoding."
    )


def overlap_request(judge: OverlapJudge, seed: int, row: Row, match: Match) -> Request:
    """Returns the request about one problem and its best match."""
    template = load_template(judge.template, PROMPTS)
    messages = template.render(item=_quoted(match.item.problem), candidate=_quoted(row["problem"]))
    own_seed = derive_seed(seed, "same_problem", row["id"])
    return Request(messages, judge.sampling, own_seed, engine=judge.engine)


def parse_same(_: Request, completion: Completion) -> bool:
    """Returns whether the judge says that the two problems are the same.

    Raises:
        Rejected: `no_judgement` or `contradictory_judgement`.
    """
    judgements = {word.lower() for word in _JUDGEMENT.findall(without_thinking(completion.text))}
    if len(judgements) != 1:
        reason = "contradictory_judgement" if judgements else "no_judgement"
        raise Rejected(reason, "the reply must end with one line 'Same problem: yes' or 'Same problem: no'")
    return judgements == {"yes"}


def _quoted(problem: str) -> str:
    """Return a problem as data. It cannot close its tag or contain a line that reads as a judgment."""
    return _LABEL.sub(r"\1_", escape_tags(problem[:_MAX_CHARS], "reference", "candidate"))
