"""The wheel contains the packages with their prompts, and `eval` and `train` are this project's."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

PACKAGES = ("personahub", "synth", "train", "eval")


@pytest.mark.parametrize("name", PACKAGES)
def test_top_level_names_are_ours(name: str, tmp_path: Path, repository: Path) -> None:
    code = f"import {name}; print({name}.__file__)"
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == repository / name / "__init__.py"


@pytest.mark.parametrize("name", PACKAGES)
def test_no_module_is_named_like_one_of_the_standard_library(name: str, repository: Path) -> None:
    """A script run next to `eval/math.py` would import it instead of Python's own."""
    modules = {file.stem for file in (repository / name).glob("*.py")} - {"__init__"}
    assert not modules & set(sys.stdlib_module_names)


def test_a_wheel_holds_every_file_that_the_packages_read(tmp_path: Path, repository: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("setuptools_scm", minversion="8.1")
    source = tmp_path / "source"
    for package in PACKAGES:
        shutil.copytree(repository / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / file, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(source)], check=True, timeout=200)
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.split("/")[0] in PACKAGES}
    kept = {
        str(file.relative_to(repository))
        for package in PACKAGES
        for file in (repository / package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert packed == kept


def test_the_console_script_is_installed() -> None:
    script = Path(sysconfig.get_path("scripts")) / "personahub"
    result = subprocess.run([str(script), "--help"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert "plan" in result.stdout
