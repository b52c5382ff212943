"""The exact word-set join against a quadratic one that reads like its definition."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personahub.core.duplicates import surface, word_sets
from personahub.core.duplicates.result import Deduplication
from personahub.core.duplicates.surface import deduplicate, jaccard, nearest, sweep, words_of
from personahub.core.errors import UserError
from personahub.core.executors import threads

THRESHOLDS = [0.05, 0.3, 1 / 3, 0.5, 0.6, 2 / 3, 0.7, 0.8, 0.9, 0.95, 1.0]

# Few distinct words, so that near-duplicates are common; the spellings normalise in different ways.
words = st.sampled_from([f"w{i}" for i in range(12)] + ["Straße", "STRASSE", "ﬁne", "fine", "naïve", "北京", "x" * 20])
separators = st.sampled_from([" ", "  ", ", ", "—", "\t", "'", "\u00a0"])
sentences = st.lists(st.tuples(words, separators), max_size=26).map(lambda parts: "".join(a + b for a, b in parts))
texts = st.lists(
    st.one_of(sentences, st.text(max_size=6), st.sampled_from(["", " ", "!?", " !?", "\ud800"])), max_size=25
)


def by_definition(rows: list[str], threshold: float, priority: list[int]) -> dict[int, tuple[int, float]]:
    """Survivor and similarity of each dropped row."""
    kept: list[int] = []
    covered: dict[int, tuple[int, float]] = {}
    for row in sorted(range(len(rows)), key=lambda i: (priority[i], i)):
        similar = [(jaccard(rows[row], rows[other]), other) for other in kept]
        best = max(similar, key=lambda pair: pair[0], default=(0.0, -1))
        if best[0] >= threshold:
            covered[row] = (best[1], best[0])
        else:
            kept.append(row)
    return covered


def as_mapping(result: Deduplication) -> dict[int, tuple[int, float]]:
    columns = (result.dropped.tolist(), result.survivors.tolist(), result.similarities.tolist())
    return {row: (survivor, similarity) for row, survivor, similarity in zip(*columns, strict=True)}


@settings(max_examples=150, deadline=None)
@given(rows=texts, threshold=st.sampled_from(THRESHOLDS), data=st.data())
def test_equals_the_definition(rows: list[str], threshold: float, data: st.DataObject) -> None:
    priority = data.draw(st.lists(st.integers(-2, 3), min_size=len(rows), max_size=len(rows)))
    result = deduplicate(rows, threshold, np.array(priority))
    assert as_mapping(result) == by_definition(rows, threshold, priority)
    assert sorted([*result.kept.tolist(), *result.dropped.tolist()]) == list(range(len(rows)))


@settings(max_examples=100, deadline=None)
@given(rows=texts, threshold=st.sampled_from(THRESHOLDS), data=st.data())
def test_permuting_rows_and_priority_together_changes_nothing(
    rows: list[str], threshold: float, data: st.DataObject
) -> None:
    priority = data.draw(st.permutations(range(len(rows))))
    order = data.draw(st.permutations(range(len(rows))))
    straight = as_mapping(deduplicate(rows, threshold, np.array(priority)))
    permuted = as_mapping(deduplicate([rows[i] for i in order], threshold, np.array([priority[i] for i in order])))
    assert {order[row]: (order[survivor], s) for row, (survivor, s) in permuted.items()} == straight


@settings(max_examples=100, deadline=None)
@given(queries=texts, corpus=texts, threshold=st.sampled_from(THRESHOLDS))
def test_nearest_equals_the_definition(queries: list[str], corpus: list[str], threshold: float) -> None:
    matches, similarities = nearest(queries, corpus, threshold)
    for query, match, similarity in zip(queries, matches.tolist(), similarities.tolist(), strict=True):
        values = [jaccard(query, text) for text in corpus]
        best = max(values, default=0.0)
        expected = (values.index(best), best) if best >= threshold else (-1, 0.0)
        assert (match, similarity) == expected


@settings(max_examples=100, deadline=None)
@given(rows=texts, old=texts, threshold=st.sampled_from(THRESHOLDS), data=st.data())
def test_an_existing_collection_stays_as_it_is(
    rows: list[str], old: list[str], threshold: float, data: st.DataObject
) -> None:
    priority = data.draw(st.lists(st.integers(-2, 3), min_size=len(rows), max_size=len(rows)))
    result = deduplicate(rows, threshold, np.array(priority), against=old)
    kept = [(len(rows) + i, text) for i, text in enumerate(old)]
    expected = {}
    for row in sorted(range(len(rows)), key=lambda i: (priority[i], i)):
        similar = [(jaccard(rows[row], text), other) for other, text in kept]
        best = max(similar, key=lambda pair: pair[0], default=(0.0, -1))
        if best[0] >= threshold:
            expected[row] = (best[1], best[0])
        else:
            kept.append((row, rows[row]))
    found = as_mapping(result)
    assert {row: s for row, (_, s) in found.items()} == {row: s for row, (_, s) in expected.items()}
    assert sorted([*result.kept.tolist(), *found]) == list(range(len(rows)))
    for row, (survivor, similarity) in found.items():
        text = rows[survivor] if survivor < len(rows) else old[survivor - len(rows)]
        assert jaccard(rows[row], text) == similarity


def perturbed(rng: random.Random, text: str, vocabulary: list[str]) -> str:
    parts = text.split()
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        kind = rng.randrange(3)
        if kind == 0 and len(parts) > 1:
            parts.pop(rng.randrange(len(parts)))
        elif kind == 1:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(vocabulary))
        else:
            parts[rng.randrange(len(parts))] = rng.choice(vocabulary)
    return " ".join(parts)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("length", [12, 40, 150])
def test_longer_texts_with_planted_near_duplicates(threshold: float, length: int) -> None:
    rng = random.Random(length)
    vocabulary = [f"word{i}" for i in range(400)]
    rows: list[str] = []
    while len(rows) < 220:
        if rows and rng.random() < 0.5:
            rows.append(perturbed(rng, rng.choice(rows), vocabulary))
        else:
            rows.append(" ".join(rng.choices(vocabulary, k=rng.randint(length // 2, length))))
    expected = by_definition(rows, threshold, [0] * len(rows))
    assert as_mapping(deduplicate(rows, threshold)) == expected
    assert len(expected) > 30


def test_similarity_is_not_chained_through_dropped_rows() -> None:
    chain = [" ".join(f"w{i}" for i in range(start, start + 10)) for start in range(5)]  # neighbours share 9 of 11
    result = deduplicate(chain, 0.8)
    assert result.kept.tolist() == [0, 2, 4]
    assert result.survivors.tolist() == [0, 2]


def test_survivor_is_the_most_similar_kept_row_and_the_first_among_equals() -> None:
    rows = ["a b c d", "a b c e", "a b c f", "a b c d e f"]
    assert as_mapping(deduplicate(rows, 0.65)) == {3: (0, 4 / 6)}
    assert as_mapping(deduplicate(rows, 0.65, np.array([2, 1, 0, 3]))) == {3: (2, 4 / 6)}
    rows = ["a b c d", "a b c d e f g", "a b c d e f"]
    assert as_mapping(deduplicate(rows, 0.6)) == {2: (1, 6 / 7)}


def test_what_a_word_is() -> None:
    assert words_of("Ｆｕｌｌ-width ﬁsh, STRASSE_1 — don't") == ["full", "width", "fish", "strasse_1", "don", "t"]
    assert words_of("straße") == words_of("STRASSE")
    assert words_of("(!) …") == []


def test_texts_without_words_are_duplicates_only_of_their_like() -> None:
    result = deduplicate(["", "   ", "?!", " ?! ", "？！", "!?"], 0.01)
    assert as_mapping(result) == {1: (0, 1.0), 3: (2, 1.0), 4: (2, 1.0)}


def test_word_boundaries_are_not_blurred_by_the_hash() -> None:
    rows = ["ab c", "a bc", "abc", "a b c", "abcdefgh ijk", "abcdefghijk", "abcdefghi jk", "a" * 8, "a" * 16, "a" * 24]
    assert deduplicate(rows, 1.0).kept.tolist() == list(range(len(rows)))


def test_results_do_not_depend_on_threads_or_on_how_a_column_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    rows = [" ".join(rng.choices(["ä", "b", "C", "d", "e", "f"], k=rng.randint(0, 6))) for _ in range(500)]
    expected = as_mapping(deduplicate(rows, 0.6))
    column = pa.array(["dropped", *rows], pa.string())[1:]
    assert as_mapping(deduplicate(column, 0.6)) == expected
    chunks = pa.chunked_array([pa.array(rows[:7], pa.large_string()), pa.array(rows[7:], pa.large_string())])
    assert as_mapping(deduplicate(chunks, 0.6)) == expected
    assert as_mapping(deduplicate(iter(chunks.chunks), 0.6)) == expected
    monkeypatch.setattr(word_sets, "_ROWS_PER_PIECE", 3)
    monkeypatch.setattr(surface, "_ROWS_AT_ONCE", 2)
    monkeypatch.setattr(threads, "_processors", lambda: 7)
    assert as_mapping(deduplicate(rows, 0.6)) == expected


def test_a_crowd_of_identical_and_near_identical_rows_is_no_special_case() -> None:
    rows = ["the same persona with ten different words in it here"] * 3000
    rows += [row + f" extra{i % 7}" for i, row in enumerate(rows)]
    result = deduplicate(rows, 0.9)
    assert result.kept.tolist() == [0]
    assert result.duplicate_ratio == 1 - 1 / 6000


def test_sweep_equals_single_runs() -> None:
    rng = random.Random(5)
    rows = [" ".join(rng.choices("abcdefghij", k=rng.randint(1, 12))) for _ in range(300)]
    for result in sweep(rows, THRESHOLDS):
        assert as_mapping(result) == as_mapping(deduplicate(rows, result.threshold))


def test_borderline_lists_the_least_similar_drops_first() -> None:
    result = deduplicate(["a b c d", "a b c d e", "a b c d"], 0.5)
    assert result.borderline(1) == [(1, 0, 0.8)]
    assert [drop[0] for drop in result.borderline()] == [1, 2]


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan")])
def test_refuses_a_threshold_out_of_range(threshold: float) -> None:
    with pytest.raises(UserError, match="threshold"):
        deduplicate(["a"], threshold)


def test_refuses_nulls_and_misfitting_priorities() -> None:
    with pytest.raises(UserError, match="text 1 is null"):
        deduplicate(pa.array(["a", None]))
    with pytest.raises(ValueError, match="2 priorities for 1 rows"):
        deduplicate(["a"], priority=np.array([1, 2]))


def test_real_personas(test_data: Path) -> None:
    lines = (test_data / "personas" / "personahub_tool_personas.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line)["persona"] for line in lines][:200]
    rng = random.Random(0)
    rows += [perturbed(rng, row, ["who", "a", "lives", "paints"]) for row in rows]
    assert as_mapping(deduplicate(rows, 0.9)) == by_definition(rows, 0.9, [0] * len(rows))


def test_every_character_counts_as_it_does_alone_in_python() -> None:
    """The compiled folding of single characters agrees with `words_of`, in the middle and at the ends of words."""
    characters = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    rows = [f"{c}a{c} b{c}c" for c in characters]
    spelled = [" ".join(words_of(row)) for row in rows]
    matches, similarities = nearest(rows, spelled, 1.0)
    assert (similarities == 1).all()
    found = [set(spelled[match].split()) for match in matches.tolist()]
    assert found == [set(text.split()) for text in spelled]


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.text(st.sampled_from("abcXYZ089_@[`{/: -'éÉßﬁ北😀\u0301\x00\x7f"), max_size=40), max_size=8),
)
def test_words_are_found_wherever_they_lie_in_the_eight_bytes_read_at_once(rows: list[str]) -> None:
    spelled = [" ".join(words_of(row)) for row in rows]
    wordless = np.array([not text for text in spelled], bool)
    matches, similarities = nearest(rows, spelled, 1.0)
    assert (wordless | (similarities == 1)).all()
    for text, match in zip(spelled, matches.tolist(), strict=True):
        assert not text or set(spelled[match].split()) == set(text.split())
