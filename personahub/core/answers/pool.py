"""Answer checks in separate processes that are killed at a deadline.

Checker processes are fresh interpreters, not forks, and do not import the caller's program. A pool works from
any thread, and from asyncio through `asyncio.to_thread(pool.check, gold, pred)`.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

from personahub.core.answers.checker_process import IMPORT_S
from personahub.core.answers.policy import Policy
from personahub.core.answers.verdict import Verdict
from personahub.core.executors.killable import KillableProcess

_BATCH = 16
_ROOT = Path(__file__).parents[3]

Pair = tuple[str, str]


class CheckerPool:
    """Persistent checker processes.

    Args:
        workers: number of processes. Threads may share a pool; each check occupies one process.
        deadline_s: wall seconds for one check. After that its process is killed and replaced, and the verdict
            is `timeout`.
        policy: how to decide contested cases.
        memory_mb: address space of each process.
    """

    def __init__(
        self, workers: int = 1, deadline_s: float = 5.0, policy: Policy | None = None, *, memory_mb: int = 2048
    ) -> None:
        if workers < 1 or deadline_s <= 0:
            raise ValueError("a checker pool needs at least one worker and a deadline above zero")
        self.policy = policy or Policy()
        self._policy_json = self.policy.model_dump_json()
        self._workers = workers
        self._limits = (deadline_s, memory_mb)
        self._lock = threading.Lock()
        self._checkers: set[_Checker] = set()
        self._closed = False
        self._idle: queue.SimpleQueue[_Checker | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)  # started when first needed

    def __enter__(self) -> CheckerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, gold: str, pred: str) -> Verdict:
        """Check one pair; blocks while all processes are busy. See `checking.check` for the arguments."""
        return self._run([(gold, pred)])[0]

    def check_many(self, pairs: Iterable[Pair]) -> Iterator[Verdict]:
        """Yield the verdicts of (gold, pred) pairs in order, with bounded read-ahead."""
        source = iter(pairs)
        batches = iter(lambda: list(islice(source, _BATCH)), [])
        waiting: deque[Future[list[Verdict]]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="checker") as threads:
            for batch in batches:
                waiting.append(threads.submit(self._run, batch))
                while len(waiting) > 2 * self._workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def close(self) -> None:
        """End all processes and wait for them. A closed pool refuses further checks."""
        with self._lock:
            self._closed = True
            checkers, self._checkers = self._checkers, set()
        for checker in checkers:
            checker.stop()

    def _run(self, pairs: list[Pair]) -> list[Verdict]:
        checker = self._idle.get()
        try:
            verdicts: list[Verdict] = []
            while len(verdicts) < len(pairs):
                checker = checker if checker is not None and checker.alive else self._start()
                done, usable = checker.check(self._policy_json, pairs[len(verdicts) :])
                verdicts += done
                if not usable:
                    self._discard(checker)
                    checker = None
            return verdicts
        finally:
            self._idle.put(checker)

    def _start(self) -> _Checker:
        with self._lock:
            if self._closed:
                raise RuntimeError("this checker pool is closed")
            checker = _Checker(*self._limits)
            self._checkers.add(checker)
        checker.wait_until_ready()
        return checker

    def _discard(self, checker: _Checker) -> None:
        with self._lock:
            self._checkers.discard(checker)
        checker.stop()


class _Checker(KillableProcess):
    """One checker process, used by one thread at a time."""

    def __init__(self, deadline_s: float, memory_mb: int) -> None:
        self._deadline_s = deadline_s
        path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")])
        super().__init__(
            [sys.executable, "-P", "-m", "personahub.core.answers.checker_process", str(deadline_s), str(memory_mb)],
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )

    def wait_until_ready(self) -> None:
        if self.receive(IMPORT_S) != "ready":
            self.stop()
            raise RuntimeError(
                f"a checker process did not start (exit code {self.exit_code(0)}): "
                f"try `{sys.executable} -m personahub.core.answers.checker_process 5 2048`"
            )

    def check(self, policy_json: str, pairs: list[Pair]) -> tuple[list[Verdict], bool]:
        """Return verdicts up to the first pair that fails. The flag is False if the process is no longer usable."""
        verdicts: list[Verdict] = []
        if not self.send([policy_json, pairs]):
            return verdicts, False  # it ended while idle: nothing was checked
        for _ in pairs:
            started = time.monotonic()
            reply = self._verdict()
            if reply is None:
                verdicts.append(self._failure(time.monotonic() - started))
                return verdicts, False
            verdicts.append(Verdict(*reply))
        return verdicts, True

    def _verdict(self) -> Any | None:
        """Return the next verdict, or None. Time that the process spends importing does not count against the check."""
        reply = self.receive(self._deadline_s)
        while reply in ("importing", "imported"):
            reply = self.receive(IMPORT_S if reply == "importing" else self._deadline_s)
        return reply

    def _failure(self, seconds: float) -> Verdict:
        if seconds >= self._deadline_s:
            return Verdict("timeout", None, "none", f"killed after {self._deadline_s:g} s", seconds * 1000)
        code = self.exit_code(self._deadline_s)
        label = "timeout" if code == -signal.SIGXCPU else "error"  # the kernel's CPU limit came first
        return Verdict(label, None, "none", f"the checker process ended with code {code}", seconds * 1000)
