"""Near-duplicates among more texts than fit one memory: the same result, by tasks that meet on disk.

    spill = Spill(folder, partitions=64, executor="ray", workers=32)
    blocks = cut(spill, source, old)
    decided = word_join.deduplicate(spill.at("0"), blocks, threshold=0.9)

`blocks` sorts texts into the order in which they are visited. `word_join` and `vector_join` find all
pairs at or above the threshold, each partition by itself. `decide` visits the pairs in order and
says what stays. No task holds more than a block or a partition; `spill` is how they exchange rows.
"""
