"""Compare two artifacts: their config, inputs, counts, usage and library versions.

personahub diff runs/quickstart/problems runs/real/problems
"""

from __future__ import annotations

import argparse

from personahub.core.artifact import open_artifact
from personahub.core.experiments.experiment import describe, describe_differences

_RESULTS = {"counts", "usage", "summary", "versions", "source"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub diff`."""
    parser.add_argument("a", metavar="A", help="Folder of a stage, such as runs/quickstart/problems")
    parser.add_argument("b", metavar="B", help="Folder of the stage to compare with")


def run(options: argparse.Namespace) -> int:
    """Print the differences, one per line."""
    a, b = (open_artifact(path).manifest for path in (options.a, options.b))
    old, new = ({**describe(m), **m.model_dump(mode="json", include=_RESULTS)} for m in (a, b))
    lines = describe_differences(old, new)
    print("\n".join(lines) if lines else f"same: fingerprint {a.fingerprint}")
    return 0
