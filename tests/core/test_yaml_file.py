"""YAML of experiments: `extends`, overrides, and files that are not experiments."""

from __future__ import annotations

from pathlib import Path

import pytest

from personahub.core.errors import UserError
from personahub.core.experiments.yaml_file import load_yaml


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_extends_merges_mappings_and_overrides_come_last(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "a: {x: 1, y: [1, 2], z: 3}\nb: 2\n")
    child = write(tmp_path / "child.yaml", "extends: base.yaml\na: {y: [9], z: null}\n")
    values = load_yaml(child, ["a.x=5", "a.new.deep=[p, 1.5]", "b=null"])
    assert values == {"a": {"x": 5, "y": [9], "new": {"deep": ["p", 1.5]}}, "b": None}


def test_another_kind_of_engine_does_not_inherit_the_keys_of_the_old_one(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "engines: {t: {kind: simulated, model: s, difficulty: easy}}\n")
    overrides = ["engines.t.model=gpt", "engines.t.kind=openai"]
    assert load_yaml(path, overrides) == {"engines": {"t": {"kind": "openai", "model": "gpt"}}}
    priced = write(
        tmp_path / "p.yaml", "engines: {t: {kind: openai, model: m, price: {input: 1, output: 2}, concurrency: 9}}\n"
    )
    assert load_yaml(priced, ["engines.t.kind=openai_batch"])["engines"]["t"] == {
        "kind": "openai_batch",
        "model": "m",
        "price": {"input": 1, "output": 2},
    }
    same = ["engines.t.kind=simulated"]
    assert load_yaml(path, same)["engines"]["t"] == {"kind": "simulated", "model": "s", "difficulty": "easy"}


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("a: [1, 2\n", [], r"config.yaml: not valid YAML: line \d+"),
        ("- a\n", [], "must be a mapping with keys"),
        ("extends: config.yaml\n", [], "is circular"),
        ("extends: gone.yaml\n", [], "gone.yaml: no such config file"),
        ("a: 1\n", ["a"], "key=value"),
        ("a: 1\n", ["a.b=1"], "'a' is not a mapping"),
        ("a: 1\n", ["b=[1"], "not valid YAML"),
        ("engines:\n", ["engines.t.kind=openai"], "'engines' is not a mapping"),
        ("engines: {t: gpt}\n", ["engines.t.kind=openai"], "'t' is not a mapping"),
        ("a: !!python/object/apply:os.system ['true']\n", [], "not valid YAML"),
        ("a: {b: 1}\nc: 2\na: 3\n", [], "line 3, column 1: duplicate key 'a'"),
        ("a:\n  - {b: 1, c: 2, b: 3}\n", [], "line 2, column 18: duplicate key 'b'"),
        ("a: &x {b: *x}\n", [], "an alias .* contains itself"),
        ("a: " + "[" * 3000 + "]" * 3000, [], "nested too deeply"),
        ("", [], "got nothing"),
        (
            "stages: {problems: {run: m}}\n",
            ["stages.problem.config.x=1"],
            "no stage 'problem'.*Did you mean 'problems'",
        ),
        ("engines: {teacher: {kind: openai}}\n", ["engines.techer.kind=vllm"], "Did you mean 'teacher'"),
    ],
)
def test_bad_yaml_is_one_clear_line(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_yaml(write(tmp_path / "config.yaml", text), overrides)
    assert "\n" not in str(caught.value)


def test_merged_keys_and_new_stages_and_engines_are_no_mistakes(tmp_path: Path) -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *a, y: 4}\nengines: {old: {kind: k}}\nstages: {}\n"
    overrides = ["stages.new.config.engine=mine", "stages.new.run=m", "engines.mine.kind=k", "engines.mine.model=m"]
    values = load_yaml(write(tmp_path / "config.yaml", text), overrides)
    assert (values["b"], values["c"]) == ({"x": 3, "y": 2}, {"x": 1, "y": 4})
    assert values["stages"] == {"new": {"config": {"engine": "mine"}, "run": "m"}}
