"""Show which stages are done, which are to come, and what these will cost.

Spends nothing.

    personahub plan configs/quickstart.yaml
    personahub plan configs/quickstart.yaml stages.sources.config.limit=1000 --pilot runs/pilot

For each stage to come, the plan estimates requests, tokens, money, GPU-hours, CPU-hours, disk and memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from personahub.commands.experiment_options import add_experiment_arguments, load
from personahub.core.experiments.pilot import read_pilot
from personahub.core.experiments.plan import plan_experiment
from personahub.core.experiments.plan_table import format_plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub plan`."""
    add_experiment_arguments(parser)
    parser.add_argument(
        "--pilot", type=Path, metavar="RUN", help="Correct the estimates by what a small run of the experiment took"
    )


def run(options: argparse.Namespace) -> int:
    """Print the plan."""
    pilot = read_pilot(options.pilot) if options.pilot else None
    experiment = load(options)
    print(format_plan(plan_experiment(experiment, pilot, options.only), experiment.engines))
    return 0
