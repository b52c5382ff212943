"""Checks in worker processes that the parent kills at a deadline.

Workers are fresh interpreters, not forks, and re-run nothing of the caller's program. No signal
handler, alarm or event loop is involved, so a pool works from any thread, and from asyncio through
`asyncio.to_thread(pool.check, gold, pred)`.
"""

from __future__ import annotations

import json
import os
import queue
import select
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

from personahub.core.answers.policy import Policy
from personahub.core.answers.verdict import Verdict
from personahub.core.answers.worker import HEADER, IMPORT_S, frame

_BATCH = 16
_SLICE_S = 0.5
_ROOT = Path(__file__).parents[3]

Pair = tuple[str, str]


class CheckerPool:
    """Persistent checker processes.

    Args:
        workers: processes; threads may share a pool, each check occupies one worker.
        deadline_s: wall seconds for one check; then its worker is killed and replaced, and the verdict
            is `timeout`.
        policy: contested cases.
        memory_mb: address space of a worker.
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
        self._all: set[_Worker] = set()
        self._closed = False
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._idle.put(None)  # started when first needed

    def __enter__(self) -> CheckerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(self, gold: str, pred: str) -> Verdict:
        """One check; blocks while all workers are busy. See `checking.check` for the arguments."""
        return self._run([(gold, pred)])[0]

    def check_many(self, pairs: Iterable[Pair]) -> Iterator[Verdict]:
        """Verdicts of (gold, pred) pairs, in order, read ahead by a bounded number of pairs."""
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
        """End all workers and wait for them. A closed pool refuses further checks."""
        with self._lock:
            self._closed = True
            workers, self._all = self._all, set()
        for worker in workers:
            worker.stop()

    def _run(self, pairs: list[Pair]) -> list[Verdict]:
        worker = self._idle.get()
        try:
            verdicts: list[Verdict] = []
            while len(verdicts) < len(pairs):
                worker = worker if worker is not None and worker.alive else self._start()
                done, intact = worker.run(self._policy_json, pairs[len(verdicts) :])
                verdicts += done
                if not intact:
                    self._discard(worker)
                    worker = None
            return verdicts
        finally:
            self._idle.put(worker)

    def _start(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise RuntimeError("this checker pool is closed")
            worker = _Worker(*self._limits)
            self._all.add(worker)
        worker.wait_until_ready()
        return worker

    def _discard(self, worker: _Worker) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.stop()


class _Worker:
    """One process and its pipes, used by one thread at a time."""

    def __init__(self, deadline_s: float, memory_mb: int) -> None:
        self._deadline_s = deadline_s
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(  # noqa: S603 - our own module in our own interpreter
            [sys.executable, "-P", "-m", "personahub.core.answers.worker", str(deadline_s), str(memory_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("a checker worker has no pipes")
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._buffer = b""

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        if self._frame(IMPORT_S) != "ready":
            self.stop()
            raise RuntimeError(
                f"a checker worker did not start (exit code {self._process.returncode}): "
                f"try `{sys.executable} -m personahub.core.answers.worker 5 2048`"
            )

    def run(self, policy_json: str, pairs: list[Pair]) -> tuple[list[Verdict], bool]:
        """Verdicts of as many pairs as went well, the failing one included; False when the worker is spent."""
        verdicts: list[Verdict] = []
        try:
            self._send(frame([policy_json, pairs]))
        except (BrokenPipeError, ValueError):
            return verdicts, False  # it died idle: nothing was checked
        for _ in pairs:
            started = time.monotonic()
            reply = self._reply(self._deadline_s)
            if reply is None:
                verdicts.append(self._failure(time.monotonic() - started))
                return verdicts, False
            verdicts.append(Verdict(*reply))
        return verdicts, True

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._requests.write(view) or 0 :]

    def _reply(self, timeout_s: float) -> Any | None:
        """The next verdict, or None; the time that the worker spends importing is not the check's."""
        reply = self._frame(timeout_s)
        while reply in ("importing", "imported"):
            reply = self._frame(IMPORT_S if reply == "importing" else timeout_s)
        return reply

    def _frame(self, timeout_s: float) -> Any | None:
        """The next frame, or None when the time passes or the process ends."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._replies, select.POLLIN | select.POLLHUP)
        while True:
            if len(self._buffer) >= HEADER.size:
                end = HEADER.size + HEADER.unpack_from(self._buffer)[0]
                if len(self._buffer) >= end:
                    body, self._buffer = self._buffer[HEADER.size : end], self._buffer[end:]
                    return json.loads(body)
            before = time.monotonic()
            if before >= deadline:
                return None
            wait_s = min(_SLICE_S, deadline - before)
            if not poll.poll(wait_s * 1000):
                # Far longer than asked: this process was stopped (Ctrl-Z), and the worker most likely with it.
                stopped_s = time.monotonic() - before - wait_s
                deadline += stopped_s if stopped_s > 1 else 0
                continue
            piece = os.read(self._replies.fileno(), 1 << 16)
            if not piece:
                return None
            self._buffer += piece

    def _failure(self, seconds: float) -> Verdict:
        if seconds >= self._deadline_s:
            return Verdict("timeout", None, "none", f"killed after {self._deadline_s:g} s", seconds * 1000)
        try:
            code = self._process.wait(self._deadline_s)
        except subprocess.TimeoutExpired:  # its pipe is closed, it is not: that worker has no more to say
            self._process.kill()
            code = self._process.wait()
        label = "timeout" if code == -signal.SIGXCPU else "error"  # the kernel's CPU limit came before our clock
        return Verdict(label, None, "none", f"the worker ended with code {code}", seconds * 1000)

    def stop(self) -> None:
        """Kill and reap; safe to call twice."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._replies.close()
