"""Finds near-duplicates by the exact Jaccard similarity of word sets (1-grams).

    result = deduplicate(["A nurse in Oslo", "a nurse, in Oslo!", "A miner"], threshold=0.9)
    result.kept                                 # array([0, 2])

The paper (arXiv 2406.20094, section 2) approximates this with MinHash. Personas have sets of 10 to 18 words. At that
size, 0.9 means "the same words, or one added or removed", which MinHash with 128 hashes misses about half of the
time. This join is exact (recall and precision are 1) and faster:

1. The hash of a set is the 128-bit sum of its word hashes. Equal sets are found in one hash table.
2. Sets that differ by one word are found by subtracting each word in turn and looking up the rest in the same
   table, behind a Bloom filter. There is at most one edge per word, so no bucket can overflow.
3. Sets that differ by two or more words and may be similar share a signature. Each row looks up its signatures
   among the rows kept so far, and every match is verified. At a high threshold, sets that differ by `d` words agree
   on one of `d + 1` parts of the vocabulary (pigeonhole: Arasu, Ganti and Kaushik 2006). At a low threshold, let
   `o` be the fewest words of a set A that a similar set shares: then the `|A| - o + l` rarest words of both sets
   have `l` words in common (prefix filter: Chaudhuri, Ganti and Kaushik 2006; for `l` words: Wang, Li and Feng
   2012). `plan` chooses by size. Signatures that occur once are dropped before anything is stored.

Words are compared by 64-bit hashes. Among ten million distinct words, the probability that any two collide is 3e-6.
Peak memory is about 350 bytes for a persona of 14 words, in addition to the texts. Time grows with the number of
rows at 0.9, and with its square at 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personahub.core.duplicates.greedy import Groups, Lists, power_of_two
from personahub.core.duplicates.plan import Plan, make_plan
from personahub.core.duplicates.result import Deduplication, Priority
from personahub.core.duplicates.word_sets import Texts, WordSets, read_sets
from personahub.core.errors import UserError
from personahub.core.executors.threads import in_threads
from personahub.core.kernels import compiled
from personahub.core.texts.words import squeeze, words_of

_ROWS_AT_ONCE = 65_536


def jaccard(a: str, b: str) -> float:
    """Shared words divided by all words of two texts. Texts without words are equal (1) or not (0)."""
    set_a, set_b = set(words_of(a)), set(words_of(b))
    if not set_a or not set_b:
        return float(not set_a and not set_b and squeeze(a) == squeeze(b))
    common = len(set_a & set_b)
    return common / (len(set_a) + len(set_b) - common)


def deduplicate(
    texts: Texts, threshold: float = 0.9, priority: Priority | None = None, against: Texts | None = None
) -> Deduplication:
    """Drops each text that has `jaccard >= threshold` with a text kept before it.

    Args:
        texts: any strings. A pyarrow string column is read in place. An iterator of pyarrow arrays is consumed
            piece by piece, and only the word hashes stay in memory.
        threshold: in (0, 1].
        priority: one number per text. The lowest is visited first. By default texts are visited as given.
        against: an existing collection. Its texts all stay, are visited before all others and are not compared
            with each other. The survivor `len(texts) + i` is its row `i`.

    Raises:
        UserError: the threshold is out of range, or a text is null.
    """
    return sweep(texts, [threshold], priority, against)[0]


def sweep(
    texts: Texts, thresholds: Sequence[float], priority: Priority | None = None, against: Texts | None = None
) -> list[Deduplication]:
    """Same as `deduplicate` at several thresholds, reading the texts once."""
    for threshold in thresholds:
        check_threshold(threshold)
    rows, sets = read_sets(texts, against)
    groups = Groups.of(sets, rows, priority)
    return [
        Deduplication.from_survivors(threshold, *groups.keep_first(threshold, *_candidates(groups, threshold)))
        for threshold in thresholds
    ]


def nearest(queries: Texts, corpus: Texts, threshold: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Finds the most similar `corpus` text with `jaccard >= threshold` for each query.

    Returns:
        Its index (int64, -1 for none, the first among equals) and the similarity (float64, 0 for none).
    """
    check_threshold(threshold)
    rows, sets = read_sets(queries, corpus)
    groups = Groups.of(sets, rows, None)
    found, similarity = groups.keep_first(threshold, *_candidates(groups, threshold), keep_rest=False)
    return np.where(found < 0, -1, found.astype(np.int64) - rows), similarity


