"""The pool: isolation, deadlines, order, threads, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from personahub.core.answers import CheckerPool, Policy, check, cluster

SLOW = "\\boxed{" * 140_000  # some 200 ms to find that none of these boxes closes


@pytest.fixture(scope="module")
def pool():
    with CheckerPool(2, deadline_s=20) as pool:
        yield pool


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@contextmanager
def pool_of_one(**limits: Any) -> Iterator[tuple[CheckerPool, psutil.Process]]:
    """A pool and its only worker. Other pools of this file have workers too, and a pid says nothing of age."""
    before = children()
    with CheckerPool(1, **limits) as pool:
        pool.check("1", "1")
        (worker,) = (process for process in children() if process not in before)
        yield pool, worker


def test_verdicts_are_those_of_the_process_itself(pool):
    for gold, pred in [("1/2", "0.5"), ("1/2", "0.6"), ("1", ""), ("", "1"), ("x", "\ud800 lone surrogate")]:
        ours, theirs = check(gold, pred), pool.check(gold, pred)
        assert (ours.label, ours.extracted, ours.extraction, ours.rule) == (
            theirs.label,
            theirs.extracted,
            theirs.extraction,
            theirs.rule,
        )


def test_many_keeps_order_and_reads_ahead_by_a_bound(pool):
    read = 0

    def endless():
        nonlocal read
        for read in itertools.count(1):
            yield str(read), str(read if read % 3 else -read)

    verdicts = pool.check_many(endless())
    labels = [verdict.label for verdict in itertools.islice(verdicts, 200)]
    verdicts.close()
    assert labels == ["wrong" if number % 3 == 0 else "correct" for number in range(1, 201)]
    assert read < 400


def test_a_fault_in_the_pairs_reaches_the_caller(pool):
    def broken():
        yield "1", "1"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(pool.check_many(broken()))
    assert pool.check("1", "1").correct


def test_the_parent_kills_at_the_deadline_and_goes_on():
    with CheckerPool(1, deadline_s=0.05) as pool:
        first, slow, last = pool.check_many([("7", "7"), ("7", SLOW), ("7", "7")])
    assert (first.label, slow.label, last.label) == ("correct", "timeout", "correct")
    assert slow.ms < 2_000
    assert "0.05 s" in slow.rule


def test_a_worker_that_dies_is_an_error_and_is_replaced():
    with pool_of_one(deadline_s=20) as (pool, worker), ThreadPoolExecutor(1) as caller:
        worker.suspend()  # so that it dies with the question before it, not before or after
        asked = caller.submit(pool.check, "7", "7")
        time.sleep(0.3)
        worker.kill()
        verdict = asked.result()
        assert (verdict.label, verdict.rule) == ("error", "the checker process ended with code -9")
        assert pool.check("7", "7").correct


def test_a_worker_killed_while_idle_costs_no_verdict():
    with pool_of_one(deadline_s=20) as (pool, worker):
        worker.kill()
        time.sleep(0.1)
        assert pool.check("2", "2").label == "correct"


def test_workers_limit_themselves():
    with pool_of_one(deadline_s=3, memory_mb=1500) as (_, worker):
        assert worker.rlimit(resource.RLIMIT_AS) == (1500 * 2**20, 1500 * 2**20)
        soft, _ = worker.rlimit(resource.RLIMIT_CPU)
        assert soft <= sum(worker.cpu_times()[:2]) + 6


def test_eight_threads_share_a_pool(pool):
    def one(number: int) -> bool:
        return pool.check(str(number), f"\\boxed{{{number + number % 2}}}").correct

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(300))) == [number % 2 == 0 for number in range(300)]


def test_it_works_under_an_event_loop(pool):
    async def many() -> list[bool]:
        verdicts = await asyncio.gather(*(asyncio.to_thread(pool.check, "1", str(n % 2)) for n in range(50)))
        return [verdict.correct for verdict in verdicts]

    assert asyncio.run(many()) == [n % 2 == 1 for n in range(50)]


def test_an_outer_alarm_is_left_alone(pool):
    rang = []
    before = signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        pool.check(r"\int_0^1 x dx", r"\int_0^2 x dx")
        check(r"\int_0^1 x dx", r"\int_0^3 x dx")
        time.sleep(0.3)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert rang == [True]


def test_policy_reaches_the_workers():
    with CheckerPool(1, policy=Policy.strict()) as strict:
        assert strict.check(r"14 \text{ cm}", "14").label == "wrong"


def test_closing_leaves_no_process_and_refuses_more():
    before = {process.pid for process in children()}
    pool = CheckerPool(2, deadline_s=20)
    list(pool.check_many([("1", "1")] * 64))
    assert len({process.pid for process in children()} - before) == 2
    pool.close()
    pool.close()
    assert {process.pid for process in children()} <= before
    with pytest.raises(RuntimeError, match="closed"):
        pool.check("1", "1")


def test_a_script_without_a_main_guard_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from personahub.core.answers import CheckerPool\n"
        "print('started')\n"
        "pool = CheckerPool(1)\n"
        "print(pool.check('1/2', '0.5').label)\n",  # and the pool is never closed
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["started", "correct"]
    assert done.stderr == ""


def test_workers_end_with_their_parent():
    code = (
        "import os, psutil, signal\n"
        "from personahub.core.answers import CheckerPool\n"
        "pool = CheckerPool(1)\n"
        "pool.check('1', '1')\n"
        "print(psutil.Process().children()[0].pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    worker = int(done.stdout)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.05)


@pytest.mark.parametrize("options", [{"workers": 0}, {"deadline_s": 0}])
def test_impossible_pools_are_refused(options):
    with pytest.raises(ValueError, match="at least one worker"):
        CheckerPool(**options)


def test_votes_cluster_by_equivalence(pool):
    answers = ["1/2", "0.5", None, "3", r"\frac{1}{2}", "x+1", "1+x", "3.0", "no solution", r"\emptyset", None]
    expected = [[0, 1, 4], [3, 7], [5, 6], [8, 9]]
    assert cluster(answers, pool) == expected
    assert cluster(answers) == expected
    assert cluster([]) == []


STOPPABLE = """
from personahub.core.answers.pool import CheckerPool
with CheckerPool(1, deadline_s=1.0) as pool:
    pairs = [(f"{i}/{i + 1}", f"{2 * i}/{2 * i + 2}") for i in range(1, 1501)]
    for number, verdict in enumerate(pool.check_many(pairs)):
        if number == 50:
            print("begun", flush=True)
        if verdict.label != "correct":
            print(pairs[number], verdict)
"""


def test_a_pause_of_the_whole_run_is_no_time_of_a_check() -> None:
    """Ctrl-Z and `fg`, longer than the deadline, and twice so that it hits a running check."""
    command = [sys.executable, "-c", STOPPABLE]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    for _ in range(2):
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(2.5)
        os.killpg(process.pid, signal.SIGCONT)
        time.sleep(0.1)
    assert process.communicate(timeout=100)[0] == ""
    assert process.returncode == 0
