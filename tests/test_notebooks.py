"""Every notebook runs in a Jupyter kernel on a small run of the quickstart; its two forms agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.py"))
SMALL = [
    "seed=1",
    "stages.sources.config.limit=12",
    "stages.related_personas.config.max_new=120",
    "stages.data.config.test_problems=8",
    "stages.math.config.path=null",
    "stages.model.config.sft.max_steps=3",
    "stages.before.config.limit=8",
    "stages.after.config.limit=8",
]
SAID = {
    "01_tour_of_a_run": "web text",
    "02_persona_and_problem_similarity": "median similarity of their problems 0.",
    "03_ablation_with_statistics": "solved by one alone: 0 and",
    "04_your_own_teacher_and_corpus": "answer",
    "05_scaling_plot": "problems, synthetic_test",
}
DRAWN = {"01_tour_of_a_run", "02_persona_and_problem_similarity", "05_scaling_plot"}  # 03 where there is an ablation


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for last in ("comparison", "similarity"):
        words = ["run", "configs/quickstart.yaml", "--only", last, "--runs", str(folder), *SMALL]
        subprocess.run([sys.executable, "-m", "personahub", *words], cwd=repository, check=True, timeout=250)
    return folder / "quickstart"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_cells_run(script: Path, small_run: Path, repository: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    environment = {**os.environ, "PERSONAHUB_RUN": str(small_run), "PYTHONPATH": str(repository)}
    folder = {"metadata": {"path": str(script.parent)}}  # where Jupyter starts the kernel
    nbclient.NotebookClient(notebook, timeout=250, kernel_name="python3", resources=folder).execute(env=environment)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert SAID[script.stem] in "".join(output.get("text", "") for output in outputs)
    drawn = any("image/png" in output.get("data", {}) for output in outputs)
    assert drawn == (script.stem in DRAWN)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_both_forms_are_the_same(script: Path) -> None:
    """`jupytext --to ipynb notebooks/*.py` makes one of the other."""
    jupytext = pytest.importorskip("jupytext")
    notebook = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert cells == [(cell.cell_type, cell.source) for cell in jupytext.read(script).cells]
    assert not any(cell.get("outputs") for cell in notebook["cells"])


@pytest.mark.parametrize("script", [path for path in SCRIPTS if "matplotlib" in path.read_text(encoding="utf-8")])
def test_without_matplotlib_one_line_names_the_extra(script: Path, tmp_path: Path, repository: Path) -> None:
    code = "import runpy, sys; sys.modules['matplotlib'] = None; runpy.run_path(sys.argv[1])"
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    command = [sys.executable, "-c", code, str(script)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "This notebook draws with matplotlib: pip install 'persona-hub-harness[notebooks]'"
    ]
