"""Completions are graded again without new requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from personahub.core import records
from personahub.core.artifact import Artifact
from personahub.core.errors import UserError
from personahub.core.identity import content_id

WRITER = '''
"""Answers every problem with the text after "say:" in it."""
from personahub.core.engines import Completion, Engine, EngineConfig

class Config(EngineConfig):
    pass

def open_engine(config):
    return Toy(config)

class Toy(Engine):
    def __init__(self, config):
        self.concurrency = config.concurrency

    async def complete(self, request):
        text = request.messages[-1]["content"].partition("say: ")[2].splitlines()[0]
        return Completion(text, "stop", 10, 10, "writer")
'''


@pytest.fixture
def graded(build: Any, run: Any, engine: str, tmp_path: Path) -> Artifact:
    """Four answers, one of them right only under a lenient policy."""
    folder = Path(__import__("tests_engines").__path__[0])
    (folder / "writer.py").write_text(WRITER)
    pairs = [
        ("5", "\\boxed{5}"),
        ("5\\text{ cm}", "\\boxed{5}"),
        ("7", "\\boxed{5}"),
        ("7", ""),
    ]
    rows = [
        {
            "id": content_id("reference", "exam", i),
            "benchmark": "exam",
            "item": str(i),
            "problem": f"Problem {i}, say: {said}",
            "answer": answer,
            "subject": "Sums",
            "level": "1",
        }
        for i, (answer, said) in enumerate(pairs)
    ]
    summary = {"benchmark": "exam", "problems": len(rows)}
    exam = build(tmp_path / "exam", "eval.datasets", rows, records.REFERENCE, summary=summary)
    engines = {"student": {"kind": "tests_engines.writer", "model": "none"}}
    config = {"engine": "student", "check_workers": 1, "rows_per_shard": 3}
    return run(tmp_path / "graded", "eval.benchmark", {"exam": exam}, config, engines)


def test_the_same_policy_gives_the_same_records(graded: Artifact, run: Any, tmp_path: Path) -> None:
    again = run(tmp_path / "again", "eval.regrade", {"completions": graded}, {"check_workers": 1})
    assert list(again.rows()) == list(graded.rows())
    assert again.manifest.summary == {**graded.manifest.summary, "changed": {"exam": {}}}
    assert again.manifest.usage.requests == 0


def test_another_policy_changes_verdicts_and_says_how_many(graded: Artifact, run: Any, tmp_path: Path) -> None:
    config = {"check_workers": 1, "answers": {"units_optional": False}}
    strict = run(tmp_path / "strict", "eval.regrade", {"completions": graded}, config)
    before, after = (artifact.manifest.summary["benchmarks"]["exam"] for artifact in (graded, strict))
    assert (before["correct"], after["correct"]) == (2, 1)
    assert before["verdicts"]["no_answer"] == after["verdicts"]["no_answer"] == 1
    assert strict.manifest.summary["changed"] == {"exam": {"correct -> wrong": 1}}
    assert strict.manifest.summary["grading"]["policy"]["units_optional"] is False
    kept = ("id", "sample", "completion", "finish_reason", "completion_tokens", "reference")
    assert [[row[key] for key in kept] for row in strict.rows()] == [
        [row[key] for key in kept] for row in graded.rows()
    ]
    back = run(tmp_path / "back", "eval.regrade", {"completions": strict}, {"check_workers": 1})
    assert list(back.rows()) == list(graded.rows())


def test_several_samples_are_clustered_anew(build: Any, run: Any, engine: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "skill.json").write_text(json.dumps({"skill": 0.5}))
    rows = [
        {"id": str(i), "benchmark": "exam", "item": str(i), "problem": f"{i} times 3 plus 4", "answer": str(3 * i + 4)}
        for i in range(12)
    ]
    exam = build(tmp_path / "exam", "eval.datasets", rows, records.REFERENCE, summary={"benchmark": "exam"})
    engines = {"student": {"kind": engine, "model": str(model)}}
    config = {"engine": "student", "check_workers": 1, "samples": 3, "sampling": {"temperature": 1.0}}
    first = run(tmp_path / "first", "eval.benchmark", {"exam": exam}, config, engines)
    asked = (tmp_path / "model.asked.log").read_text()
    again = run(tmp_path / "again", "eval.regrade", {"completions": first}, {"check_workers": 1})
    assert list(again.rows()) == list(first.rows())
    assert again.manifest.summary["benchmarks"] == first.manifest.summary["benchmarks"]
    assert (tmp_path / "model.asked.log").read_text() == asked


def test_a_refused_problem_stays_an_error(build: Any, run: Any, engine: str, tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "benchmark": "exam", "item": str(i), "problem": f"{word}2 times 3 plus 4", "answer": "10"}
        for i, word in enumerate(("", "REFUSE "))
    ]
    exam = build(tmp_path / "exam", "eval.datasets", rows, records.REFERENCE, summary={"benchmark": "exam"})
    engines = {"student": {"kind": engine, "model": "none"}}
    first = run(tmp_path / "first", "eval.benchmark", {"exam": exam}, {"engine": "student"}, engines)
    again = run(tmp_path / "again", "eval.regrade", {"completions": first}, {"check_workers": 1})
    assert list(again.rows()) == list(first.rows())
    assert [row["verdict"] for row in again.rows()] == ["correct", "error"]


def test_only_graded_artifacts_are_regraded(experiment: dict[str, Artifact], run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"problems was made by synth.problems; the input must be an artifact of eval"):
        run(tmp_path / "no", "eval.regrade", {"completions": experiment["problems"]}, {})
