"""The cells of every notebook run, in order, on a small run of the quickstart's first stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
SMALL = ["seed=1", "stages.sources.config.limit=12", "stages.related_personas.config.max_new=120"]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    words = ["run", "configs/quickstart.yaml", "--only", "verified", "--runs", str(folder), *SMALL]
    subprocess.run([sys.executable, "-m", "personahub", *words], cwd=repository, check=True, timeout=200)
    return folder / "quickstart"


def cells(notebook: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_run(notebook: Path, small_run: Path, repository: Path, tmp_path: Path) -> None:
    script = tmp_path / "cells.py"
    script.write_text("\n".join("".join(cell["source"]) for cell in cells(notebook, "code")), encoding="utf-8")
    environment = {**os.environ, "MPLBACKEND": "Agg", "PERSONAHUB_RUN": str(small_run), "PYTHONPATH": str(repository)}
    result = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "web text" in result.stdout


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_committed(notebook: Path) -> None:
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(notebook, "code"))
    assert cells(notebook, "markdown")
