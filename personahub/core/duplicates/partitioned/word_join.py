"""The exact word-set join of `surface`, by partitions.

    decided = deduplicate(spill, blocks, threshold=0.9)

The phases run by block (b) or by partition (p):

1. `sets` (b) hashes texts and deals each set's 128-bit sum to the partition of that sum.
2. `groups` (p) finds equal sets. The first of them is their leader. Leaders are added to a Bloom filter.
3. `keys` (b) subtracts each word of each leader from its sum. If the filters contain the rest, it is dealt to the
   partition of that sum, where the only matching set would be. Signatures are dealt to the partition of the
   signature, with the set's size and sketch. `surface` explains why any two similar sets match by one or the other.
4. `match` (p) looks up the rests, which gives pairs. Sets that share a signature are candidates, unless size and
   sketch rule them out.
5. `fetch` (b) reads the words of a candidate's first set, and `verify` (b) compares them with those of the second.
6. `decide` visits all pairs.

A task holds 28 bytes per sum and per signature of its partition. `surface` compares only with kept rows, but this
join stores every pair at or above the threshold: at 0.9 a few per near-duplicate, at 0.5 too many.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from personahub.core.duplicates import surface
from personahub.core.duplicates.greedy import power_of_two
from personahub.core.duplicates.partitioned.blocks import Blocks
from personahub.core.duplicates.partitioned.decide import Decided, decide
from personahub.core.duplicates.partitioned.spill import Spill, column, partition_of
from personahub.core.duplicates.plan import Plan, make_plan
from personahub.core.duplicates.word_sets import WordSets, word_sets
from personahub.core.kernels import compiled

_COUNTED = 1 << 18  # slots for word counts


def deduplicate(
    spill: Spill, blocks: Blocks, threshold: float, alive: Path | None = None, collapse_chains: bool = False
) -> Decided:
    """Same as `surface.deduplicate` for the ranks in `alive`.

    That is a file of bools, or None for all. With `collapse_chains`, only the first of all rows that are connected by
    similar pairs stays.

    Raises:
        UserError: the threshold is out of range.
    """
    surface.check_threshold(threshold)
    of_blocks, of_partitions = range(len(blocks)), range(spill.partitions)
    hashed = spill.run("sets", _sets, of_blocks, blocks, alive)
    plan = make_plan(threshold, max((largest for largest, _ in hashed), default=1))
    by_partition = np.sum([counts for _, counts in hashed], axis=0) if hashed else np.zeros(1, np.int64)
    filter_length = power_of_two(int(by_partition.max()) // 4)
    spill.run("groups", _groups, of_partitions, blocks, plan, filter_length)
    counted = of_blocks if (plan.schemes > 0).any() else []
    spill.run("counts", _counts, counted, plan)
    spill.run("join", _join, [0], filter_length, counted)
    spill.drop("filters", "counts")
    spill.run("keys", _keys, of_blocks, plan)
    spill.drop("joined")
    candidates = spill.run("match", _match, of_partitions, blocks, threshold)
    spill.drop("sums", "rests", "signatures")
    if sum(candidates):
        spill.run("fetch", _fetch, of_blocks, blocks)
        spill.run("verify", _verify, of_blocks, blocks, threshold)
    spill.drop("candidates", "fetched", "sets")
    return decide(spill, blocks, alive, ("pairs", "verified"), "repeats", collapse_chains)


def _sets(spill: Spill, block: int, blocks: Blocks, alive: Path | None) -> tuple[int, list[int]]:
    """Hashes the texts of a block. Returns the size of the largest set, and the number of rows by partition."""
    ranks = blocks.alive(block, alive)
    sets = word_sets(iter(blocks.texts(block, ranks).chunks))
    spill.save("sets", f"{block:05d}", words=sets.words, start=sets.start, sizes=sets.sizes, sum1=sets.sum1,
               sum2=sets.sum2, ranks=ranks)  # fmt: skip
    destination = partition_of(sets.sum1, spill.partitions)
    columns = {"sum1": sets.sum1, "sum2": sets.sum2, "rank": ranks, "size": sets.sizes}
    spill.write("sums", block, columns, destination, spill.partitions)
    return int(sets.sizes.max(initial=1)), np.bincount(destination, minlength=spill.partitions).tolist()


def _load(spill: Spill, block: int) -> tuple[WordSets, np.ndarray]:
    """Loads the sets of a block and their ranks."""
    with np.load(spill.folder / "sets" / f"{block:05d}.npz") as saved:
        arrays = [saved[name] for name in ("words", "start", "sizes", "sum1", "sum2")]
        return WordSets(*arrays), saved["ranks"]


def _grouped(spill: Spill, partition: int) -> tuple[pa.Table, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reads the sums of a partition by rank. Rows, sum1, sum2, leaders (positions) and their hash table."""
    rows = spill.read("sums", partition)
    rows = rows.take(pa.array(np.argsort(column(rows, "rank"))))
    sum1, sum2 = column(rows, "sum1"), column(rows, "sum2")
    leader, slots = np.empty(len(rows), np.int32), np.full(power_of_two(2 * len(rows)), -1, np.int32)
    compiled.group_identical(np.arange(len(rows)), sum1, sum2, slots, leader)
    return rows, sum1, sum2, leader, slots


