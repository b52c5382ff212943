"""Answer checking: does this completion give the reference answer?

    from personahub.core.answers import CheckerPool, Policy, check, extract

    check(r"\\frac{1}{2}", r"... so the answer is \\boxed{0.5}.").label        # "correct"
    with CheckerPool(workers=4, deadline_s=5) as pool:
        for verdict in pool.check_many(pairs):                                # in order, never hangs
            ...

`check` runs in this process. `CheckerPool` runs the same checks in worker processes that the parent kills at
a deadline. A model can serve as a second judge (`judge.py`). docs/answers.md describes the rules, the policy
for contested cases, and the measurements.
"""

from __future__ import annotations

from personahub.core.answers.checking import check
from personahub.core.answers.clusters import cluster
from personahub.core.answers.equivalence import equivalent
from personahub.core.answers.extract import extract
from personahub.core.answers.files import check_file
from personahub.core.answers.policy import Policy
from personahub.core.answers.pool import CheckerPool
from personahub.core.answers.verdict import LABELS, Extracted, Label, Verdict

__all__ = [
    "LABELS",
    "CheckerPool",
    "Extracted",
    "Label",
    "Policy",
    "Verdict",
    "check",
    "check_file",
    "cluster",
    "equivalent",
    "extract",
]
