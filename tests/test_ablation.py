"""The persona ablation: arms share every artifact that they can and never a completion that they must not."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from personahub.core.artifact import open_artifact
from personahub.core.experiments.experiment import Experiment, load_experiment
from personahub.core.experiments.stage_process import run_stage

ARMS = ("no_persona", "persona", "persona_few_shot", "key_points", "random_words")
SEEDS = ("0", "1", "2")
SMALL = ("stages.sources.config.limit=6", "stages.related_personas.config.max_new=20")
SMALL += ("stages.exam_personas.config.held_out=10",)


@pytest.fixture(scope="module")
def planned(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        return load_experiment("configs/ablation_persona.yaml", SMALL, runs)


@pytest.fixture(scope="module")
def made(planned: Experiment, repository: Path) -> dict[str, Path]:
    """The problems of all arms and seeds, of a few personas."""
    names = [f"problems-{arm}-{seed}" for arm in ARMS for seed in SEEDS]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        for name in planned.needed(names):
            stage = planned.stage(name)
            assert stage.spec is not None
            run_stage(stage.spec, stage.path)
    return {name: planned.stage(name).path for name in names}


def test_arms_differ_in_what_stands_in_the_prompt_and_in_nothing_else(planned: Experiment) -> None:
    told_apart = {"persona", "prompting", "key_points", "words", "examples"}
    for part in ("problems", "solutions", "verified", "data", "model", "after"):
        for seed in SEEDS:
            specs = [planned.stage(f"{part}-{arm}-{seed}").spec for arm in ARMS]
            identities = [dict(spec.identity) for spec in specs if spec is not None]
            for identity in identities:
                for key in told_apart if part == "problems" else ():
                    identity.pop(key)
                assert identity == identities[0], part
                assert identity["seed"] == int(seed) or part in ("verified", "after")


def test_arms_share_what_comes_before_them(planned: Experiment) -> None:
    for shared, part, name in (
        ("personas", "problems", "personas"),
        ("base_model", "model", "model"),
        ("exam", "data", "test"),
    ):
        for arm in ARMS:
            for seed in SEEDS:
                assert planned.stage(f"{part}-{arm}-{seed}").upstream[name] == shared
    for arm in ARMS:
        seeds = [planned.stage(f"problems-{arm}-{seed}").fingerprint for seed in SEEDS]
        assert len(set(seeds)) == len(SEEDS)
        assert planned.stage(f"problems-{arm}-1").upstream == planned.stage(f"problems-{arm}-0").upstream


def test_no_two_arms_share_a_completion(made: dict[str, Path]) -> None:
    asked = defaultdict(set)
    for name, path in made.items():
        for journal in (path / "journal").glob("*.jsonl"):
            for line in journal.read_text(encoding="utf-8").splitlines():
                asked[json.loads(line)["key"]].add(name)
    assert len(asked) >= 15 * 30
    assert all(len(names) == 1 for names in asked.values())


def test_arms_are_paired_by_persona_and_seed(made: dict[str, Path]) -> None:
    for seed in SEEDS:
        rows = {
            arm: {row["persona_id"]: row for row in open_artifact(made[f"problems-{arm}-{seed}"]).rows()}
            for arm in ARMS
        }
        for arm in ARMS[1:]:
            both = rows[arm].keys() & rows[ARMS[0]].keys()
            assert len(both) >= 25
            assert all(rows[arm][key]["seed"] == rows[ARMS[0]][key]["seed"] for key in both)
        assert all(row["persona"] and not row["drawn"] for row in rows["persona"].values())
        assert all(not row["persona"] and not row["drawn"] for row in rows["no_persona"].values())
        assert all(not row["persona"] and len(row["drawn"]) == 2 for row in rows["key_points"].values())
        assert all(not row["persona"] and len(row["drawn"]) == 4 for row in rows["random_words"].values())


def test_the_exam_is_of_personas_that_nobody_trains_on(planned: Experiment, made: dict[str, Path]) -> None:
    held_out = {row["id"] for row in open_artifact(_made(planned, "exam_personas")).rows(["id"])}
    trained = {row["id"] for row in open_artifact(planned.stage("personas").path).rows(["id"])}
    assert len(held_out) == 10
    assert not held_out & trained


def _made(planned: Experiment, name: str) -> Path:
    stage = planned.stage(name)
    assert stage.spec is not None
    run_stage(stage.spec, stage.path)
    return stage.path
