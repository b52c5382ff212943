"""Grade predicted answers against reference answers, row by row.

    personahub check answers.jsonl graded.jsonl
    personahub check answers.jsonl graded.jsonl --policy strict --units-optional
    cat answers.jsonl | personahub check - - --gold-field answer --pred-field completion

Each output row is the input row plus its verdict, the extracted answer, the rule that decided, and
the milliseconds it took. A row that cannot be checked gets the verdict `error` and the reason. Such
rows are counted; the exit code is 2 only if there are no other rows.
"""

from __future__ import annotations

import argparse
import os
import sys

from personahub.commands.model_options import ModelOptions
from personahub.core.answers import Policy, check_file
from personahub.core.errors import UserError

_POLICY = ModelOptions(Policy, defaults=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub check`."""
    parser.add_argument(
        "source", metavar="IN.jsonl", help="Rows with a reference and a predicted answer; - reads stdin"
    )
    parser.add_argument("target", metavar="OUT.jsonl", help="Graded rows; - writes to stdout")
    parser.add_argument(
        "--gold-field", default="gold", metavar="FIELD", help="Field of the reference answer (default: gold)"
    )
    parser.add_argument(
        "--pred-field", default="pred", metavar="FIELD", help="Field of the predicted answer (default: pred)"
    )
    workers = min(os.cpu_count() or 1, 8)
    parser.add_argument(
        "--workers", type=int, default=workers, metavar="N", help=f"Checker processes (default: {workers})"
    )
    parser.add_argument(
        "--deadline", type=float, default=5.0, metavar="SECONDS", help="Time limit for one row (default: 5)"
    )
    contested = parser.add_argument_group(
        "contested cases", "--policy chooses the defaults, which the other options change one by one."
    )
    contested.add_argument(
        "--policy",
        choices=("lenient", "strict"),
        default="lenient",
        help="lenient: only the value counts; strict: the form counts too (default: lenient)",
    )
    _POLICY.add_to(contested)


def run(options: argparse.Namespace) -> int:
    """Grade the rows and print how many got each verdict."""
    if not 0 < options.deadline < float("inf"):
        raise UserError(f"--deadline {options.deadline:g}: must be a positive number of seconds, such as 5")
    preset = Policy.strict() if options.policy == "strict" else Policy()
    counts = check_file(
        options.source,
        options.target,
        gold_field=options.gold_field,
        pred_field=options.pred_field,
        workers=options.workers,
        deadline_s=options.deadline,
        policy=_POLICY.build(Policy, options, **preset.model_dump()),
    )
    total = max(sum(counts.values()), 1)
    summary = ", ".join(f"{label} {number:,} ({100 * number / total:.1f}%)" for label, number in counts.items())
    print(summary, file=sys.stderr if options.target == "-" else sys.stdout)
    return 0
