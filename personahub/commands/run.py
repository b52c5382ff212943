"""Run an experiment, or resume it.

    personahub run configs/quickstart.yaml
    personahub run configs/quickstart.yaml experiment=mine stages.sources.config.path=my_texts.jsonl

Finished stages are skipped. The same command resumes a run that was stopped or killed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time

from personahub.commands.experiment_options import add_experiment_arguments, load
from personahub.core.experiments.runner import StageFailedError, run_experiment
from personahub.core.experiments.stage_process import COMMAND_VARIABLE
from personahub.core.texts.figures import format_seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub run`."""
    add_experiment_arguments(parser)
    parser.add_argument(
        "--redo",
        action="append",
        default=[],
        metavar="STAGE",
        help="Run this stage, and the stages that depend on it, again; may be repeated",
    )


def run(options: argparse.Namespace) -> int:
    """Run the experiment and print where its reports are."""
    started = time.monotonic()
    experiment = load(options)
    command = shlex.join(["personahub", *options.words])
    os.environ[COMMAND_VARIABLE] = command
    try:
        manifests = run_experiment(experiment, options.only, options.redo, lambda line: print(line, flush=True))
    except StageFailedError as error:
        if error.code != 2:  # on 2 the stage has already printed one line that says what to fix
            print(f"error: {error}. To resume: {command}", file=sys.stderr)
        return error.code
    print(f"{experiment.folder}: done in {format_seconds(time.monotonic() - started)}")
    for manifest in manifests:
        page = experiment.folder / manifest.stage / "index.html"
        if page.exists():
            print(f"report: {page}")
    return 0
