"""Checkpoints of a training run: which one is whole, and which are the remains of a kill."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

_NAME = re.compile(r"checkpoint-(\d+)")


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The checkpoint with the most steps that was written to its end; None without one.

    transformers writes `trainer_state.json` last, after weights, optimizer, scheduler and random
    states, so a checkpoint is whole when that file can be read and names the folder's step.
    """
    found = {step: path for path in folder.glob("checkpoint-*") if (step := _step(path)) and _is_whole(path, step)}
    return found[max(found)] if found else None


def remove_partial_checkpoints(folder: Path) -> None:
    """Delete what a kill left half-written, so that it is not counted among the checkpoints to keep."""
    for path in folder.glob("checkpoint-*"):
        step = _step(path)
        if step is not None and not _is_whole(path, step):
            shutil.rmtree(path)


def _step(path: Path) -> int | None:
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else None


def _is_whole(path: Path, step: int) -> bool:
    try:
        state = json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    files = [file for file in path.rglob("*") if file.is_file()]
    weights = any("model" in file.name for file in files)
    # A machine that lost power may leave files that have a name and no bytes.
    return weights and state.get("global_step") == step and all(file.stat().st_size for file in files)
