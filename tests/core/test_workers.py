"""The window over a sequence of records: what it holds behind an answer that takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial

from personahub.core.generation.window import Job, OrderedWindow, WorkerPool


def test_records_behind_a_slow_answer_are_bounded_and_go_on_after_it() -> None:
    """Four workers, one stuck: the others go on for thousands of records, then wait; all come out in order."""
    taken = 0

    def records() -> Iterator[int]:
        nonlocal taken
        for number in range(20_000):
            taken += 1
            yield number

    async def head(others: list[int]) -> list[str]:
        before = -1
        while before < len(others):  # until nothing is answered any more
            before = len(others)
            for _ in range(200):
                await asyncio.sleep(0)
        return [f"{len(others)} answered, {taken} taken"]

    async def other(others: list[int], number: int) -> list[str]:
        await asyncio.sleep(0)
        others.append(number)
        return [str(number)]

    async def run() -> list[tuple[int, list[str]]]:
        moved = asyncio.Event()
        pool = WorkerPool(4, moved)
        others: list[int] = []
        window: OrderedWindow[int, str] = OrderedWindow([pool], moved)

        def jobs(number: int) -> list[Job[str]]:
            return [Job(pool, [0], partial(other, others, number) if number else partial(head, others))]

        try:
            return [pair async for pair in window.run(records(), jobs)]
        finally:
            await pool.close()

    (_, first), *rest = asyncio.run(asyncio.wait_for(run(), 60))
    assert first == ["4095 answered, 4096 taken"]
    assert rest == [(number, [str(number)]) for number in range(1, 20_000)]
