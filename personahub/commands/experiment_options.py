"""Arguments of the commands that read an experiment's YAML."""

from __future__ import annotations

import argparse

from personahub.core.experiments.experiment import Experiment, load_experiment


def add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the YAML, its overrides, and the options that every such command has."""
    parser.add_argument("config", help="The experiment's YAML file")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="key=value",
        help="Set a value of the YAML, such as stages.sft.config.seed=1",
    )
    parser.add_argument("--runs", default="runs", metavar="FOLDER", help="Folder of all experiments (default: runs)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="STAGE",
        help="Only this stage and the stages it needs; may be repeated",
    )


def load(options: argparse.Namespace) -> Experiment:
    """Return the experiment that the options describe."""
    return load_experiment(options.config, options.overrides, options.runs)
