"""Arms and seeds compared: what the summary says follows from the graded records, and reads as plain sentences."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.stats.conclusions import conclude
from eval.stats.paired import holm
from personahub.core import records
from personahub.core.artifact import Artifact
from personahub.core.errors import UserError

SKILLS = {"persona": 0.7, "no_persona": 0.5, "key_points": 0.7}
GRADING = {"policy": {"rounding_digits": 4}, "checker": "c", "judge": None}
PROBLEMS = 240


@pytest.fixture(scope="module")
def graded(build: Any) -> Callable[..., Artifact]:
    """A run on the test that solves a problem with the given chance, and easy ones more often."""

    def make(folder: Path, skill: float, seed: int, problems: int = PROBLEMS, **grading: str) -> Artifact:
        chance = random.Random(f"{folder.name} {seed}")
        rows = []
        for number in range(problems):
            expected = min(max(skill + 0.3 * ((number % 5) / 2 - 1), 0), 1)
            verdict = "correct" if chance.random() < expected else "wrong"
            row = {"id": f"q{number}", "sample": 0, "benchmark": "synthetic_test", "reference": "4", "verdict": verdict}
            rows.append({**row, "predicted": "4" if verdict == "correct" else "5", "finish_reason": "stop"})
        summary = {"benchmarks": {}, "grading": GRADING | grading}
        return build(folder, "eval.benchmark", rows, records.GRADED, summary=summary)

    return make


@pytest.fixture(scope="module")
def arms(graded: Any, build: Any, run: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Inputs as a matrix gives them: three arms, three seeds."""
    root = tmp_path_factory.mktemp("arms")
    inputs: dict[str, Artifact] = {}
    measured: dict[str, Artifact] = {}
    for arm, skill in SKILLS.items():
        themes = 40 if arm == "persona" else 4
        for seed in range(3):
            inputs[f"results-{arm}-{seed}"] = graded(root / f"after-{arm}-{seed}", skill, seed)
            texts = [f"theme{(i + seed) % themes} asks for the sum of {i} and {i + seed}" for i in range(60)]
            rows = [{"id": f"{arm}{seed}{i}", "problem": text} for i, text in enumerate(texts)]
            made = build(root / f"problems-{arm}-{seed}", "synth.problems", rows, records.PROBLEM)
            inputs[f"problems-{arm}-{seed}"] = measured[f"problems-{arm}-{seed}"] = made
        exam = [{"id": f"q{i}"} for i in range(PROBLEMS) if list(SKILLS)[i % 3] == arm]
        inputs[f"exam-{arm}"] = build(root / f"exam-{arm}", "synth.verify", exam, records.VERIFIED)
    hashing = {"embedder": {"kind": "hashing"}, "topics": 6}
    inputs["diversity"] = run(root / "diversity", "eval.diversity", measured, hashing)
    return inputs


