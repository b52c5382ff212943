"""The LLM judge: it decides what the rules leave open, and is reported separately."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from personahub.core import records
from personahub.core.artifact import Artifact
from personahub.core.identity import content_id

ENGINES = '''
"""A writer that repeats the text after "say:", and a judge that accepts only the word "seven"."""
from pathlib import Path
from personahub.core.engines import Completion, Engine, EngineConfig

class Config(EngineConfig):
    log: str = ""

def open_engine(config):
    return Toy(config)

class Toy(Engine):
    def __init__(self, config):
        self.concurrency = config.concurrency
        self.config = config

    async def complete(self, request):
        text = request.messages[-1]["content"]
        if self.config.model == "writer":
            return Completion(text.partition("say: ")[2].splitlines()[0], "stop", 10, 10, "writer")
        with Path(self.config.log).open("a") as file:
            file.write(text.replace(chr(10), " ") + chr(10))
        word = "hm" if "mumble" in text else "Judgement: yes" if "seven" in text else "Judgement: no"
        return Completion(word, "stop", 10, 10, "judge")
'''

ANSWERS = [  # reference, said; what the rules say, what the judge says
    ("5", "\\boxed{5}", "correct", "wrong"),
    ("7", "\\boxed{8}", "wrong", "wrong"),
    ("8", "\\boxed{\\text{one more than seven}}", "wrong", "correct"),
    ("9", "\\boxed{\\text{mumble}}", "wrong", "unread"),
    ("9", "", "no_answer", None),
]


@pytest.fixture
def graded(build: Any, run: Any, engine: str, tmp_path: Path) -> Any:
    """Runs the benchmark with the judge asked as named; `judge.log` holds its questions."""
    folder = Path(__import__("tests_engines").__path__[0])
    (folder / "judged.py").write_text(ENGINES)
    rows = [
        {
            "id": content_id("reference", "exam", i),
            "benchmark": "exam",
            "item": str(i),
            "problem": f"Problem {i}, say: {said}",
            "answer": answer,
        }
        for i, (answer, said, _, _) in enumerate(ANSWERS)
    ]
    exam = build(tmp_path / "exam", "eval.datasets", rows, records.REFERENCE, summary={"benchmark": "exam"})
    kind = {"kind": "tests_engines.judged"}
    engines = {
        "student": {**kind, "model": "writer"},
        "judge": {**kind, "model": "judge-1", "log": str(tmp_path / "judge.log")},
    }

    def one(name: str, judge: dict[str, Any] | None) -> Artifact:
        config = {"engine": "student", "check_workers": 1, "rows_per_shard": 2}
        config |= {"judge": {"engine": "judge", **judge}} if judge is not None else {}
        return run(tmp_path / name, "eval.benchmark", {"exam": exam}, config, engines)

    one.engines = engines  # type: ignore[attr-defined]
    return one


def test_the_judge_stands_beside_the_rules(graded: Any) -> None:
    plain, artifact = graded("plain", None), graded("judged", {"when": "all"})
    rows = list(artifact.rows())
    assert [(row["verdict"], row["judged"]) for row in rows] == [expected[2:] for expected in ANSWERS]
    result = artifact.manifest.summary["benchmarks"]["exam"]
    judge = result.pop("judge")
    assert result == plain.manifest.summary["benchmarks"]["exam"]  # the five counts do not move
    assert sum(result["verdicts"].values()) == 5
    expected = {"checked": 5, "asked": 4, "unread": 1, "agreed": 1, "judge_accepts": 1, "judge_rejects": 1}
    assert {key: judge[key] for key in expected} == expected
    assert judge["disagreement"] == pytest.approx(2 / 3)
    assert (judge["model"], judge["when"], len(judge["prompt"])) == ("judge-1", "all", 32)
    assert (judge["correct"], judge["accuracy"]) == (1, 0.2)  # it takes one and gives one
    assert judge["low"] < 0.2 < judge["high"]
    assert rows[3]["judgement"] == "hm"


@pytest.mark.parametrize(("when", "asked"), [("all", 4), ("disagree", 3)])
def test_when_the_judge_is_asked(graded: Any, tmp_path: Path, when: str, asked: int) -> None:
    artifact = graded("judged", {"when": when})
    questions = (tmp_path / "judge.log").read_text().splitlines()
    assert len(questions) == asked == artifact.manifest.summary["benchmarks"]["exam"]["judge"]["asked"]
    assert artifact.manifest.usage.requests == 5 + asked
    assert not any("Problem 2, say" in question for question in questions)


def test_the_problem_is_shown_by_option(graded: Any, tmp_path: Path) -> None:
    graded("judged", {"when": "all", "show_problem": True})
    assert "Problem 2, say" in (tmp_path / "judge.log").read_text()


def test_a_judge_joins_later_and_asks_the_student_nothing(graded: Any, run: Any, tmp_path: Path) -> None:
    plain = graded("plain", None)
    config = {"check_workers": 1, "judge": {"engine": "judge", "when": "all"}}
    engines = graded.engines
    later = run(tmp_path / "later", "eval.regrade", {"completions": plain}, config, {"judge": engines["judge"]})
    assert [(row["verdict"], row["judged"]) for row in later.rows()] == [expected[2:] for expected in ANSWERS]
    assert later.manifest.usage.requests == 4
    assert later.manifest.summary["grading"]["judge"]["model"] == "judge-1"


def test_a_killed_run_asks_the_judge_nothing_twice(graded: Any, tmp_path: Path) -> None:
    whole = graded("judged", {"when": "all"})
    rows = list(whole.rows())
    for name in ("manifest.json", "00000.parquet"):  # as after a kill: this shard has its journal only
        (whole.path / name).unlink()
    again = graded("judged", {"when": "all"})
    assert list(again.rows()) == rows
    assert len((tmp_path / "judge.log").read_text().splitlines()) == 4
