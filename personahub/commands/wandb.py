"""Send runs to Weights & Biases that were tracked offline or during an outage.

    personahub wandb sync --dry-run
    personahub wandb sync

W&B's own tool sends the runs. It cannot link artifacts to the runs that use them when it is
offline, so these links are added from the manifests, which hold the fingerprint of every input.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from personahub.core.artifact import MANIFEST, SPEC, open_artifact
from personahub.core.errors import UserError
from personahub.core.experiments.runner import lock_experiment
from personahub.core.tracking.tracker import RUN_ID, UNSENT, TrackingConfig, alias_of, artifact_name

_HEADER = 7  # bytes of an empty .wandb file, left by a stage that was killed right after its start
_LINKED = Path("wandb", "linked")  # exists in a stage's folder once W&B has the links to its input artifacts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub wandb`."""
    parser.add_argument("action", choices=["sync"], help="sync: send each run once")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="Folder of all experiments (default: runs)"
    )
    parser.add_argument("--dry-run", action="store_true", help="List what would be sent")


def run(options: argparse.Namespace) -> int:
    """Send, or list, what W&B does not have."""
    if not options.runs.is_dir():
        raise UserError(f"{options.runs}: no such folder; pass the folder of all experiments with --runs")
    found = [*unsent_runs(options.runs), *unlinked_stages(options.runs)]
    if not found:
        print(f"{options.runs}: all runs are already synced (tracking is on with tracking.wandb=offline or online)")
        return 0
    if options.dry_run:
        print("\n".join(map(str, found)))
        return 0
    return sync(options.runs)


def unsent_runs(runs: Path) -> list[Path]:
    """Returns the folders of W&B runs below `runs` that W&B does not have in full, oldest first.

    These were written offline, or W&B did not receive their end. If a stage was resumed and then finished online,
    unsent parts from before are left out: W&B's tool would overwrite the finished run with them.
    """
    found = []
    for stage in sorted(path.parent for path in runs.glob("*/*/wandb")):
        parts = sorted(_run_folders(stage), key=_start_time)
        ended = [_start_time(path) for path in parts if path.name.startswith("run-") and not (path / UNSENT).exists()]
        later = (path for path in parts if not ended or _start_time(path) > max(ended))
        found += [path for path in _unsynced(list(later)) if _has_content(path)]
    return sorted(found, key=_start_time)


def sync(runs: Path) -> int:
    """Send what W&B does not have, and link each stage to its input artifacts.

    Returns an exit code. Skips experiments that are running and prints a line about them.

    Raises:
        UserError: no W&B account is logged in.
    """
    with ExitStack() as locks:
        pending = _pending_stages(runs)
        idle = {experiment for experiment in sorted({stage.parent for stage in pending}) if _lock(locks, experiment)}
        stages = [stage for stage in pending if stage.parent in idle]
        folders = [folder for folder in unsent_runs(runs) if stage_of(folder, runs) in stages]
        if not stages:
            return 0
        os.environ.setdefault(
            "WANDB_DIR", str(stages[0] / "wandb")
        )  # else W&B writes its logs to the working directory
        import wandb

        if not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
            raise UserError("sending runs needs an account: run `wandb login` or set WANDB_API_KEY")
        _send(folders)
        for folder in _unsynced(folders):
            _send([folder])  # in a list, one damaged run keeps W&B's tool from sending the others
        failed = _unsynced(folders)
        for folder in failed:
            print(f"{folder}: not sent; `personahub wandb sync` tries again", file=sys.stderr)
        api, unlinked = wandb.Api(), False
        for stage in stages:
            if stage not in {stage_of(folder, runs) for folder in failed}:
                unlinked |= not _link(api, stage)
        return int(bool(failed) or unlinked)


def stage_of(path: Path, runs: Path) -> Path:
    """Returns the folder of the stage that a W&B run's folder belongs to."""
    return runs.joinpath(*path.relative_to(runs).parts[:2])


def unlinked_stages(runs: Path) -> list[Path]:
    """Returns folders of sent stages that may lack links to their input artifacts."""
    stages = sorted(path.parent for path in runs.glob("*/*/wandb"))
    return [stage for stage in stages if _was_sent(stage) and not (stage / _LINKED).exists()]


def _pending_stages(runs: Path) -> list[Path]:
    return sorted({*(stage_of(folder, runs) for folder in unsent_runs(runs)), *unlinked_stages(runs)})


def _lock(locks: ExitStack, experiment: Path) -> bool:
    """Lock the experiment until `locks` closes. Returns False if it is running."""
    try:
        locks.enter_context(lock_experiment(experiment))
    except UserError as error:
        print(f"skipped: {error}", file=sys.stderr)
        return False
    return True


def _run_folders(stage: Path) -> Iterator[Path]:
    """Returns W&B's folders of a stage; each holds what one process logged."""
    for path in (stage / "wandb").glob("**/*run-*"):
        if path.is_dir() and not path.is_symlink() and path.name.startswith(("run-", "offline-run-")):
            yield path


def _start_time(path: Path) -> str:
    """Returns the time in `offline-run-20261127_020859-ID`."""
    return path.name.partition("run-")[2]


def _has_content(path: Path) -> bool:
    return any(file.stat().st_size > _HEADER for file in path.glob("*.wandb"))


def _was_sent(stage: Path) -> bool:
    return (stage / MANIFEST).exists() and any(list(part.glob("*.synced")) for part in _run_folders(stage))


def _unsynced(folders: Sequence[Path]) -> list[Path]:
    return [folder for folder in folders if not list(folder.glob("*.synced"))]


def _send(folders: Sequence[Path]) -> None:
    if folders:
        command = [sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, folders)]
        subprocess.run(command, check=False)  # noqa: S603 - the paths were just listed


def _link(api: Any, stage: Path) -> bool:
    if not _was_sent(stage):
        return True  # the stage was stopped and has no artifact
    try:
        _link_inputs(api, stage)
    except Exception as error:  # noqa: BLE001 - W&B's client raises many kinds
        print(f"{stage}: sent, but not linked to its input artifacts: {error}", file=sys.stderr)
        return False
    (stage / _LINKED).touch()
    return True


def _link_inputs(api: Any, stage: Path) -> None:
    import wandb

    tracking = TrackingConfig.model_validate(json.loads((stage / SPEC).read_text(encoding="utf-8"))["tracking"])
    project = "/".join(filter(None, (tracking.entity, tracking.project)))
    run = api.run(f"{project}/{(stage / RUN_ID).read_text()}")
    for used in open_artifact(stage).manifest.inputs.values():
        name = artifact_name(used.path)
        try:
            artifact = api.artifact(f"{project}/{name}:{alias_of(used.fingerprint)}")
        except wandb.errors.CommError as error:  # type: ignore[attr-defined]
            if not isinstance(error.exc, ValueError):
                raise
            print(f"{stage}: not linked to {name}, which W&B does not have", file=sys.stderr)
        else:
            run.use_artifact(artifact)
