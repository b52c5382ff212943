"""The commands in the README work, and its links exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path, program: str) -> list[list[str]]:
    """Lines of the fenced blocks that start with `program`, backslashes resolved, comments cut."""
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.split(" ")[0] == program]


EXPERIMENTS = [
    words for page in PAGES for words in commands(page, "personahub") if len(words) > 2 and words[1] in ("run", "plan")
]


STAGE_OPTIONS = {"--redo", "--only", "--pilot"}  # of stages and runs that are not there


def example_template() -> str:
    """The prompt of a user's own that the guide shows."""
    page = (ROOT / "docs" / "use_case.md").read_text(encoding="utf-8")
    return page.partition("```markdown\n")[2].partition("```")[0]


def use_case_files() -> dict[str, str]:
    """The files of the guide's use case outside of the package, by path."""
    page = (ROOT / "docs" / "use_case.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w/.]+)`[^\n]*:\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("words", EXPERIMENTS, ids=" ".join)
def test_experiments_can_be_planned(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name, field in (("my_texts", "text"), ("documents", "text"), ("PERSONAS", "persona")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({field: "A text of mine."}) + "\n")
    for name, text in {"my/geometry.md": example_template(), **use_case_files()}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    plan = [word for word, before in zip(words[2:], words[1:], strict=False) if not {word, before} & STAGE_OPTIONS]
    called = [sys.executable, "-m", "personahub", "plan", *plan]
    result = subprocess.run(called, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "Still to come" in result.stdout


TOOLS = [
    words
    for page in PAGES
    for words in commands(page, "personahub")
    if words[1] in ("check", "dedup", "personas") and not any(word.startswith(("hf://", "runs/")) for word in words)
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the files that the pages' commands read, under the names they use."""
    folder = tmp_path_factory.mktemp("files")
    personas = [
        f"A {kind} nurse who works while others sleep in ward {ward}" for kind in ("night", "day") for ward in "ABC"
    ]
    rows = [{"persona": text, "text": text, "quality": len(text), "input persona": text} for text in personas]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("personas", "persona", "texts"):
        (folder / f"{name}.jsonl").write_text(lines)
    for name in ("new", "old"):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    (folder / "IN.jsonl").write_text(json.dumps({"gold": "2", "pred": "\\boxed{2}"}) + "\n")
    return folder


@pytest.mark.parametrize("words", TOOLS, ids=" ".join)
def test_tools_run(words: list[str], files: Path) -> None:
    """In the order of the page: a search reads what the import before it wrote."""
    collection = files / "personas.parquet"
    if words[1] == "personas" and words[2] != "import" and not collection.exists():
        pytest.skip("reads what `personahub personas import` writes")
    if words[1] == "dedup" and not (files / words[2]).exists():
        shutil.copy(files / "new.parquet", files / words[2])
    elif words[2] == "import":
        collection.unlink(missing_ok=True)
    called = [sys.executable, "-m", "personahub", *words[1:]]
    result = subprocess.run(called, cwd=files, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {words[1] for page in PAGES for words in commands(page, "make")}
    assert {"quickstart", "test"} <= wanted <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
    assert not re.findall(r"\b[A-Z]+_[A-Z]+_?(TABLE|COST|NUMBERS)\b|\bTODO\b", text)