def check_threshold(threshold: float) -> None:
    """Raises UserError if a threshold is not in (0, 1]."""
    if not 0 < threshold <= 1:
        raise UserError(f"threshold {threshold} is out of range: a Jaccard similarity is above 0 and at most 1")


def _candidates(groups: Groups, threshold: float) -> tuple[Lists, Lists]:
    plan = make_plan(threshold, int(groups.sets.sizes.max(initial=1)))
    return _one_word_apart(groups, plan), _signatures(groups, plan)


def _one_word_apart(groups: Groups, plan: Plan) -> Lists:
    """Finds the leaders (int32) one word away from each leader."""
    sets, (least, most) = groups.sets, plan.one_word_apart
    rows = len(sets.sizes)
    if least > most:
        return Lists(np.zeros(rows + 1, np.int64), np.empty(0, np.int32))
    bloom = np.zeros(power_of_two(rows // 4), np.uint64)
    compiled.fill_bloom(sets.sizes, sets.sum1, groups.leader, least - 1, most - 1, bloom)

    def find(first: int) -> tuple[np.ndarray, np.ndarray]:
        last = min(first + _ROWS_AT_ONCE, rows)
        sizes = sets.sizes[first:last]
        room = int(sizes[(sizes >= least) & (sizes <= most)].sum())
        larger, smaller = np.empty(room, np.int32), np.empty(room, np.int32)
        found = compiled.one_word_apart(
            first, last, sets.words, sets.start, sets.sizes, sets.sum1, sets.sum2, groups.leader, groups.slots,
            bloom, least, most, larger, smaller,
        )  # fmt: skip
        return larger[:found].copy(), smaller[:found].copy()

    found = list(in_threads(find, range(0, rows, _ROWS_AT_ONCE)))
    none = np.empty(0, np.int32)
    ends = np.concatenate([none, *(larger for larger, _ in found), *(smaller for _, smaller in found)])
    others = np.concatenate([none, *(smaller for _, smaller in found), *(larger for larger, _ in found)])
    start = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=rows))])
    return Lists(start, others[np.argsort(ends, kind="stable")])


def _signatures(groups: Groups, plan: Plan) -> Lists:
    """Computes the signatures (uint64) that each leader may share with another."""
    sets = groups.sets
    counts = np.zeros(power_of_two(min(len(sets.words) // 16, 1 << 18)), np.int32)
    if (plan.schemes > 0).any():
        compiled.count_words(sets.words, sets.start, sets.sizes, groups.leader, plan.least, counts)
    room = _room(sets, groups.leader, plan)
    once, twice = (np.zeros(power_of_two(room // 4), np.uint64) for _ in range(2))
    return _sign(sets, groups.leader, plan, counts, once, twice)


def sign(sets: WordSets, leader: np.ndarray, plan: Plan, counts: np.ndarray) -> Lists:
    """Computes all signatures (uint64) of each leader.

    Args:
        sets: the word sets.
        leader: int32, one per row. A row is a leader if it is its own.
        plan: which signatures to compute.
        counts: int32, how often each word occurs, by hash. The length is a power of two.
    """
    once, twice = np.zeros(16, np.uint64), np.full(16, -1, np.int64).view(np.uint64)
    return _sign(sets, leader, plan, counts, once, twice)


def _room(sets: WordSets, leader: np.ndarray, plan: Plan) -> int:
    leaders = np.bincount(sets.sizes[leader == np.arange(len(leader))], minlength=len(plan.signatures))
    return int(leaders @ plan.signatures)


def _sign(
    sets: WordSets, leader: np.ndarray, plan: Plan, counts: np.ndarray, once: np.ndarray, twice: np.ndarray
) -> Lists:
    start, room = np.zeros(len(sets.sizes) + 1, np.int64), _room(sets, leader, plan)
    signatures = np.empty(room, np.uint64)
    if room:
        compiled.sign(
            sets.words, sets.start, sets.sizes, leader, counts, plan.scheme_start, plan.schemes, plan.spare,
            once, twice, *_scratch(plan), start, signatures,
        )  # fmt: skip
    return Lists(start, signatures[: start[-1]])


def _scratch(plan: Plan) -> tuple[np.ndarray, ...]:
    """Allocates scratch memory for `kernels.joining.sign`."""
    most, rarest = int(plan.signatures.max()) + 64, len(plan.spare) + 64
    return (
        np.empty(2 * most, np.uint64),
        np.empty(rarest, np.uint64),
        np.empty(rarest, np.int32),
        np.empty(64, np.int64),
        np.empty(64, np.uint64),
    )
