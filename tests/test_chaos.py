"""`benchmarks/chaos.py`: faults of many kinds, dealt to a run, cost no record and no second payment."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos import FAULTS


def storm(repository: Path, *words: str) -> dict[str, int]:
    """How often each kind was dealt; the benchmark itself fails on anything lost, doubled or damaged."""
    command = [sys.executable, "-m", "benchmarks.chaos", *words]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing lost or duplicated" in done.stdout
    return {name: int(times) for name, times in re.findall(r"^\| (\w+) \| (\d+) \|$", done.stdout, re.MULTILINE)}


def test_some_faults(repository: Path) -> None:
    assert sum(storm(repository, "--faults", "3", "--seed", "1", "--until", "problems").values()) == 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_kind_of_fault(repository: Path) -> None:
    dealt = storm(repository, "--faults", str(len(FAULTS)), "--seed", "2")
    assert dealt == {fault.__name__: 1 for fault in FAULTS}
