"""Groups equivalent answers, for maj@k and for agreement between solutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from personahub.core.answers.checking import check
from personahub.core.answers.pool import CheckerPool
from personahub.core.answers.reading.normalise import key, normalise
from personahub.core.answers.verdict import Verdict


def cluster(answers: Sequence[str | None], pool: CheckerPool | None = None) -> list[list[int]]:
    """Groups the indices of equivalent answers.

    Groups and members are in order of first appearance. Each answer is compared with the first member of every group,
    in both directions. The order of the answers matters only where equivalence is not transitive (rounding). None
    belongs to no group.

    Args:
        answers: predicted answers as extracted; None for a missing answer.
        pool: runs the comparisons; None runs them in this process, without a deadline.
    """
    compare = pool.check if pool is not None else check
    groups: list[list[int]] = []
    by_key: dict[str, list[int]] = {}
    for index, answer in enumerate(answers):
        if answer is None:
            continue
        same_text = by_key.get(written := key(normalise(answer)))
        if same_text is None:
            same_text = _find(answers, groups, answer, compare)
            if same_text is None:
                groups.append(same_text := [])
            by_key[written] = same_text
        same_text.append(index)
    return groups


def _find(
    answers: Sequence[str | None], groups: list[list[int]], answer: str, compare: Callable[[str, str], Verdict]
) -> list[int] | None:
    for group in groups:
        first = answers[group[0]] or ""
        if compare(first, answer).correct and compare(answer, first).correct:
            return group
    return None