@pytest.fixture(scope="module")
def ablation(arms: dict[str, Artifact], run: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("a") / "ablation"
    return run(folder, "eval.ablation", arms, {"baseline": "persona"})


def scores(arms: Mapping[str, Artifact], arm: str) -> np.ndarray:
    return np.array(
        [[row["verdict"] == "correct" for row in arms[f"results-{arm}-{seed}"].rows()] for seed in range(3)],
        dtype=float,
    )


def test_every_number_follows_from_the_records(ablation: Artifact, arms: dict[str, Artifact]) -> None:
    found = ablation.manifest.summary["benchmarks"]["synthetic_test"]
    assert (found["n"], found["seeds"]) == (PROBLEMS, 3)
    for arm in SKILLS:
        accuracy = found["accuracy"][arm]
        assert accuracy["mean"] == pytest.approx(scores(arms, arm).mean(), abs=1e-4)
        assert accuracy["by_seed"] == pytest.approx(scores(arms, arm).mean(axis=1), abs=1e-4)
    for arm, difference in found["differences"].items():
        by_problem = scores(arms, arm).mean(axis=0) - scores(arms, "persona").mean(axis=0)
        assert difference["mean"] == pytest.approx(by_problem.mean(), abs=1e-4)
        assert difference["low"] < difference["mean"] < difference["high"]
        assert difference["better"] == (by_problem > 0).sum()
        assert sum(difference[key] for key in ("better", "worse", "equal")) == PROBLEMS
    differences = found["differences"].values()
    assert [each["p_holm"] for each in differences] == holm([each["p"] for each in differences])
    origin = ablation.manifest.summary["by_origin"]["synthetic_test"]["no_persona"]
    assert origin["persona"] == pytest.approx(scores(arms, "no_persona")[:, ::3].mean(), abs=1e-4)
    rows = [row for row in ablation.rows() if row["arm"] == "key_points"]
    assert [row["score"] for row in rows] == pytest.approx(scores(arms, "key_points").mean(axis=0))
    assert {row["made_by"] for row in rows} == set(SKILLS)


def test_the_sentences_say_what_is_shown_and_what_is_not(ablation: Artifact) -> None:
    said = ablation.manifest.summary["conclusions"]
    assert any("no persona is" in line and "points worse than persona" in line for line in said["shown"])
    assert any("key points scores" in line and "no difference is shown" in line for line in said["not_shown"])
    assert any("less diverse: a Vendi score -" in line for line in said["shown"])
    assert "3 seeds" in said["limits"][0]


def test_diversity_is_compared_at_equal_numbers_of_texts(ablation: Artifact, arms: dict[str, Artifact]) -> None:
    found = ablation.manifest.summary["diversity"]
    collections = arms["diversity"].manifest.summary["collections"]
    assert found["texts"] == 60
    vendi = found["measures"]["vendi"]
    assert vendi["no_persona"]["by_seed"] == [
        collections[f"problems-no_persona-{seed}"]["curves"]["vendi"][-1][1] for seed in range(3)
    ]
    expected = vendi["no_persona"]["mean"] - vendi["persona"]["mean"]
    assert vendi["no_persona"]["difference"] == pytest.approx(expected, abs=1e-3)


def test_one_seed_is_called_what_it_is(arms: dict[str, Artifact], run: Any, tmp_path: Path) -> None:
    single = {name: arms[name] for name in arms if name.endswith("-0")}
    said = run(tmp_path / "one", "eval.ablation", single, {"baseline": "persona"}).manifest.summary["conclusions"]
    assert "one seed cannot separate an arm from its luck" in said["limits"][0]


def test_what_cannot_be_compared_is_refused(arms: dict[str, Artifact], graded: Any, run: Any, tmp_path: Path) -> None:
    def refused(number: int, inputs: dict[str, Artifact], message: str, baseline: str = "persona") -> None:
        with pytest.raises(UserError, match=message):
            run(tmp_path / f"a{number}", "eval.ablation", inputs, {"baseline": baseline})

    results = {name: artifact for name, artifact in arms.items() if name.startswith("results-")}
    refused(1, results, r"config\.baseline: .*mean 'persona'", "personas")
    refused(2, {name: results[name] for name in results if "-persona-" in name}, "two or more arms")
    refused(3, {name: results[name] for name in results if name != "results-key_points-1"}, "have different seeds")
    other = graded(tmp_path / "short", 0.5, 0, problems=30)
    refused(4, results | {"results-key_points-1": other}, "not runs on the same problems")
    other = graded(tmp_path / "strict", 0.5, 0, checker="d")
    refused(5, results | {"results-key_points-1": other}, "graded differently")
    refused(6, results | {"outcomes-persona-0": other}, r"inputs\.outcomes-persona-0")
    refused(7, results | {"results-key_points-1": arms["problems-persona-0"]}, r"not an artifact of eval\.benchmark")


def test_the_report_shows_it(ablation: Artifact, run: Any, tmp_path: Path) -> None:
    folder = run(tmp_path / "report", "eval.report", {"ablation": ablation}).path
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert 'id="ablation"' in html
    assert "Difference from persona" in html
    assert "<h3>Not shown</h3>" in html
    assert "no persona is" in html
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert "| no_persona | " in markdown


def flat(graded: Any, folder: Path, skills: Mapping[str, float], seeds: int, problems: int) -> dict[str, Artifact]:
    """Inputs of arms that solve every problem (skill 2) or none (skill -1)."""
    return {
        f"results-{arm}-{seed}": graded(folder / f"after-{arm}-{seed}", skill, seed, problems)
        for arm, skill in skills.items()
        for seed in range(seeds)
    }


@pytest.mark.parametrize("seeds", [1, 3])
def test_arms_that_score_the_same_everywhere_claim_no_precision(
    seeds: int, graded: Any, run: Any, tmp_path: Path
) -> None:
    inputs = flat(graded, tmp_path, {"persona": -1, "no_persona": -1}, seeds, problems=250)
    ablation = run(tmp_path / "ablation", "eval.ablation", inputs, {"baseline": "persona"})
    found = ablation.manifest.summary["benchmarks"]["synthetic_test"]
    difference = found["differences"]["no_persona"]
    assert (difference["mean"], difference["p"], difference["p_holm"]) == (0, 1, 1)
    assert [difference[key] for key in ("low", "high", "detectable")] == [None, None, None]
    assert found["luck"] is None
    for accuracy in found["accuracy"].values():
        assert (accuracy["low"], accuracy["high"], accuracy["interval"]) == (0, 0.0151, "wilson")
    said = ablation.manifest.summary["conclusions"]
    assert said["shown"] == []
    assert "all scores are equal on every problem and for every seed, so the error is unknown" in said["not_shown"][0]
    assert any("Wilson's over the 250 problems" in line for line in said["limits"])
    folder = run(tmp_path / "report", "eval.report", {"ablation": ablation}).path
    html, markdown = ((folder / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    assert "| persona | 0.0 | 0.0–1.5 | | |" in re.sub(r"\| +(?=\|)", "| ", markdown)
    assert "| no_persona | 0.0 | 0.0–1.5 | +0.0 | none | 1 |" in markdown
    assert "0.0–1.5" in html
    for text in (*said["not_shown"], *said["limits"], html, markdown):
        assert not re.search(r"\+0\.0 to [+-]0\.0|up to 0\.0 points|difference of 0\.0 points|at most 0\.0", text)


@pytest.mark.parametrize(("problems", "p", "kind"), [(2, 0.5, "not_shown"), (250, 2.0**-249, "shown")])
def test_one_difference_on_every_problem_is_tested_by_its_signs(
    problems: int, p: float, kind: str, graded: Any, run: Any, tmp_path: Path
) -> None:
    inputs = flat(graded, tmp_path, {"persona": 2, "no_persona": -1}, seeds=2, problems=problems)
    ablation = run(tmp_path / "ablation", "eval.ablation", inputs, {"baseline": "persona"})
    difference = ablation.manifest.summary["benchmarks"]["synthetic_test"]["differences"]["no_persona"]
    assert (difference["mean"], difference["p"]) == (-1, p)
    assert (difference["low"], difference["high"], difference["detectable"]) == (None, None, None)
    (sentence,) = ablation.manifest.summary["conclusions"][kind]
    assert "sign test" in sentence
    markdown = (run(tmp_path / "report", "eval.report", {"ablation": ablation}).path / "report.md").read_text()
    assert "| -100.0 | none |" in markdown


def test_one_problem_is_refused_in_a_line(graded: Any, run: Any, tmp_path: Path) -> None:
    inputs = flat(graded, tmp_path, {"persona": 2, "no_persona": -1}, seeds=2, problems=1)
    with pytest.raises(
        UserError, match=r"^stages\.ablation\.inputs\.results: .* 1 problem .*synthetic_test.*two or more"
    ):
        run(tmp_path / "ablation", "eval.ablation", inputs, {"baseline": "persona"})


def test_diversity_that_differs_alike_under_all_seeds_has_no_interval() -> None:
    entry = {"difference": 1.1, "low": None, "high": None, "p": 0.25, "p_holm": 0.25}
    alike = {"texts": 400, "measures": {"vendi": {"b": entry | {"by_seed": [25.5, 25.6, 25.7]}}}}
    benchmarks = {"exam": {"seeds": 3, "n": 2, "accuracy": {"b": {"mean": 0.5, "interval": "crossed"}}}}
    benchmarks["exam"] |= {"differences": {}, "luck": None}
    (sentence,) = conclude("a", 0.05, benchmarks, alike)["not_shown"]
    assert "one seed" not in sentence
    assert "+1.1" in sentence
    assert "for all 3 seeds" in sentence
    (sentence,) = conclude("a", 0.3, benchmarks, alike)["shown"]
    assert "more diverse" in sentence
    entry["by_seed"] = [25.5]
    (sentence,) = conclude("a", 0.05, benchmarks, {**alike, "measures": {"vendi": {"b": entry}}})["not_shown"]
    assert "One seed cannot show" in sentence
