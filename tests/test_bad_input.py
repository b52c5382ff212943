"""A user's mistakes end in one clear line and exit code 2, before any work is done."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import open_artifact


@pytest.fixture
def quickstart(tmp_path: Path, repository: Path):
    def run(*words: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "personahub",
            "run",
            "configs/quickstart.yaml",
            "--runs",
            str(tmp_path),
            *words,
        ]
        environment = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
        if key is not None:
            environment["OPENAI_API_KEY"] = key
        return subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120, env=environment)

    return run


def refused(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 2, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def corpus(tmp_path: Path, *lines: str) -> str:
    path = tmp_path / "texts.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return f"stages.sources.config.path={path}"


TEXT = json.dumps({"text": "A bus driver writes down what happened on the early shift. " * 4})


def test_missing_file(quickstart, tmp_path: Path) -> None:
    line = refused(quickstart("stages.sources.config.path=nowhere/texts.jsonl"))
    assert "stages.sources.config.path: nowhere/texts.jsonl: no such file" in line


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "cut off', "texts.jsonl, line 2: not JSON"),
        ('{"body": "no text field"}', "texts.jsonl, line 2"),
        ("[1, 2]", "texts.jsonl, line 2"),
    ],
)
def test_malformed_row_names_file_and_line(quickstart, tmp_path: Path, row: str, message: str) -> None:
    result = quickstart(corpus(tmp_path, TEXT, row, TEXT), "--only", "sources")
    assert message in refused(result)
    assert not (tmp_path / "quickstart/sources/manifest.json").exists()


def test_a_text_that_is_none_is_kept_with_its_reason(quickstart, tmp_path: Path, repository: Path) -> None:
    assert quickstart(corpus(tmp_path, TEXT, '{"text": 5}'), "--only", "sources").returncode == 0
    artifact = open_artifact(tmp_path / "quickstart" / "sources")
    assert [row["reason"] for row in artifact.rejected()] == ["no_text"]
    assert artifact.num_rows == 1


def test_empty_file(quickstart, tmp_path: Path) -> None:
    assert "texts.jsonl" in refused(quickstart(corpus(tmp_path, ""), "--only", "sources"))


def test_unknown_keys_suggest_the_nearest(quickstart) -> None:
    assert "Did you mean 'personas_per_text'?" in refused(quickstart("stages.first_personas.config.persona_per_text=3"))
    assert "Did you mean 'learning_rate'?" in refused(quickstart("stages.model.config.sft.learning_rat=1"))
    assert "Did you mean 'concurrency'?" in refused(quickstart("engines.teacher.concurency=3"))


def test_missing_key_names_the_variable_before_anything_is_asked(quickstart, tmp_path: Path) -> None:
    line = refused(quickstart("engines.teacher={kind: openai, model: gpt-4o}", "--only", "first_personas"))
    assert "OPENAI_API_KEY" in line
    assert (tmp_path / "quickstart/sources/manifest.json").exists()
    assert not (tmp_path / "quickstart/first_personas/manifest.json").exists()


def test_a_key_reaches_no_file_and_no_message(quickstart, tmp_path: Path) -> None:
    secret = "sk-test-4f9a8b7c6d5e"
    teacher = "engines.teacher={kind: openai, model: m, base_url: 'http://127.0.0.1:9/v1', concurrency: 4}"
    line = refused(quickstart(teacher, "--only", "first_personas", key=secret))
    assert "cannot reach http://127.0.0.1:9/v1" in line
    assert secret not in line
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if secret.encode() in file.read_bytes()]


def test_missing_upstream_and_half_written_runs(quickstart, tmp_path: Path, repository: Path) -> None:
    assert "Did you mean 'sources'" in refused(quickstart("stages.first_personas.inputs.documents=source"))
    adopted = "stages.sources={adopt: runs/nowhere/sources}"
    assert "runs/nowhere/sources: no such artifact" in refused(quickstart(adopted))
    half = tmp_path / "other" / "sources"
    half.mkdir(parents=True)
    (half / "stage.json").write_text("{}")
    assert "half-written" in refused(quickstart(f"stages.sources={{adopt: {half}}}"))
    show = subprocess.run(
        [sys.executable, "-m", "personahub", "show", str(half)], cwd=repository, capture_output=True, text=True
    )
    assert "half-written" in refused(show)


def test_a_runs_folder_that_cannot_be_written(quickstart, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    result = quickstart("--runs", str(blocked / "runs"), "--only", "sources")
    assert "cannot write here" in refused(result)


@pytest.mark.parametrize("file", ["manifest.json", "00000.parquet"])
def test_damage_is_named_and_redo_mends_it(file: str, tmp_path: Path) -> None:
    """The way on that the message names has to be one."""
    words = ["stages.sources.config.limit=4", "stages.related_personas.config.max_new=12", "--runs", str(tmp_path)]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "personahub", "run", "configs/quickstart.yaml", *words, *more]
        return subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=100)

    assert run("--only", "related_personas").returncode == 0
    damaged = tmp_path / "quickstart" / "related_personas" / file
    before = sorted(damaged.parent.glob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    refused = run("--only", "good_personas")
    assert refused.returncode in (1, 2)
    assert f"{damaged}" in refused.stderr
    assert "--redo related_personas" in refused.stderr
    assert run("--only", "good_personas", "--redo", "related_personas").returncode == 0
    assert sorted(damaged.parent.glob("*.parquet")) == before


@pytest.mark.parametrize("limit", [3_000, 20_000])
def test_full_disk_is_one_line_and_the_same_command_goes_on(limit: int, tmp_path: Path) -> None:
    """A limit on file sizes simulates a full disk: the same calls fail, with another error number."""
    words = ["run", "configs/quickstart.yaml", "--runs", str(tmp_path), "--only", "good_personas"]
    command = [sys.executable, "-m", "personahub", *words, "stages.sources.config.limit=16"]

    def run(**options: Any) -> subprocess.CompletedProcess[str]:
        root = Path(__file__).parents[1]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, **options)

    full = run(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert full.returncode in (1, 2)
    assert "cannot be written" in full.stderr
    assert "Traceback" not in full.stderr
    assert run().returncode == 0
    assert not list(tmp_path.rglob(".*.tmp"))
