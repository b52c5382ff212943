"""`personahub wandb sync`: what was tracked offline, or while W&B was away, is sent to it.

W&B's own tool sends the runs. Offline it allows no edges between artifacts and the runs that use them, so they are
added here from the manifests, which know the fingerprint of every input.
"""

from __future__ import annotations

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

_HEADER = 7  # bytes of a .wandb file that holds nothing yet, as a stage killed in its first moments leaves it
_LINKED = Path("wandb", "linked")  # in a stage's folder, when the edges of what was sent from here are with W&B


def unsent_runs(runs: Path) -> list[Path]:
    """Folders of W&B runs below `runs` that W&B has not got in full, oldest first.

    Those that were written offline, and those whose end it did not take. Where a stage was resumed and then ended with
    W&B, what an earlier part had not sent stays here: W&B's tool would write it over the finished run.
    """
    found = []
    for stage in sorted(path.parent for path in runs.glob("*/*/wandb")):
        parts = sorted(_parts(stage), key=_started)
        ended = [_started(path) for path in parts if path.name.startswith("run-") and not (path / UNSENT).exists()]
        later = (path for path in parts if not ended or _started(path) > max(ended))
        found += [path for path in _left(list(later)) if _holds_something(path)]
    return sorted(found, key=_started)


def sync(runs: Path) -> int:
    """Send what W&B has not got, and the edges from what each stage was made from. Returns an exit code.

    Experiments that are running are passed over, with a line.

    Raises:
        UserError: nobody is logged in.
    """
    with ExitStack() as locks:
        concerned = _concerned(runs)
        held = {
            experiment for experiment in sorted({stage.parent for stage in concerned}) if _locked(locks, experiment)
        }
        stages = [stage for stage in concerned if stage.parent in held]
        folders = [folder for folder in unsent_runs(runs) if stage_of(folder, runs) in stages]
        if not stages:
            return 0
        os.environ.setdefault("WANDB_DIR", str(stages[0] / "wandb"))  # its logs would lie where the user is
        import wandb

        if not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
            raise UserError("sending runs needs an account: run `wandb login`, or set WANDB_API_KEY")
        _send(folders)
        for folder in _left(folders):
            _send([folder])  # one that is damaged keeps W&B's tool from sending any of a list
        left = _left(folders)
        for folder in left:
            print(f"{folder}: not sent; `personahub wandb sync` tries again", file=sys.stderr)
        api, unlinked = wandb.Api(), False
        for stage in stages:
            if stage not in {stage_of(folder, runs) for folder in left}:
                unlinked |= not _link(api, stage)
        return int(bool(left) or unlinked)


def stage_of(path: Path, runs: Path) -> Path:
    """The stage's folder of a W&B run's folder below `runs`."""
    return runs.joinpath(*path.relative_to(runs).parts[:2])


def unlinked_stages(runs: Path) -> list[Path]:
    """Folders of stages that were sent from here and whose edges W&B may not have."""
    stages = sorted(path.parent for path in runs.glob("*/*/wandb"))
    return [stage for stage in stages if _was_sent(stage) and not (stage / _LINKED).exists()]


def _concerned(runs: Path) -> list[Path]:
    return sorted({*(stage_of(folder, runs) for folder in unsent_runs(runs)), *unlinked_stages(runs)})


def _locked(locks: ExitStack, experiment: Path) -> bool:
    """Whether nothing runs there, which is so until the end."""
    try:
        locks.enter_context(lock_experiment(experiment))
    except UserError as error:
        print(f"passed over: {error}", file=sys.stderr)
        return False
    return True


def _parts(stage: Path) -> Iterator[Path]:
    """Folders of W&B, each of which holds what one process told of the stage's run."""
    for path in (stage / "wandb").glob("**/*run-*"):
        if path.is_dir() and not path.is_symlink() and path.name.startswith(("run-", "offline-run-")):
            yield path


def _started(path: Path) -> str:
    """The time in `offline-run-20261127_020859-ID`."""
    return path.name.partition("run-")[2]


def _holds_something(path: Path) -> bool:
    return any(file.stat().st_size > _HEADER for file in path.glob("*.wandb"))


def _was_sent(stage: Path) -> bool:
    return (stage / MANIFEST).exists() and any(list(part.glob("*.synced")) for part in _parts(stage))


def _left(folders: Sequence[Path]) -> list[Path]:
    return [folder for folder in folders if not list(folder.glob("*.synced"))]


def _send(folders: Sequence[Path]) -> None:
    if folders:
        command = [sys.executable, "-m", "wandb", "sync", "--include-online", *map(str, folders)]
        subprocess.run(command, check=False)  # noqa: S603 - paths that were just listed


def _link(api: Any, stage: Path) -> bool:
    if not _was_sent(stage):
        return True  # it was stopped, and has no artifact
    try:
        _add_edges(api, stage)
    except Exception as error:  # noqa: BLE001 - W&B's client raises all kinds
        print(f"{stage}: sent, but without edges to what it was made from: {error}", file=sys.stderr)
        return False
    (stage / _LINKED).touch()
    return True


def _add_edges(api: Any, stage: Path) -> None:
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
            print(f"{stage}: W&B has no {name}, so there is no edge from it", file=sys.stderr)
        else:
            run.use_artifact(artifact)