def _groups(spill: Spill, partition: int, blocks: Blocks, plan: Plan, filter_length: int) -> None:
    """Finds the rows of a partition that repeat a set, and fills its Bloom filter."""
    rows, sum1, _, leader, _ = _grouped(spill, partition)
    ranks = column(rows, "rank")
    repeated = np.flatnonzero(leader != np.arange(len(leader)))
    columns = {"rank": ranks[repeated], "leader": ranks[leader[repeated]]}
    spill.write("repeats", partition, columns, blocks.block_of(columns["rank"]), len(blocks))
    bloom = np.zeros(filter_length, np.uint64)
    least, most = plan.one_word_apart
    compiled.fill_bloom(column(rows, "size"), sum1, leader, least - 1, most - 1, bloom)
    spill.save("filters", f"{partition:05d}", bloom=bloom)


def _leaders(spill: Spill, block: int, ranks: np.ndarray) -> np.ndarray:
    """For each row of a block (int32), itself if it is a leader, else -1."""
    leader = np.arange(len(ranks), dtype=np.int32)
    leader[np.searchsorted(ranks, column(spill.read("repeats", block), "rank"))] = -1
    return leader


def _counts(spill: Spill, block: int, plan: Plan) -> None:
    """Counts the words of a block."""
    sets, ranks = _load(spill, block)
    counts = np.zeros(_COUNTED, np.int32)
    compiled.count_words(sets.words, sets.start, sets.sizes, _leaders(spill, block, ranks), plan.least, counts)
    spill.save("counts", f"{block:05d}", counts=counts)


def _join(spill: Spill, _: int, filter_length: int, counted: Sequence[int]) -> None:
    """Joins all filters into one file, which tasks map. Adds up the counts (int32, zeros if not counted)."""
    with spill.writes("joined", "filters.npy") as file:
        joined = np.lib.format.open_memmap(file, "w+", np.uint64, (spill.partitions * filter_length,))
        for partition in range(spill.partitions):
            part = np.load(spill.folder / "filters" / f"{partition:05d}.npy")
            joined[partition * filter_length : (partition + 1) * filter_length] = part
        joined.flush()
    counts = np.zeros(_COUNTED, np.int64)
    for block in counted:
        counts += np.load(spill.folder / "counts" / f"{block:05d}.npy")
    spill.save("joined", "counts", counts=np.minimum(counts, np.iinfo(np.int32).max).astype(np.int32))


def _keys(spill: Spill, block: int, plan: Plan) -> None:
    """Deals the rests and signatures of the leaders of a block to partitions."""
    sets, ranks = _load(spill, block)
    leader = _leaders(spill, block, ranks)
    least, most = plan.one_word_apart
    rest1, rest2, rows = (np.empty(len(sets.words), kind) for kind in (np.uint64, np.uint64, np.int64))
    filters, counts = (np.load(spill.folder / "joined" / name, mmap_mode="r") for name in ("filters.npy", "counts.npy"))
    found = compiled.rests(
        sets.words, sets.start, sets.sizes, sets.sum1, sets.sum2, leader, filters, spill.partitions,
        least, most, rest1, rest2, rows,
    )  # fmt: skip
    rest1, rest2, rows = rest1[:found], rest2[:found], rows[:found]
    columns = {"rest1": rest1, "rest2": rest2, "rank": ranks[rows], "size": sets.sizes[rows]}
    spill.write("rests", block, columns, partition_of(rest1, spill.partitions), spill.partitions)

    signed = surface.sign(sets, leader, plan, counts)
    sketches = np.zeros(len(ranks), np.uint64)
    compiled.sort_and_sketch(sets.words, sets.start, sets.sizes, signed.start, sketches)
    rows = np.repeat(np.arange(len(ranks)), np.diff(signed.start))
    columns = {"signature": signed.values, "rank": ranks[rows], "size": sets.sizes[rows], "sketch": sketches[rows]}
    spill.write("signatures", block, columns, partition_of(signed.values, spill.partitions), spill.partitions)


