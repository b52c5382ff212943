"""`personahub wandb sync`: what was tracked offline, or while W&B was away, is sent to it.

W&B's own tool sends the runs. Offline it allows no edges between artifacts and the runs that use them, so they are
added here from the manifests, which know the fingerprint of every input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from personahub.core.artifact import MANIFEST, SPEC, open_artifact
from personahub.core.errors import UserError
from personahub.core.tracking import RUN_ID, UNSENT, TrackingConfig, alias_of, artifact_name


def unsent_runs(runs: Path) -> list[Path]:
    """Folders of W&B runs below `runs` that W&B has not got in full, oldest first.

    Those that were written offline, and those whose end it did not take.
    """
    offline = [path for path in runs.glob("*/*/wandb/**/offline-run-*") if path.is_dir()]
    lost = [file.parent for file in runs.glob(f"*/*/wandb/**/{UNSENT}")]
    return sorted((path for path in offline + lost if not list(path.glob("*.synced"))), key=_started)


def _started(path: Path) -> str:
    """The time in `offline-run-20261127_020859-ID`."""
    return path.name.partition("run-")[2]


def stage_of(path: Path, runs: Path) -> Path:
    """The stage's folder of a W&B run's folder below `runs`."""
    return runs.joinpath(*path.relative_to(runs).parts[:2])


def sync(folders: Sequence[Path], runs: Path) -> int:
    """Send W&B runs, and then the edges from what each stage was made from. Returns an exit code.

    Args:
        folders: as `unsent_runs` lists them.
        runs: the folder that they are below.

    Raises:
        UserError: nobody is logged in.
    """
    import wandb

    if not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise UserError("sending runs needs an account: run `wandb login`, or set WANDB_API_KEY")
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, folders)]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 - paths that were just listed
    left = [folder for folder in folders if not list(folder.glob("*.synced"))]
    if left:
        print(f"not sent, to be tried again: {', '.join(map(str, left))}", file=sys.stderr)
    api = wandb.Api()
    for stage in dict.fromkeys(stage_of(folder, runs) for folder in folders if folder not in left):
        try:
            _add_edges(api, stage)
        except Exception as error:  # noqa: BLE001 - W&B's client raises all kinds
            code = 1
            print(f"{stage}: sent, but without edges to what it was made from: {error}", file=sys.stderr)
    return code or int(bool(left))


def _add_edges(api: Any, stage: Path) -> None:
    import wandb

    if not (stage / MANIFEST).exists():
        return  # it was stopped, and has no artifact
    tracking = TrackingConfig.model_validate(json.loads((stage / SPEC).read_text(encoding="utf-8"))["tracking"])
    project = "/".join(filter(None, (tracking.entity, tracking.project)))
    run = api.run(f"{project}/{(stage / RUN_ID).read_text()}")
    for used in open_artifact(stage).manifest.inputs.values():
        name = artifact_name(used.path)
        try:
            run.use_artifact(api.artifact(f"{project}/{name}:{alias_of(used.fingerprint)}"))
        except (wandb.errors.CommError, ValueError):  # type: ignore[attr-defined]
            print(f"{stage}: {name} was made without W&B, so there is no edge from it", file=sys.stderr)
