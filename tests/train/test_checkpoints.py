"""Which checkpoint a run resumes from."""

from __future__ import annotations

import json
from pathlib import Path

from train.trainer.checkpoints import last_complete_checkpoint, remove_partial_checkpoints


def write(folder: Path, step: int, state: str | None = None) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "optimizer.pt").write_bytes(b"moments")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}) if state is None else state)
    return path


def test_last_whole_one_is_chosen_by_number(tmp_path: Path) -> None:
    for step in (9, 100, 20):
        write(tmp_path, step)
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-100"


def test_none_without_any(tmp_path: Path) -> None:
    assert last_complete_checkpoint(tmp_path / "missing") is None
    (tmp_path / "checkpoint-x").mkdir()
    assert last_complete_checkpoint(tmp_path) is None


def test_remains_of_a_kill_are_ignored_and_removed(tmp_path: Path) -> None:
    whole = write(tmp_path, 10)
    write(tmp_path, 20, state='{"global_step": 20, "log_his')  # cut while it was written
    write(tmp_path, 30, state='{"global_step": 10}')  # of another step
    (write(tmp_path, 40) / "trainer_state.json").unlink()
    (write(tmp_path, 50) / "optimizer.pt").write_bytes(b"")
    (write(tmp_path, 60) / "model.safetensors").unlink()
    assert last_complete_checkpoint(tmp_path) == whole
    remove_partial_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == [whole]
