r"""Asks a model about answers that the rules cannot read, by the paper's protocol.

    if judge_is_asked("unreadable", verdict):
        messages = judge_request(problem, gold, verdict.extracted)      # for the engine of a stage
        says = read_judgement(completion.text)                          # raises Rejected: ask again
    outcomes.append(Judged(verdict, asked, says))
    ...
    result["judge"] = summarise(outcomes, when="unreadable", model=completion.model).as_dict()

All functions are pure: requests go through the generation loop, which journals, retries and counts them.

Text from a model is data in the judge's prompt. It is truncated, placed between tags that it cannot
close, and stripped of lines that read as a judgement, so a judge that repeats the candidate before (or
instead of) judging it is not misread. A judge can still be persuaded by the candidate, so its
disagreements with the rules are reported with every result.
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
from personahub.core.texts.replies import escape_tags

When = Literal["unreadable", "disagree", "all"]
JudgeTemplate = Annotated[str, TemplateFolder(PROMPTS)]

MAX_ANSWER = 1_000  # longest answer shown to the judge
MAX_PROBLEM = 8_000

_MARK = re.compile(r"(judge?ment)(?=\W{0,50}:)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_JUDGEMENT = re.compile(
    r"^[^\w\n]{0,20}judge?ment[^\w\n]{0,20}:\W{0,20}(yes|no)[^\w\n]{0,20}$", re.IGNORECASE | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A check by the rules and, if it was asked, by the judge.

    Attributes:
        verdict: the verdict of the rules.
        asked: whether the judge was asked.
        says: the judgement; None if the judge was not asked or none of its replies could be read.
    """

    verdict: Verdict
    asked: bool = False
    says: bool | None = None

    @property
    def correct(self) -> bool:
        """The judgement if there is one, else the verdict of the rules."""
        return self.verdict.correct if self.says is None else self.says


@dataclass(frozen=True, slots=True)
class JudgeSummary:
    """How much a result depends on the judge. All counts are numbers of checks.

    Attributes:
        model: as the engine names it.
        when: the rule by which it was asked.
        prompt: fingerprint of the judge's template.
        checked: all checks.
        asked: checks that the judge was asked about.
        unread: checks where no reply could be read and the verdict of the rules stands.
        agreed: judge and rules agree.
        judge_accepts: the judge accepts what the rules do not call `correct`.
        judge_rejects: the judge rejects what the rules call `correct`.
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
        """Returns the share of readable judgements that contradict the rules. None if there are no judgements."""
        read = self.asked - self.unread
        return (self.judge_accepts + self.judge_rejects) / read if read else None

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields and `disagreement` as plain JSON values."""
        return {**asdict(self), "disagreement": self.disagreement}


def judge_is_asked(when: When, verdict: Verdict) -> bool:
    """Returns whether to ask the judge about a check; never if one side is missing.

    Args:
        when: `unreadable`: the rules could not read one side or timed out; `disagree`: everything that
            the rules do not call correct; `all`: every answer.
        verdict: the verdict of the rules. A check that timed out has no answer: pass the judge what
            `extract` finds, or the tail of the completion.
    """
    if verdict.label == "no_answer" or verdict.rule == EMPTY_REFERENCE:
        return False
    undecided = verdict.label in ("timeout", "error") or verdict.rule.startswith(("unread", "refused"))
    return when == "all" or (when == "disagree" and not verdict.correct) or undecided


def judge_request(problem: str | None, gold: str, pred: str, *, template: str = "judge") -> tuple[Message, ...]:
    """Returns the judge's prompt for one pair of answers.

    Args:
        problem: the text of the problem; None omits it, as in the paper's protocol.
        gold: the reference answer.
        pred: the predicted answer as extracted.
        template: a file in `personahub/core/prompts`, or a path to your own, that uses these three values.

    Raises:
        UserError: the template does not exist or uses other values.
    """
    values = {"gold": _quoted(gold, MAX_ANSWER), "pred": _quoted(pred, MAX_ANSWER)}
    return _template(template).render(problem=_quoted(problem or "", MAX_PROBLEM) or None, **values)


def read_judgement(text: str) -> bool:
    """Returns whether the judge says that the answers are the same.

    Only lines of the form `Judgement: yes` count, because the reply may repeat the candidate, and the
    candidate may be the word yes.

    Raises:
        Rejected: there is no such line, or two such lines contradict each other.
    """
    said = {word.lower() for word in _JUDGEMENT.findall(text)}
    if len(said) != 1:
        reason = "contradictory_judgement" if said else "no_judgement"
        raise Rejected(reason, "the reply has to end in one line 'Judgement: yes' or 'Judgement: no'")
    return said == {"yes"}


def summarise(outcomes: Iterable[Judged], *, when: When, model: str, template: str = "judge") -> JudgeSummary:
    """Counts how often the judge was asked and how often it and the rules differ."""
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
    """Prepares model text as data. Truncates it and removes control characters, prompt tags and judgement lines."""
    text = _CONTROL.sub("", text).strip()
    if len(text) > limit:
        text = text[:limit] + " [cut]"
    return _MARK.sub(r"\1_", escape_tags(text, "problem", "reference", "candidate"))
