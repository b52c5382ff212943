"""Deduplication methods: a class outside the package works in the stage and on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from personahub import dedup
from personahub.commands.cli import main
from personahub.core.artifact import Artifact
from personahub.core.config import identity_of
from personahub.core.duplicates.word_sets import strings
from personahub.core.errors import UserError

METHOD = '''
"""Two texts are near-duplicates if they have the same number of characters."""

from typing import Literal

import numpy as np

from personahub.core.duplicates.result import Deduplication, visiting_order
from personahub.core.duplicates.word_sets import pieces
from personahub.deduplication.method import TextMethod


class SameLength(TextMethod):
    version: Literal["1"] = "1"
    ignored: int = 0  # difference that still counts as the same length

    def sweep(self, texts, thresholds, priority=None, against=None):
        new, old = ([len(text) for piece in pieces(part if part is not None else ()) for text in piece.to_pylist()]
                    for part in (texts, against))
        first = {length: len(new) + row for row, length in reversed(list(enumerate(old)))}
        survivor = np.full(len(new), -1)
        for row in visiting_order(len(new), priority).tolist():
            near = [first[length] for length in first if abs(length - new[row]) <= self.ignored]
            if near:
                survivor[row] = near[0]
            else:
                first[new[row]] = row
        return [Deduplication.from_survivors(t, survivor, np.ones(len(new))) for t in thresholds]
'''
PERSONAS = ["A judge", "A miner", "A nurse", "A night nurse in Oslo", "A cook"]
SAME_LENGTH: Any = {"method": "toy_methods.SameLength"}


@pytest.fixture
def personas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "toy_methods.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "personas.jsonl"
    path.write_text("".join(json.dumps({"persona": text}) + "\n" for text in PERSONAS))
    return path


@pytest.mark.parametrize("executor", ["serial", "process"])
def test_a_method_outside_the_package_is_named_by_its_path(
    executor: str, personas: Path, run: Callable[..., dict[str, Artifact]]
) -> None:
    stages = {
        "personas": {"run": "personahub.released", "config": {"path": str(personas), "rows_per_shard": 2}},
        "unique": {
            "run": "personahub.dedup",
            "inputs": {"personas": "personas"},
            "config": {"methods": [{"method": "surface"}, SAME_LENGTH | {"ignored": 1}], "keep": "first"},
            "execution": {"executor": executor, "workers": 2},
        },
    }
    artifact = run(stages)["unique"]
    assert [row["persona"] for row in artifact.rows()] == ["A judge", "A night nurse in Oslo"]
    assert {row["reason"] for row in artifact.rejected()} == {"near_duplicate_SameLength"}
    report = artifact.manifest.summary["methods"][1]
    assert (report["method"], report["rows"], report["kept"]) == ("toy_methods.SameLength", 5, 2)
    assert {point["kept"] for point in report["sweep"]["kept"]} == {2}
    assert report["most_doubtful"][0] == {
        "similarity": 1.0,
        "id": report["most_doubtful"][0]["id"],
        "dropped": "A miner",
        "survivor": "A judge",
    }


def test_a_method_outside_the_package_works_on_files(personas: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.jsonl"
    old.write_text(json.dumps({"persona": "A baker of bread, once"[: len(PERSONAS[3])]}) + "\n")
    target = tmp_path / "out.jsonl"
    words = ["dedup", str(personas), str(target), "--method", SAME_LENGTH["method"], "--against", str(old)]
    assert main(words) == 0
    assert [json.loads(line)["persona"] for line in target.read_text().splitlines()] == ["A judge", "A cook"]


def test_the_config_of_a_method_is_part_of_the_identity(personas: Path) -> None:
    config = dedup.Config.model_validate({"methods": [SAME_LENGTH | {"ignored": 2}]})
    expected = {"method": "toy_methods.SameLength", "threshold": 0.9, "version": "1", "ignored": 2}
    assert identity_of(config)["methods"] == [expected]
    assert config.model_dump(mode="json")["methods"] == [expected]
    assert dedup.Config.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"methods": [{"method": "simhash"}]}, r"no method 'simhash'\. Did you mean 'minhash'"),
        ({"methods": [{"method": "toy_methods.Missing"}]}, "the module toy_methods has no class 'Missing'"),
        ({"methods": [{"method": "toy_methods.np"}]}, "toy_methods.np is not a subclass of"),
        ({"methods": [{"method": "toy_methods.TextMethod"}]}, "toy_methods.TextMethod does not define sweep"),
        ({"methods": [SAME_LENGTH | {"ignord": 1}]}, "ignord: unknown key. Did you mean 'ignored'"),
        ({"methods": [{"method": "toy_absent.Method"}]}, "cannot be imported: No module named 'toy_absent'"),
        ({"methods": [SAME_LENGTH | {"ignored": "x"}]}, r"methods\.0\.ignored"),
        ({"methods": [SAME_LENGTH], "partitions": 2}, "partitions: SameLength works in one process only"),
        ({"methods": [SAME_LENGTH], "collapse_chains": True}, "`collapse_chains` needs all similar pairs"),
    ],
)
def test_mistakes_are_named(
    config: dict[str, Any], message: str, personas: Path, run: Callable[..., dict[str, Artifact]]
) -> None:
    stages = {
        "personas": {"run": "personahub.released", "config": {"path": str(personas)}},
        "unique": {"run": "personahub.dedup", "inputs": {"personas": "personas"}, "config": config},
    }
    with pytest.raises(UserError, match=message):
        run(stages)


def test_texts_of_any_input_are_strings() -> None:
    texts = ["é", "a"]
    for given in (texts, pa.array(texts), iter([pa.array([text.encode() for text in texts], pa.large_binary())])):
        assert list(strings(given)) == texts
