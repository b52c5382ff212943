"""Plans every YAML in configs/, and checks the command at its top."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_is_planned(config: Path, repository: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "personahub", "plan", str(config), "--runs", str(tmp_path)]
    plan = subprocess.run(words, cwd=repository, capture_output=True, text=True, timeout=120)
    assert plan.returncode == 0, plan.stderr
    assert "Still to come" in plan.stdout
    assert not list(tmp_path.iterdir())  # planning leaves nothing behind


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_opens_with_its_command(config: Path) -> None:
    first = config.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# make ") or f"configs/{config.name}" in first
