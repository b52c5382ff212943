"""A model decides the grey zone: problems too close to a benchmark item to pass, and too far to be sure.

    clean:
      run: synth.decontaminate
      inputs: {problems: verified, math: math}
      config: {judge: {engine: judge, words: 0.5}}

Only problems whose best match lies between the judge's threshold and the stage's own are asked about. A
yes takes the problem out; so do replies that cannot be read, for a leak costs more than a problem.
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
from personahub.core.texts.replies import escape_tags
from synth.overlap.index import Match
from synth.prompts import PROMPTS

PROMPT_TOKENS, REPLY_TOKENS = 550, 60  # two word problems and the question; three sentences

_MAX_CHARS = 6000  # of either problem
_LABEL = re.compile(r"(same problem)(?=\W{0,50}:)", re.IGNORECASE)
_SAYS = re.compile(r"^\W{0,20}same problem\W{0,20}:\W{0,20}(yes|no)\W{0,20}$", re.IGNORECASE | re.MULTILINE)


class OverlapJudge(FrozenModel):
    """Who decides, and where the grey zone begins; it ends at the stage's `words` and `cosine`."""

    engine: EngineName
    words: float = Field(default=0.5, gt=0, lt=1, description="Jaccard similarity of the sets of words, from here on.")
    cosine: float = Field(default=0.8, gt=-1, lt=1, description="Cosine of the embeddings, from here on.")
    template: Annotated[str, TemplateFolder(PROMPTS)] = "same_problem"
    sampling: Sampling = Sampling(temperature=0.0, max_tokens=1024)
    attempts: int = Field(default=3, gt=0, description="Replies asked for until one can be read; 1 when greedy.")


def overlap_request(judge: OverlapJudge, seed: int, row: Row, match: Match) -> Request:
    """The question about one problem and the item that it resembles most."""
    template = load_template(judge.template, PROMPTS)
    messages = template.render(item=_quoted(match.item.problem), candidate=_quoted(row["problem"]))
    own_seed = derive_seed(seed, "same_problem", row["id"])
    return Request(messages, judge.sampling, own_seed, engine=judge.engine)


def read_same(_: Request, completion: Completion) -> bool:
    """Whether the judge takes the two for the same problem.

    Raises:
        Rejected: `no_judgement` or `contradictory_judgement`.
    """
    said = {word.lower() for word in _SAYS.findall(completion.text)}
    if len(said) != 1:
        reason = "contradictory_judgement" if said else "no_judgement"
        raise Rejected(reason, "the reply has to end in one line 'Same problem: yes' or 'Same problem: no'")
    return said == {"yes"}


def _quoted(problem: str) -> str:
    """A problem as data: it can neither close its tag nor hold a line that reads as the judge's."""
    return _LABEL.sub(r"\1_", escape_tags(problem[:_MAX_CHARS], "reference", "candidate"))
