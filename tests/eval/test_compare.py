"""Runs are compared problem by problem; what cannot be compared is refused with the difference named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.compare import Config
from eval.stats.paired import holm, mcnemar
from personahub.core import records
from personahub.core.artifact import Artifact
from personahub.core.config import parse_config
from personahub.core.errors import UserError
from personahub.core.identity import content_id


@pytest.fixture
def exam(build: Any, tmp_path: Path) -> Callable[..., Artifact]:
    def make(count: int, name: str = "exam", folder: str = "") -> Artifact:
        rows = [
            {
                "id": content_id("reference", name, i),
                "benchmark": name,
                "item": str(i),
                "problem": f"{i} times 3 plus 4",
                "answer": str(3 * i + 4),
                "subject": ("Sums", "Products")[i % 2],
                "level": str(1 + i % 3),
            }
            for i in range(1, count + 1)
        ]
        return build(tmp_path / (folder or name), "eval.datasets", rows, records.REFERENCE, summary={"benchmark": name})

    return make


@pytest.fixture
def graded(run: Any, engine: str, tmp_path: Path) -> Callable[..., Artifact]:
    """A run of a model with the given skill."""

    def make(name: str, skill: float, inputs: dict[str, Artifact], **config: Any) -> Artifact:
        model = tmp_path / f"{name}_model"
        model.mkdir(exist_ok=True)
        (model / "skill.json").write_text(json.dumps({"skill": skill}))
        engines = {"student": {"kind": engine, "model": str(model)}}
        config = {"engine": "student", "check_workers": 1, "seed": len(name), **config}
        return run(tmp_path / name, "eval.benchmark", inputs, config, engines)

    return make


def scores(artifact: Artifact, **wanted: Any) -> dict[str, bool]:
    rows = [row for row in artifact.rows() if all(row[key] == value for key, value in wanted.items())]
    return {row["id"]: row["verdict"] == "correct" for row in rows}


def test_every_number_follows_from_the_records(exam: Any, graded: Any, run: Any, tmp_path: Path) -> None:
    inputs = {"exam": exam(60)}
    runs = {name: graded(name, skill, inputs) for name, skill in (("weak", 0.2), ("better", 0.6), ("strongest", 0.9))}
    artifact = run(tmp_path / "comparison", "eval.compare", runs, {"bootstrap": 500})
    comparisons = artifact.manifest.summary["comparisons"]["exam"]
    assert [(c["a"], c["b"]) for c in comparisons] == [
        ("weak", "better"),
        ("weak", "strongest"),
        ("better", "strongest"),
    ]
    for found in comparisons:
        check_counts(found, scores(runs[found["a"]]), scores(runs[found["b"]]))
        for table, key in (("by_subject", "subject"), ("by_level", "level")):
            assert sum(group["n"] for group in found[table].values()) == found["n"]
            for name, group in found[table].items():
                check_counts(group, scores(runs[found["a"]], **{key: name}), scores(runs[found["b"]], **{key: name}))
    assert [c["p_holm"] for c in comparisons] == holm([c["p"] for c in comparisons])
    groups = [group for c in comparisons for group in c["by_level"].values()]
    assert [group["p_holm"] for group in groups] == holm([group["p"] for group in groups])
    assert comparisons[1]["p_holm"] < 0.001 < comparisons[1]["low"]


def check_counts(found: dict[str, Any], a: dict[str, bool], b: dict[str, bool]) -> None:
    assert found["only_a"] == sum(a[id_] and not b[id_] for id_ in a)
    assert found["only_b"] == sum(b[id_] and not a[id_] for id_ in a)
    assert found["n"] == len(a) == found["only_a"] + found["only_b"] + found["equal"]
    assert found["difference"] == pytest.approx(np.mean([b[id_] - a[id_] for id_ in a]), abs=1e-4)
    assert found["low"] <= found["difference"] <= found["high"]
    assert found["p"] == mcnemar(found["only_a"], found["only_b"])


def test_records_are_the_discordant_problems_with_both_answers(
    exam: Any, graded: Any, run: Any, tmp_path: Path
) -> None:
    inputs = {"exam": exam(40)}
    runs = {"one": graded("one", 0.3, inputs), "second": graded("second", 0.8, inputs)}
    rows = list(run(tmp_path / "comparison", "eval.compare", runs).rows())
    a, b = (scores(artifact) for artifact in runs.values())
    assert {row["id"] for row in rows} == {id_ for id_ in a if a[id_] != b[id_]} != set()
    answers = [{row["id"]: row["predicted"] for row in artifact.rows()} for artifact in runs.values()]
    for row in rows:
        assert (row["answer_a"], row["answer_b"]) == (answers[0][row["id"]], answers[1][row["id"]])
        assert (row["score_a"], row["score_b"]) == (a[row["id"]], b[row["id"]])
        assert row["problem"].startswith(str((int(row["reference"]) - 4) // 3))


def test_the_same_seed_gives_the_same_comparison(exam: Any, graded: Any, run: Any, tmp_path: Path) -> None:
    inputs = {"exam": exam(20)}
    runs = {"one": graded("one", 0.3, inputs), "second": graded("second", 0.8, inputs)}
    first, second = (run(tmp_path / name, "eval.compare", runs, {"seed": 4}) for name in ("x", "y"))
    assert first.manifest.summary == second.manifest.summary


def test_a_baseline_leaves_out_the_other_pairs(exam: Any, graded: Any, run: Any, tmp_path: Path) -> None:
    inputs = {"exam": exam(10)}
    runs = {name: graded(name, 0.5, inputs) for name in ("x", "yy", "zzz")}
    summary = run(tmp_path / "comparison", "eval.compare", runs, {"baseline": "yy"}).manifest.summary
    assert [(c["a"], c["b"]) for c in summary["comparisons"]["exam"]] == [("yy", "x"), ("yy", "zzz")]
    with pytest.raises(UserError, match=r"config.baseline: no input 'zz'. Did you mean 'zzz'\?"):
        run(tmp_path / "other", "eval.compare", runs, {"baseline": "zz"})


def test_several_samples_compare_shares_without_mcnemar(exam: Any, graded: Any, run: Any, tmp_path: Path) -> None:
    inputs, sampling = {"exam": exam(25)}, {"temperature": 1.0, "max_tokens": 64}
    runs = {
        "greedy": graded("greedy", 0.3, inputs),
        "sampled": graded("sampled", 0.8, inputs, samples=4, sampling=sampling),
    }
    artifact = run(tmp_path / "comparison", "eval.compare", runs)
    (found,) = artifact.manifest.summary["comparisons"]["exam"]
    assert (found["p"], found["p_holm"]) == (None, None)
    results = [artifact.manifest.summary["benchmarks"]["exam"]["accuracy"] for artifact in runs.values()]
    assert found["difference"] == pytest.approx(results[1] - results[0], abs=2e-4)
    assert {row["score_b"] for row in artifact.rows()} <= {0, 0.25, 0.5, 0.75, 1}


def test_the_notebook_says_that_mcnemars_test_does_not_apply(
    exam: Any, graded: Any, run: Any, repository: Path, tmp_path: Path
) -> None:
    inputs = {"exam": exam(25)}
    runs = {
        name: graded(name, skill, inputs, samples=2, sampling={"temperature": 1.0})
        for name, skill in (("weak", 0.2), ("strong", 0.9))
    }
    run(tmp_path / "runs" / "small" / "comparison", "eval.compare", runs)
    environment = {**os.environ, "PERSONAHUB_RUN": str(tmp_path / "runs" / "small"), "MPLBACKEND": "Agg"}
    command = [sys.executable, str(repository / "notebooks" / "03_ablation_with_statistics.py")]
    done = subprocess.run(
        command, env=environment | {"PYTHONPATH": str(repository)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "McNemar's test does not apply to several samples per problem" in done.stdout
    assert "p =" not in done.stdout


def test_other_grading_is_refused_until_regraded(exam: Any, graded: Any, run: Any, tmp_path: Path) -> None:
    inputs = {"exam": exam(6)}
    lenient, strict = graded("one", 1.0, inputs), graded("two", 1.0, inputs, answers={"units_optional": False})
    with pytest.raises(UserError, match=r"graded differently \(policy.units_optional: true -> false\).*eval.regrade"):
        run(tmp_path / "no", "eval.compare", {"one": lenient, "two": strict})
    regraded = run(tmp_path / "regraded", "eval.regrade", {"completions": strict}, {"check_workers": 1})
    artifact = run(tmp_path / "yes", "eval.compare", {"one": lenient, "two": regraded})
    assert artifact.manifest.summary["comparisons"]["exam"][0]["difference"] == 0
    assert list(artifact.rows()) == []


def test_other_problems_are_refused_by_name(exam: Any, graded: Any, run: Any, build: Any, tmp_path: Path) -> None:
    short, long, other = exam(6), exam(9, folder="longer"), exam(3, "other")
    one = graded("one", 1.0, {"exam": short})
    with pytest.raises(UserError, match=r"in exam, 0 are in one only and 3 in longer only, such as [0-9a-f]{32}"):
        run(tmp_path / "no", "eval.compare", {"one": one, "longer": graded("long_run", 1.0, {"exam": long})})
    both = graded("both_exams", 1.0, {"exam": short, "other": other})
    with pytest.raises(UserError, match=r"only both has the benchmark other; set `benchmarks:` to those to compare"):
        run(tmp_path / "no", "eval.compare", {"one": one, "both": both})
    named = run(tmp_path / "yes", "eval.compare", {"one": one, "both": both}, {"benchmarks": ["exam"]})
    assert list(named.manifest.summary["comparisons"]) == ["exam"]
    rows = [{**row, "answer": "5"} if i == 2 else row for i, row in enumerate(short.rows())]
    edited = build(tmp_path / "edited", "eval.datasets", rows, records.REFERENCE, summary={"benchmark": "exam"})
    with pytest.raises(UserError, match=r"in exam, 1 have different references, such as .*: '13' and '5'"):
        run(tmp_path / "no", "eval.compare", {"one": one, "two": graded("two", 1.0, {"exam": edited})})


def test_what_is_no_run_is_refused(experiment: dict[str, Artifact], run: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two or more runs"):
        run(tmp_path / "no", "eval.compare", {"after": experiment["after"]})
    with pytest.raises(
        UserError, match=r"inputs.data: .* was made by synth.sft_data; the input must be an artifact of eval"
    ):
        run(tmp_path / "no", "eval.compare", {"after": experiment["after"], "data": experiment["data"]})
    runs = {name: experiment[name] for name in ("before", "after")}
    with pytest.raises(UserError, match=r"has no 'maths'. Did you mean 'math'\?"):
        run(tmp_path / "no", "eval.compare", runs, {"benchmarks": ["maths"]})
    with pytest.raises(UserError, match="bootstrap"):
        parse_config(Config, {"bootstrap": 3}, "stages.comparison.config")


def test_training_is_seen_on_every_benchmark(experiment: dict[str, Artifact], run: Any, tmp_path: Path) -> None:
    runs = {name: experiment[name] for name in ("before", "after")}
    comparisons = run(tmp_path / "comparison", "eval.compare", runs).manifest.summary["comparisons"]
    assert set(comparisons) == {"synthetic_test", "math"}
    assert all(found["low"] > 0 and found["p_holm"] < 0.01 for (found,) in comparisons.values())
    assert comparisons["synthetic_test"][0]["by_subject"] == {}
