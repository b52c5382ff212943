"""The cache of compiled kernels."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from personahub.core.kernels import compiled

PROGRAM = """
import sys
from personahub.core.duplicates.surface import deduplicate
print(deduplicate(["a b", "b a", "c"]).kept.tolist(), "numba" in sys.modules)
"""


def run(folder: Path) -> str:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that a first process has compiled into."""
    folder = tmp_path_factory.mktemp("cache")
    assert run(folder) == "[0, 2] False"  # what compiles is another process, whose memory goes with it
    return folder


def test_later_processes_load_machine_code_and_no_compiler(cache: Path) -> None:
    assert run(cache) == "[0, 2] False"


def test_a_damaged_file_is_passed_over(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = cache.iterdir()
    (tmp_path / file.name).write_text(file.read_text()[:1000])
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache))
    monkeypatch.setattr(compiled, "_folders", lambda: [tmp_path, cache])
    compiled._kernels.cache_clear()
    order, slots, leader = np.arange(2), np.full(16, -1, np.int32), np.zeros(2, np.int32)
    compiled.group_identical(order, np.ones(2, np.uint64), np.ones(2, np.uint64), slots, leader)
    assert leader.tolist() == [0, 0]


@pytest.mark.slow
def test_compiles_itself_where_no_other_process_can_be_started(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    compiled._kernels.cache_clear()
    compiled._kernels()
    assert [file.name for file in tmp_path.iterdir()] == [file.name for file in cache.iterdir()]


def test_machine_code_is_not_given_what_it_cannot_check() -> None:
    order, hashes, slots = np.arange(2), np.zeros(2, np.uint64), np.full(16, -1, np.int32)
    leader = np.zeros(2, np.int32)
    with pytest.raises(TypeError, match="argument 0 is int32"):
        compiled.group_identical(order.astype(np.int32), hashes, hashes, slots, leader)
    with pytest.raises(TypeError, match="argument 1 is uint64"):
        compiled.group_identical(order, np.zeros(4, np.uint64)[::2], hashes, slots, leader)
    with pytest.raises(TypeError, match="expected 5 arguments, got 2"):
        compiled.group_identical(order, hashes)
    with pytest.raises(AttributeError, match="no attribute other"):
        compiled.other(order)
