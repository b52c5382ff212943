"""Show the counts and some records of an artifact.

personahub show runs/quickstart/personas -n 5
personahub show runs/quickstart/good_personas --rejected
"""

from __future__ import annotations

import argparse
import itertools
import json

from personahub.core.artifact import Artifact, open_artifact
from personahub.core.texts.figures import format_seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub show`."""
    parser.add_argument("artifact", metavar="ARTIFACT", help="Folder of a stage, such as runs/quickstart/personas")
    parser.add_argument("-n", type=int, default=3, metavar="N", help="Number of records to show (default: 3)")
    parser.add_argument("--rejected", action="store_true", help="Show rejected records instead")


def run(options: argparse.Namespace) -> int:
    """Print an artifact's counts and its first records."""
    artifact = open_artifact(options.artifact)
    _print_summary(artifact)
    rows = artifact.rejected() if options.rejected else artifact.rows()
    for row in itertools.islice(rows, max(options.n, 0)):
        print(json.dumps(row, indent=2, ensure_ascii=False, default=str))
    return 0


def _print_summary(artifact: Artifact) -> None:
    manifest = artifact.manifest
    counts = manifest.counts
    print(f"{artifact.path}: {manifest.module} version {manifest.version}, fingerprint {manifest.fingerprint}")
    print(
        f"made {manifest.created} in {format_seconds(manifest.seconds)}; {counts.rows_in:,} in, {counts.rows_out:,} out"
    )
    if manifest.source:
        print(f"  harness: commit {manifest.source}")
    for reason, number in sorted(counts.rejected.items(), key=lambda item: -item[1]):
        print(f"  rejected {number:,}: {reason}")
    if manifest.usage.requests:
        print(f"  usage: {manifest.usage.model_dump()}")
    if manifest.summary:
        print(f"  summary: {json.dumps(manifest.summary, ensure_ascii=False)[:2000]}")
