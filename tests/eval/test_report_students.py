"""Which student a report's headline is about, where several were trained."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact

Students = Callable[..., dict[str, Artifact]]


def result(kind: str, correct: int) -> dict[str, Any]:
    verdicts = {"correct": correct, "wrong": 1000 - correct, "no_answer": 0, "timeout": 0, "error": 0}
    numbers = {"n": 1000, "correct": correct, "accuracy": correct / 1000, "low": correct / 2000, "high": correct / 500}
    return {"kind": kind, **numbers, "verdicts": verdicts, "truncated": 0, "by_subject": {}, "by_level": {}}


@pytest.fixture
def students(build: Any, tmp_path: Path) -> Students:
    """Artifacts of students by (examples, correct of 1,000 on either test), trained from one base model."""

    def make(trained: Mapping[str, tuple[int | None, int]], base: str = "base") -> dict[str, Artifact]:
        made = {base: build(tmp_path / base, "train.init_model")}
        tested = {f"before_{base}": (base, 7)}
        for name, (examples, correct) in trained.items():
            model = f"model_{name}"
            summary = {} if examples is None else {"examples": examples}
            made[model] = build(tmp_path / model, "train.sft", inputs={"model": made[base]}, summary=summary)
            tested[f"after_{name}"] = (model, correct)
        for stage, (model, correct) in tested.items():
            results = {"synthetic_test": result("synthetic_test", correct), "math": result("benchmark", correct + 1)}
            summary = {"benchmarks": results, "skipped": {}, "reference_self_check": {}, "asked_as_trained": True}
            made[stage] = build(tmp_path / stage, "eval.benchmark", inputs={"model": made[model]}, summary=summary)
        return made

    return make


def read(artifact: Artifact) -> tuple[dict[str, Any], dict[str, tuple[str, str]], str]:
    """The summary, the cards (value and text by title), and report.md."""
    html = (artifact.path / "index.html").read_text(encoding="utf-8")
    found = re.findall(r'<div class="card">\s*<h2>(.*?)</h2>\s*<p class="big">(.*?)</p>\s*<p>(.*?)</p>', html)
    cards = {title: (value, text) for title, value, text in found}
    markdown = (artifact.path / "report.md").read_text(encoding="utf-8")
    return json.loads((artifact.path / "summary.json").read_text(encoding="utf-8")), cards, markdown


@pytest.mark.parametrize(
    ("trained", "chosen", "correct"),
    [
        ({"small": (128, 300), "large": (1024, 500), "middle": (512, 900)}, "after_large", 500),
        ({"first": (512, 300), "second": (512, 200)}, "after_second", 200),  # ties: the later stage
        ({"known": (512, 300), "unknown": (None, 200)}, "after_known", 300),
    ],
)
def test_of_several_students_the_headline_is_the_one_trained_on_most(
    students: Students, run: Any, tmp_path: Path, trained: Any, chosen: str, correct: int
) -> None:
    summary, cards, markdown = read(run(tmp_path / "report", "eval.report", students(trained)))
    after, math = summary["student"]["after"], summary["math"]
    assert (after["stage"], after["correct"], after["students"]) == (chosen, correct, len(trained))
    assert (math["stage"], math["correct"], math["students"]) == (chosen, correct + 1, len(trained))
    assert summary["student"]["before"]["stage"] == "before_base"
    value, text = cards["Synthetic test, after training"]
    assert value == f"{correct / 10:.1f}%"
    said = f"{chosen}, trained on the most examples of {len(trained)} students"
    assert said in text
    assert "Before training 0.7%" in text
    value, text = cards["MATH"]
    assert value == f"{(correct + 1) / 10:.1f}%"
    assert said in text
    assert f"MATH ({said}): {correct + 1} of 1,000 correct" in markdown
    assert math["statement"] in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


def test_before_is_what_the_chosen_student_began_with(students: Students, run: Any, tmp_path: Path) -> None:
    made = students({"small": (64, 100)}, "other") | students({"large": (128, 200)})
    summary, _, _ = read(run(tmp_path / "report", "eval.report", made))
    assert (summary["student"]["after"]["stage"], summary["student"]["before"]["stage"]) == (
        "after_large",
        "before_base",
    )


def test_a_student_trained_in_two_steps_began_with_the_first_ones_base(
    students: Students, build: Any, run: Any, tmp_path: Path
) -> None:
    made = students({"first": (64, 100)})
    second = build(tmp_path / "second", "train.sft", inputs={"model": made["model_first"]}, summary={"examples": 64})
    results = made["after_first"].manifest.summary
    made |= {"second": second, "z": build(tmp_path / "z", "eval.benchmark", inputs={"model": second}, summary=results)}
    summary, _, _ = read(run(tmp_path / "report", "eval.report", made))
    assert (summary["student"]["after"]["stage"], summary["student"]["before"]["stage"]) == ("z", "before_base")


def test_one_student_is_shown_as_ever(students: Students, build: Any, run: Any, tmp_path: Path) -> None:
    made = students({"only": (512, 300)})
    summary, cards, markdown = read(run(tmp_path / "report", "eval.report", made))
    assert summary["student"]["after"]["students"] == 1
    assert all("after_only" not in text for _, text in cards.values())
    assert "MATH: 301 of 1,000 correct" in markdown
    source = made["after_only"]
    strict = build(tmp_path / "strict", "eval.regrade", inputs={"completions": source}, summary=source.manifest.summary)
    summary, cards, _ = read(run(tmp_path / "regraded", "eval.report", made | {"strict": strict}))
    assert (summary["student"]["after"]["stage"], summary["math"]["stage"]) == ("after_only", "after_only")
    assert all("after_only" in cards[title][1] for title in ("Synthetic test, after training", "MATH"))


def test_an_ablation_has_no_card_of_one_of_its_arms(students: Students, build: Any, run: Any, tmp_path: Path) -> None:
    made = students({"a": (64, 100), "b": (64, 200)})
    arms = {f"results-{arm}-0": made[f"after_{arm}"] for arm in "ab"}
    numbers = {"mean": 0.1, "low": 0.0, "high": 0.2, "by_seed": [0.1], "p": 0.5, "freedom": 9.0, "interval": "crossed"}
    difference = numbers | {"p_holm": 0.5, "detectable": 0.1, "better": 1, "worse": 1, "equal": 1}
    math = {"seeds": 1, "n": 1000, "accuracy": {"a": numbers, "b": numbers}, "differences": {"b": difference}}
    summary = {"baseline": "a", "alpha": 0.05, "arms": {"a": {}, "b": {}}, "seeds": ["0"], "by_origin": {}}
    summary |= {"benchmarks": {"math": math | {"luck": None}}, "diversity": {}}
    summary |= {"conclusions": {"shown": [], "not_shown": [], "limits": []}}
    ablation = build(tmp_path / "ablation", "eval.ablation", inputs=arms, summary=summary)
    summary, cards, markdown = read(run(tmp_path / "report", "eval.report", made | {"ablation": ablation}))
    assert summary["student"] is None
    assert summary["math"]["status"] == "in_ablation"
    assert "2 students took MATH. The ablation compares them." in markdown
    assert not {"MATH", "Synthetic test, after training", "Synthetic test, before training"} & set(cards)
    assert "Arms that differ" in cards
    # a student outside of the ablation has its own cards
    beside = made | students({"c": (32, 300)}, "other") | {"ablation": ablation}
    summary, cards, _ = read(run(tmp_path / "beside", "eval.report", beside))
    assert (summary["student"]["after"]["stage"], summary["math"]["stage"]) == ("after_c", "after_c")
    assert "after_c" in cards["MATH"][1]


def test_a_synthetic_test_that_no_student_took_has_no_card(students: Students, run: Any, tmp_path: Path) -> None:
    made = students({})
    (stage,) = (artifact for artifact in made.values() if artifact.manifest.module == "eval.benchmark")
    summary, cards, _ = read(run(tmp_path / "report", "eval.report", {"other": stage}))
    assert summary["benchmarks"][0]["role"] == "other"
    assert summary["student"] is None
    assert set(cards) == {"MATH"}