def _match(spill: Spill, partition: int, blocks: Blocks, threshold: float) -> int:
    """Finds pairs that are one word apart, and candidates by signatures. Returns the number of candidates."""
    rows, sum1, sum2, _, slots = _grouped(spill, partition)
    asked = spill.read("rests", partition)
    found = np.empty(len(asked), np.int64)
    compiled.look_up(column(asked, "rest1"), column(asked, "rest2"), sum1, sum2, slots, found)
    hits = np.flatnonzero(found >= 0)
    larger, smaller = column(asked, "rank")[hits], column(rows, "rank")[found[hits]]
    size = column(asked, "size")[hits]
    write_pairs(spill, "pairs", partition, blocks, larger, smaller, (size - 1) / size)

    shared = spill.read("signatures", partition)
    order = np.argsort(column(shared, "signature"), kind="stable")
    signature, size, sketch, rank = (column(shared, name)[order] for name in ("signature", "size", "sketch", "rank"))
    room = len(order)
    while True:
        left, right = np.empty(room, np.int64), np.empty(room, np.int64)
        number = compiled.sharing(signature, size, sketch, rank, blocks.references, threshold, left, right)
        if number <= room:
            break
        room = number
    pairs = np.stack([rank[left[:number]], rank[right[:number]]], axis=1)
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    columns = {"a": pairs[:, 0].copy(), "b": pairs[:, 1].copy()}
    spill.write("candidates", partition, columns, blocks.block_of(columns["a"]), len(blocks))
    return len(pairs)


def _words(sets: WordSets, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the words of some sets, concatenated, and their offsets. Offsets are int64 and include the end."""
    sizes = sets.sizes[rows].astype(np.int64)
    ends = np.cumsum(sizes)
    where = np.repeat(sets.start[rows] - (ends - sizes), sizes) + np.arange(int(sizes.sum()))
    return sets.words[where], np.concatenate([[0], ends]).astype(np.int64)


def _fetch(spill: Spill, block: int, blocks: Blocks) -> None:
    """Sends the words of each candidate's first set to the block of the second."""
    rows = spill.read("candidates", block)
    pairs = np.unique(np.stack([column(rows, "a"), column(rows, "b")], axis=1), axis=0)
    sets, ranks = _load(spill, block)
    words, start = _words(sets, np.searchsorted(ranks, pairs[:, 0]))
    columns = {"a": pairs[:, 0].copy(), "b": pairs[:, 1].copy(), "words": pa.LargeListArray.from_arrays(start, words)}
    spill.write("fetched", block, columns, blocks.block_of(columns["b"]), len(blocks))


def _verify(spill: Spill, block: int, blocks: Blocks, threshold: float) -> None:
    """Compares candidates whose second set is in this block."""
    sets, ranks = _load(spill, block)
    a, b, similarity = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for batch in spill.batches("fetched", block):
        lists = batch["words"]
        offsets = column(pa.table({"offset": lists.offsets}), "offset")  # pyright: ignore[reportAttributeAccessIssue]
        theirs = np.asarray(lists.values)[offsets[0] : offsets[-1]]  # pyright: ignore[reportAttributeAccessIssue]
        ours, start = _words(sets, np.searchsorted(ranks, column(batch, "b")))
        values = np.empty(len(batch))
        compiled.verify(
            np.concatenate([theirs, ours]), offsets[:-1] - offsets[0], start[:-1] + len(theirs),
            np.diff(offsets), np.diff(start), threshold, values,
        )  # fmt: skip
        similar = np.flatnonzero(values > 0)
        a.append(column(batch, "a")[similar])
        b.append(column(batch, "b")[similar])
        similarity.append(values[similar])
    write_pairs(spill, "verified", block, blocks, np.concatenate(a), np.concatenate(b), np.concatenate(similarity))


def write_pairs(
    spill: Spill, output: str, task: int, blocks: Blocks, a: np.ndarray, b: np.ndarray, similarity: np.ndarray
) -> None:
    """Deals pairs of ranks to the block of the later one."""
    columns = {"earlier": np.minimum(a, b), "later": np.maximum(a, b), "similarity": similarity}
    new = columns["later"] >= blocks.references
    columns = {name: values[new] for name, values in columns.items()}
    spill.write(output, task, columns, blocks.block_of(columns["later"]), len(blocks))
