"""The documentation site builds without a warning, and its reference is the code's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_site_builds_without_warnings(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "configuration" / "index.html").is_file()


def test_reference_is_up_to_date(repository: Path) -> None:
    """`python docs/make_configuration.py` writes it."""
    script = "import sys; sys.path.insert(0, 'docs'); import make_configuration as m; sys.stdout.write(m.page())"
    done = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout == (repository / "docs" / "configuration.md").read_text(encoding="utf-8")
