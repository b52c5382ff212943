"""A test out of several collections: equally many from each, the same ones however they are sharded."""

from __future__ import annotations

import pytest

from personahub.core.errors import UserError
from personahub.core.records import VERIFIED


def rows(name: str, count: int) -> list[dict[str, str]]:
    return [{"id": f"{name}{i}", "problem": f"{name} {i}", "answer": str(i)} for i in range(count)]


def test_as_many_are_taken_from_each(make_artifact, run_module) -> None:
    found = []
    for shards in (1, 3):
        one = make_artifact(f"one{shards}", VERIFIED, rows("a", 30), shards)
        other = make_artifact(f"other{shards}", VERIFIED, rows("b", 12), shards)
        pool = run_module("synth.pool", {"per_input": 10}, f"pool{shards}", one=one, other=other)
        ids = sorted(row["id"] for row in pool.rows())
        assert sum(id_.startswith("a") for id_ in ids) == sum(id_.startswith("b") for id_ in ids) == 10
        found.append(ids)
    assert found[0] == found[1]


def test_what_two_hold_is_taken_once_and_too_few_are_refused(make_artifact, run_module) -> None:
    one = make_artifact("one", VERIFIED, rows("a", 12))
    same = make_artifact("same", VERIFIED, rows("a", 12))
    pool = run_module("synth.pool", {"per_input": 6}, "pool", one=one, other=same)
    assert len({row["id"] for row in pool.rows()}) == 12
    with pytest.raises(UserError, match=r"per_input: 7, but the input other has only 5"):
        run_module("synth.pool", {"per_input": 7}, "too_many", one=one, other=same)
