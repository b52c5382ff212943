"""Finds complete checkpoints of a training run and removes partial ones."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d+)")


def last_complete_checkpoint(folder: Path) -> Path | None:
    """Returns the complete checkpoint with the most steps; None if there is none.

    transformers writes `trainer_state.json` last, after the weights, optimizer, scheduler and random states. So a
    checkpoint is complete if that file can be read and has the step of the folder's name.
    """
    found = {step: path for path in folder.glob("checkpoint-*") if (step := _step(path)) and _is_complete(path, step)}
    return found[max(found)] if found else None


def remove_partial_checkpoints(folder: Path) -> None:
    """Deletes checkpoints that a kill left incomplete. They would count toward the checkpoints to keep."""
    for path in folder.glob("checkpoint-*"):
        step = _step(path)
        if step is not None and not _is_complete(path, step):
            shutil.rmtree(path)


def _step(path: Path) -> int | None:
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else None


def _is_complete(path: Path, step: int) -> bool:
    try:
        state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    files = [file for file in path.rglob("*") if file.is_file()]
    weights = any("model" in file.name for file in files)
    # A power failure can leave empty files.
    return weights and state.get("global_step") == step and all(file.stat().st_size for file in files)
