"""Deduplicates more texts than fit in memory, by tasks that exchange files.

    spill = Spill(folder, partitions=64, executor="ray", workers=32)
    blocks = cut(spill, source, old)
    decided = word_join.deduplicate(spill.subfolder("0"), blocks, threshold=0.9)

`blocks` sorts texts into visiting order. `word_join` and `vector_join` find all pairs at or above the threshold, one
partition at a time. `decide` visits the pairs in order and decides what stays. No task holds more than a block or a
partition. Tasks exchange rows through `spill`.
"""
