"""Ids, seeds and content hashes are stable across processes and refuse what has no stable form."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from personahub.core.errors import UserError
from personahub.core.identity import canonical_json, content_id, derive_seed, hash_path


def test_ids_and_seeds_do_not_depend_on_the_process() -> None:
    code = (
        "from personahub.core.identity import *; print(content_id('persona', 'a nurse', None), derive_seed(7, 'x', 1))"
    )
    environment = {"PYTHONHASHSEED": "123"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert other.stdout.split() == [content_id("persona", "a nurse", None), str(derive_seed(7, "x", 1))]


def test_ids_tell_apart_what_a_plain_join_would_merge() -> None:
    ids = {
        content_id("persona", "ab", "c"),
        content_id("persona", "a", "bc"),
        content_id("persona", "abc"),
        content_id("persona", ["ab", "c"]),
        content_id("problem", "ab", "c"),
        content_id("persona", 1),
        content_id("persona", "1"),
        content_id("persona", None),
    }
    assert len(ids) == 8


def test_seeds_fit_31_bits_and_differ() -> None:
    seeds = [derive_seed(0, i) for i in range(5000)]
    assert len(set(seeds)) > 4990
    assert min(seeds) >= 0
    assert max(seeds) < 2**31


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1: 2}, {1, 2}, object(), b"x", np.float32(1), lambda: 0]
)
def test_values_without_a_stable_form_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="stable"):
        canonical_json({"key": [value]})


def test_a_path_is_its_content(tmp_path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "a.txt").write_text("hello")
    assert hash_path(one) == hash_path(two)
    (two / "sub" / "a.txt").write_text("hello!")
    assert hash_path(one) != hash_path(two)
    (two / "sub" / "a.txt").rename(two / "sub" / "b.txt")
    assert hash_path(one) != hash_path(two)
    with pytest.raises(UserError, match="no such file or folder"):
        hash_path(tmp_path / "three")
