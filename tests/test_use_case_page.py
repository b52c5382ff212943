"""docs/use_case.md: its worked example runs as written, and its table has every key of a contract."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from personahub.core.artifact import open_artifact
from synth.contracts.contract import Contract, load_use_case
from tests.test_readme import ROOT, commands, use_case_files

PAGE = ROOT / "docs" / "use_case.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of the example, under the names that the page gives them."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, text in use_case_files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_worked_example_runs_as_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (lines,) = re.findall(r"^```\n(python -m pytest my/.*?)^```", text, re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for line in lines.splitlines():
        words = shlex.split(line)
        called = words[1:] if words[0] == "python" else ["-m", *words]
        done = subprocess.run([sys.executable, *called], cwd=folder, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
    recipes = open_artifact(folder / "runs/recipes/recipes")
    rows = list(recipes.rows())
    assert len(rows) + len(list(recipes.rejected())) == 20
    assert len(rows) > 15
    for row in rows:
        assert (row["use_case"], row["template"], row["prompting"]) == ("recipe", "recipe", "persona_few_shot")
        assert list(json.loads(row["fields"])) == ["title", "servings", "recipe"]


def test_commands_of_the_example_are_the_only_new_ones() -> None:
    assert [words[2] for words in commands(PAGE, "personahub") if words[1] == "run"] == [
        "configs/quickstart.yaml",
        "recipes.yaml",
    ]


def test_the_table_has_every_key_of_a_contract(folder: Path) -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## The contract")[2].partition("\n\nThe contract")[0]
    keys = [key for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)]
    assert sorted(keys) == sorted(Contract.model_fields)
    assert load_use_case(str(folder / "my/recipe.md")).contract.labels == ("Title", "Servings", "Recipe")
