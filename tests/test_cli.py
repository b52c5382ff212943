"""Commands that work on files of the user's, run as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def personahub(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "personahub", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_check_grades_row_by_row_and_survives_bad_rows(tmp_path: Path) -> None:
    rows = [
        json.dumps({"gold": "\\frac{1}{2}", "pred": "It is half, so \\boxed{0.5}.", "mine": 7}),
        json.dumps({"gold": "3", "pred": "So the answer is \\boxed{4}."}),
        "no json",
        json.dumps({"gold": "1"}),
        json.dumps({"gold": "3", "pred": ""}),
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(rows))
    result = personahub(tmp_path, "check", "in.jsonl", "out.jsonl")
    assert result.returncode == 0, result.stderr
    assert "correct 1 (20.0%), wrong 1 (20.0%), no_answer 1 (20.0%)" in result.stdout
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in out] == ["correct", "wrong", "error", "error", "no_answer"]
    assert (out[0]["extracted"], out[0]["mine"]) == ("0.5", 7)
    assert "in.jsonl:3 is not JSON" in out[2]["rule"]


def test_check_names_what_is_missing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    result = personahub(tmp_path, "check", "gone.jsonl", "out.jsonl")
    assert result.returncode == 2
    assert result.stderr == "error: gone.jsonl: No such file or directory\n"
    assert not list(tmp_path.iterdir())


def test_no_command_says_which_there_are(tmp_path: Path) -> None:
    result = personahub(tmp_path, "rnu")
    assert result.returncode == 2
    assert "plan" in result.stderr


def test_options_may_stand_before_overrides_but_must_exist(tmp_path: Path) -> None:
    result = personahub(tmp_path, "run", "gone.yaml", "--only", "x", "a=b", "--nonsense")
    assert result.returncode == 2
    assert "--nonsense" in result.stderr
