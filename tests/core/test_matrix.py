"""Arms and seeds: the stages of one YAML entry, and what they share."""

from __future__ import annotations

from typing import Any

import pytest

from personahub.core.errors import UserError
from personahub.core.experiments.matrix import expand_matrix

MATRIX = {
    "arm": {"with": {"persona": True, "list": None}, "without": {"persona": False, "list": {"n": 2}}},
    "seed": [0, 7],
}


def expand(stages: dict[str, Any], matrix: Any = MATRIX) -> dict[str, Any]:
    return expand_matrix({"experiment": "e", "matrix": matrix, "stages": stages})["stages"]


def test_an_entry_is_repeated_with_its_values_of_their_own_type() -> None:
    config = {"persona": "${arm.persona}", "list": "${arm.list}", "seed": "${seed}", "note": ["${arm}, seed ${seed}"]}
    found = expand({"a": {"foreach": ["arm", "seed"], "run": "m", "config": config}})
    assert list(found) == ["a-with-0", "a-with-7", "a-without-0", "a-without-7"]
    assert found["a-without-7"] == {
        "run": "m",
        "config": {"persona": False, "list": {"n": 2}, "seed": 7, "note": ["without, seed 7"]},
        "axes": {"arm": "without", "seed": "7"},  # what tracking groups the runs by
    }


def test_inputs_follow_the_axes() -> None:
    found = expand(
        {
            "p": {"run": "m"},
            "exam": {"foreach": ["arm"], "run": "m", "inputs": {"p": "p"}},
            "a": {"foreach": ["arm", "seed"], "run": "m", "inputs": {"p": "p", "exam": "exam"}},
            "b": {"foreach": ["seed"], "run": "m", "inputs": {"made": "a"}},
            "all": {"run": "m", "inputs": {"a": "a", "p": "p"}},
            "one": {"run": "m", "inputs": {"a": "a-with-7"}},
            "report": {"run": "m", "inputs": "all"},
        }
    )
    assert found["a-with-7"]["inputs"] == {"p": "p", "exam": "exam-with"}
    assert found["b-7"]["inputs"] == {"made-with": "a-with-7", "made-without": "a-without-7"}
    assert list(found["all"]["inputs"]) == ["a-with-0", "a-with-7", "a-without-0", "a-without-7", "p"]
    assert found["one"]["inputs"] == {"a": "a-with-7"}
    assert found["report"]["inputs"] == "all"


def test_without_a_matrix_nothing_changes() -> None:
    values = {"experiment": "e", "stages": {"a": {"run": "m", "config": {"cost": "$5 {x}"}}}}
    assert expand_matrix(values) == values


@pytest.mark.parametrize(
    ("stages", "matrix", "message"),
    [
        ({"a": {"foreach": ["arms"], "run": "m"}}, MATRIX, r"stages\.a\.foreach: .*'arms'.*mean 'arm'"),
        ({"a": {"foreach": "arm", "run": "m"}}, MATRIX, r"stages\.a\.foreach: must be a list"),
        ({"a": {"run": "m", "config": {"x": "${arm}"}}}, MATRIX, r"stages\.a\.config\.x: .*not repeated over 'arm'"),
        (
            {"a": {"foreach": ["arm"], "run": "m", "config": {"x": "${arm.personna}"}}},
            MATRIX,
            r"matrix\.arm\.with: no 'personna'.*mean 'persona'",
        ),
        ({"a": {"foreach": ["seed"], "run": "m"}, "a-0": {"run": "m"}}, MATRIX, "'a-0', which is the name of another"),
        ({}, {"arm": ["a-b"]}, r"matrix\.arm: 'a-b'"),
        ({}, {"arm": 3}, r"matrix\.arm: must be a list of values"),
        ({}, ["arm"], "matrix: must map"),
    ],
)
def test_mistakes_are_named(stages: dict[str, Any], matrix: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        expand(stages, matrix)
