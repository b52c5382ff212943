"""Commands on a user's files, run as a user runs them."""

from __future__ import annotations

import json
import os
import re
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
    assert "in.jsonl, line 3: not JSON" in out[2]["rule"]


def test_check_names_what_is_missing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    result = personahub(tmp_path, "check", "gone.jsonl", "out.jsonl")
    assert result.returncode == 2
    where = f"paths are relative to the folder you run in: {tmp_path}"
    assert result.stderr == f"error: gone.jsonl: no such file ({where})\n"
    assert not list(tmp_path.iterdir())


def test_no_command_says_which_there_are(tmp_path: Path) -> None:
    result = personahub(tmp_path, "rnu")
    assert result.returncode == 2
    assert "plan" in result.stderr


def test_options_may_stand_before_overrides_but_must_exist(tmp_path: Path) -> None:
    result = personahub(tmp_path, "run", "gone.yaml", "--only", "x", "a=b", "--nonsense")
    assert result.returncode == 2
    assert "--nonsense" in result.stderr


def test_a_closed_pipe_or_full_disk_gives_no_traceback(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"persona": f"A person who counts to {n}"}) + "\n" for n in range(3000))
    (tmp_path / "p.jsonl").write_text(rows)
    command = f"{sys.executable} -m personahub personas sample p.jsonl -n 3000"
    for rest, code, said in (("| head -1", 0, ""), ("> /dev/full", 2, "error: the output: No space left on device\n")):
        shell = ["bash", "-c", f"{command} {rest}; exit ${{PIPESTATUS[0]}}"]
        done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (code, said)


def test_output_escapes_what_its_encoding_cannot_spell(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(r'{"persona": "A caf\u00e9 owner \ud800 in red \u001b[31m and\nmore"}' + "\n")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "personahub", "personas", "sample", "p.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stdout) == (0, "A caf\\xe9 owner \\ud800 in red  [31m and more\n"), done.stderr


LEAVING = """
import atexit, os, signal, sys
from personahub.__main__ import main
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
sys.argv = ["personahub", "run", "gone.yaml"]
sys.exit(main())
"""


def test_an_interrupt_when_all_is_said_changes_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVING], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: gone.yaml: ")
    assert len(done.stderr.splitlines()) == 1


def test_version_and_what_is_missing(tmp_path: Path) -> None:
    assert re.fullmatch(r"personahub \S+\n", personahub(tmp_path, "--version").stdout)
    assert personahub(tmp_path, "plan").stderr.endswith("the following arguments are required: config\n")


def test_a_deadline_is_a_number_of_seconds(tmp_path: Path) -> None:
    for deadline in ("0", "nan", "inf"):
        result = personahub(tmp_path, "check", "gone.jsonl", "out.jsonl", "--deadline", deadline)
        assert (result.returncode, f"--deadline {deadline}: " in result.stderr) == (2, True)


def test_a_folder_that_is_no_artifact_says_so_and_what_is_below(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert personahub(tmp_path, "show", "mine").stderr == "error: mine: not an artifact: it has no manifest.json\n"
