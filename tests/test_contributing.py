"""The examples of CONTRIBUTING.md run as they are written, and CHANGELOG.md names modules that exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from personahub.core.artifact import open_artifact
from tests.test_readme import commands

NAMED_FILE = re.compile(r"^`(my[./][\w./]+)`:\n\n```[a-z]+\n(.*?)^```", re.MULTILINE | re.DOTALL)
STAGES = ("personas", "lengths", "riddles", "problems-persona", "problems-places", "exam", "answers")


@pytest.fixture(scope="module")
def page(repository: Path) -> Path:
    return repository / "CONTRIBUTING.md"


def test_the_examples_are_one_experiment_that_runs(page: Path, tmp_path: Path) -> None:
    files = dict(NAMED_FILE.findall(page.read_text(encoding="utf-8")))
    assert len(files) == 9
    (tmp_path / "my").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "configs").symlink_to(page.parent / "configs")
    for words in commands(page, "personahub"):
        done = subprocess.run([sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
    made = {name: open_artifact(tmp_path / "runs" / "mine" / name) for name in STAGES}
    assert made["personas"].manifest.counts.rejected.keys() == {"near_duplicate_SameLength"}
    assert all(row["words"] >= 3 for row in made["lengths"].rows())
    assert all(row["text"].startswith("Riddle:") for row in made["riddles"].rows())
    assert all(len(set(row["drawn"])) == 2 for row in made["problems-places"].rows())
    assert {row["completion"].partition("\n")[0] for row in made["answers"].rows()} == {
        "WHAT IS 2 + 3?",
        "WHAT IS 4 + 4?",
    }


def test_named_files_and_tests_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []
    for command in (*commands(page, ".venv/bin/python"), *re.findall(r"^\.venv/bin/python .*$", text, re.MULTILINE)):
        words = command if isinstance(command, list) else command.split(" ")
        for word in words:
            if word.startswith(("tests/", "docs/")):
                assert (page.parent / word).exists(), word


def test_moved_modules_are_where_the_changelog_says(repository: Path) -> None:
    text = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    unreleased = text.partition("## [Unreleased]")[2].partition("\n## [")[0]
    new = re.findall(r"^\| `[\w.]+` \| `([\w./]+)`", unreleased, re.MULTILINE)
    assert len(new) > 100
    for name in new:
        path = repository / (name if "/" in name else name.replace(".", "/") + ".py")
        assert path.is_file() or (path.with_suffix("") / "__init__.py").is_file(), name
