"""MinHash with verification: what it drops is right by definition; what it misses is rare."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personahub.core.duplicates import minhash, word_sets
from personahub.core.duplicates.minhash import bands, deduplicate
from personahub.core.errors import UserError
from personahub.core.texts.words import words_of

words = st.sampled_from([f"w{i}" for i in range(8)] + ["Straße", "STRASSE", "naïve", "北京"])
texts = st.lists(st.lists(words, max_size=12).map(" ".join), max_size=20)


def ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    found = words_of(text)
    n = min(n, len(found))
    return {tuple(found[i : i + n]) for i in range(len(found) - n + 1)} if found else {("", " ".join(text.split()))}


def similarity(a: str, b: str, n: int) -> float:
    left, right = ngrams(a, n), ngrams(b, n)
    return len(left & right) / len(left | right)


@settings(max_examples=150, deadline=None)
@given(
    rows=texts, threshold=st.sampled_from([0.3, 0.5, 0.8, 0.9, 1.0]), ngram=st.sampled_from([1, 2, 5]), data=st.data()
)
def test_every_drop_has_a_survivor_kept_before_it(
    rows: list[str], threshold: float, ngram: int, data: st.DataObject
) -> None:
    priority = data.draw(st.permutations(range(len(rows))))
    result = deduplicate(rows, threshold, np.array(priority), ngram=ngram)
    kept = set(result.kept.tolist())
    assert sorted([*kept, *result.dropped.tolist()]) == list(range(len(rows)))
    for row, survivor, value in zip(result.dropped, result.survivors, result.similarities, strict=True):
        assert survivor in kept
        assert priority[survivor] < priority[row]
        assert value == similarity(rows[row], rows[survivor], ngram) >= threshold
    for row in kept:  # the same n-grams are never missed
        assert not any(
            similarity(rows[row], rows[other], ngram) == 1 and priority[other] < priority[row] for other in kept
        )


@pytest.mark.parametrize(("threshold", "ngram"), [(0.9, 1), (0.8, 5), (0.5, 3)])
def test_misses_hardly_any_of_long_texts(threshold: float, ngram: int) -> None:
    rng = random.Random(ngram)
    vocabulary = [f"word{i}" for i in range(3000)]
    rows: list[str] = []
    for _ in range(150):
        original = rng.choices(vocabulary, k=200)
        copy = list(original)
        for _ in range(rng.randint(0, 25)):
            copy[rng.randrange(len(copy))] = rng.choice(vocabulary)
        rows += [" ".join(original), " ".join(copy)]
    expected = {i + 1 for i in range(0, 300, 2) if similarity(rows[i], rows[i + 1], ngram) >= threshold}
    assert len(expected) > 15
    found = set(deduplicate(rows, threshold, ngram=ngram).dropped.tolist())
    assert found <= expected
    assert len(expected - found) <= 1


def test_does_not_depend_on_threads_pieces_or_the_order_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    rows = [" ".join(rng.choices("abcdef", k=rng.randint(0, 7))) for _ in range(400)]
    expected = {rows[i] for i in deduplicate(rows, 0.7).dropped}
    order = rng.sample(range(400), 400)
    monkeypatch.setattr(word_sets, "_ROWS_PER_PIECE", 7)
    monkeypatch.setattr(minhash, "_ROWS_AT_ONCE", 11)
    column = pa.chunked_array([[rows[i] for i in order[:100]], [rows[i] for i in order[100:]]])
    shuffled = deduplicate(column, 0.7, np.array(order))
    assert {rows[order[i]] for i in shuffled.dropped} == expected


def test_against_an_existing_collection() -> None:
    result = deduplicate(["a b c", "x y z", "x y z w"], 0.7, against=["c b a", "c b a", "q"])
    assert result.kept.tolist() == [1]
    assert result.survivors.tolist() == [3, 1]


def test_bands_find_pairs_at_the_threshold() -> None:
    assert bands(0.9) == (16, 8)
    assert bands(1.0) == (1, 128)
    for threshold in (0.2, 0.5, 0.8, 0.95):
        count, length = bands(threshold)
        assert count * length <= 128
        assert 1 - (1 - threshold**length) ** count >= 0.999 or length == 1


@pytest.mark.parametrize("options", [{"ngram": 0}, {"permutations": 0}, {"threshold": 0}])
def test_refuses_what_makes_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(UserError):
        deduplicate(["a"], **options)
