r"""A model as second judge, behind the rules: the paper's protocol, for what the rules cannot read.

    if judge_is_asked("unreadable", verdict):
        messages = judge_request(problem, gold, verdict.extracted)      # for the engine of a stage
        says = read_judgement(completion.text)                          # raises Rejected: ask again
    outcomes.append(Judged(verdict, asked, says))
    ...
    result["judge"] = summarise(outcomes, when="unreadable", model=completion.model).as_dict()

All of it is pure: requests go through the generation loop, which journals, repeats and counts them.

What a model wrote is data in the judge's prompt. It is cut to a length, stands between tags that it
cannot close, and cannot hold a line that reads as a judgement, so a judge that repeats the candidate
before (or instead of) judging it is not misread. A judge that lets itself be talked round is still a
judge that errs: that is why its disagreements with the rules are reported beside every result.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from personahub.core.answers.verdict import EMPTY_REFERENCE, Verdict
from personahub.core.config import TemplateFolder
from personahub.core.errors import Rejected
from personahub.core.prompts import PROMPTS
from personahub.core.template import Message, Template, load_template

When = Literal["unreadable", "disagree", "all"]
JudgeTemplate = Annotated[str, TemplateFolder(PROMPTS)]

MAX_ANSWER = 1_000  # characters of either answer that the judge sees
MAX_PROBLEM = 8_000

_TAGS = re.compile(r"<(?=\s*/?\s*(?:problem|reference|candidate)\s*>)", re.IGNORECASE)
_MARK = re.compile(r"(judge?ment)(?=\W{0,50}:)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_JUDGEMENT = re.compile(
    r"^[^\w\n]{0,20}judge?ment[^\w\n]{0,20}:\W{0,20}(yes|no)[^\w\n]{0,20}$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A check by the rules, and by the judge where it was asked.

    Attributes:
        verdict: what the rules say.
        asked: whether the judge was asked.
        says: its judgement; None when it was not asked, or when none of its replies could be read.
    """

    verdict: Verdict
    asked: bool = False
    says: bool | None = None

    @property
    def correct(self) -> bool:
        """The judge's word where it gave one, the rules' elsewhere."""
        return self.verdict.correct if self.says is None else self.says


@dataclass(frozen=True, slots=True)
class JudgeSummary:
    """How far a result rests on the judge. Counts are of checks.

    Attributes:
        model: as the engine names it.
        when: the rule by which it was asked.
        prompt: fingerprint of the judge's template.
        checked: all checks.
        asked: those that the judge was asked about.
        unread: asked, but no reply could be read; the rules' verdict stands.
        agreed: judge and rules say the same.
        judge_accepts: the rules do not say `correct`, the judge does.
        judge_rejects: the rules say `correct`, the judge does not.
    """

    model: str
    when: When
    prompt: str
    checked: int
    asked: int
    unread: int
    agreed: int
    judge_accepts: int
    judge_rejects: int

    @property
    def disagreement(self) -> float | None:
        """Share of the readable judgements that contradict the rules; None when there are none."""
        read = self.asked - self.unread
        return (self.judge_accepts + self.judge_rejects) / read if read else None

    def as_dict(self) -> dict[str, Any]:
        """The fields and `disagreement` as plain JSON values."""
        return {**asdict(self), "disagreement": self.disagreement}


def judge_is_asked(when: When, verdict: Verdict) -> bool:
    """Whether a check goes to the judge too; never where one side is missing.

    Args:
        when: `unreadable`: the rules could not read one side, or ran out of time; `disagree`: whatever
            they do not call correct; `all`: every answer.
        verdict: what the rules say. A check that timed out names no answer: pass the judge what
            `extract` finds, or the tail of the completion.
    """
    if verdict.label == "no_answer" or verdict.rule == EMPTY_REFERENCE:
        return False
    undecided = verdict.label in ("timeout", "error") or verdict.rule.startswith(("unread", "refused"))
    return when == "all" or (when == "disagree" and not verdict.correct) or undecided


def judge_request(problem: str | None, gold: str, pred: str, *, template: str = "judge") -> tuple[Message, ...]:
    """The judge's prompt for one pair of answers.

    Args:
        problem: the problem's text; None leaves it out, as the paper's protocol does.
        gold: the reference answer.
        pred: the predicted answer as extracted.
        template: a file in `personahub/core/prompts`, or the path of one's own, with these three values.

    Raises:
        UserError: no such template, or it wants other values.
    """
    values = {"gold": _quoted(gold, MAX_ANSWER), "pred": _quoted(pred, MAX_ANSWER)}
    return _template(template).render(problem=_quoted(problem or "", MAX_PROBLEM) or None, **values)


def read_judgement(text: str) -> bool:
    """Whether the judge says that the answers are the same.

    Only lines of the form `Judgement: yes` count, not a yes or no anywhere else: the reply may repeat
    the candidate, and a candidate may be the word yes.

    Raises:
        Rejected: there is no such line, or there are two that contradict each other.
    """
    said = {word.lower() for word in _JUDGEMENT.findall(text)}
    if len(said) != 1:
        reason = "contradictory_judgement" if said else "no_judgement"
        raise Rejected(reason, "the reply has to end in one line 'Judgement: yes' or 'Judgement: no'")
    return said == {"yes"}


def summarise(outcomes: Iterable[Judged], *, when: When, model: str, template: str = "judge") -> JudgeSummary:
    """Count where the judge was asked and where it and the rules differ, either way."""
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        counts["checked"] += 1
        if not outcome.asked:
            continue
        counts["asked"] += 1
        if outcome.says is None:
            counts["unread"] += 1
        elif outcome.says == outcome.verdict.correct:
            counts["agreed"] += 1
        else:
            counts["judge_accepts" if outcome.says else "judge_rejects"] += 1
    return JudgeSummary(
        model,
        when,
        _template(template).fingerprint,
        counts["checked"],
        counts["asked"],
        counts["unread"],
        counts["agreed"],
        counts["judge_accepts"],
        counts["judge_rejects"],
    )


@lru_cache(maxsize=8)
def _template(name: str) -> Template:
    return load_template(name, PROMPTS)


def _quoted(text: str, limit: int) -> str:
    """Text of a model's as data: short, without control characters, our tags, or lines that read as a judgement."""
    text = _CONTROL.sub("", text).strip()
    if len(text) > limit:
        text = text[:limit] + " [cut]"
    return _MARK.sub(r"\1_", _TAGS.sub("< ", text))
