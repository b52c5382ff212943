"""Rate limits: pacing by requests or tokens, a shared pause, adaptive concurrency."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque

_MAX_PAUSE_S = 60.0
_MAX_BACKOFF_S = 60.0
_MIN_WAIT_AFTER_FAILURES_S = 1.0


def retry_wait(tries: int, asked_s: float | None = None) -> float:
    """Return seconds to wait after `tries` failures.

    0.1, 0.2, 0.4, ... up to 60. A wait that the server requests takes precedence. After several failures it is raised
    to at least 1 s, because a server that always answers 0.001 would otherwise get thousands of requests.
    """
    backoff = min(_MAX_BACKOFF_S, 0.05 * 2 ** min(tries, 32))
    return backoff if asked_s is None else max(asked_s, min(backoff, _MIN_WAIT_AFTER_FAILURES_S))


class Pacer:
    """Admits units (requests or tokens) at an even rate, in order of arrival.

    There is no initial burst: evenly spaced units stay below the limit in every window that the server counts.
    """

    def __init__(self, per_minute: float) -> None:
        self._seconds_per_unit = 60 / per_minute
        self._next = 0.0

    async def take(self, units: float = 1) -> None:
        """Wait until `units` may be spent, and spend them."""
        now = time.monotonic()
        turn = max(self._next, now)
        self._next = turn + units * self._seconds_per_unit
        if turn > now:
            await asyncio.sleep(turn - now)

    def correct(self, units: float) -> None:
        """Spend `units` more. A negative number gives back what an estimate took too much."""
        self._next += units * self._seconds_per_unit


class Pause:
    """A cool-down of all requests while the server throttles.

    A single throttled reply delays only its own request. All requests pause when no request has succeeded
    since the throttled one was sent and it is not the first in a row, or when a third of the latest replies
    were throttled. Each pause is twice as long as the last one until a request succeeds.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._succeeded_at = -math.inf
        self._in_a_row = 0
        self._share = 0.0  # of throttled replies: a running mean over about 32
        self._rounds = 0

    @property
    def left(self) -> float:
        """Seconds until requests may be sent again; 0 if they may be sent now."""
        return max(0.0, self._until - time.monotonic()) if self._until else 0.0

    def throttled(self, sent_at: float, asked_s: float | None) -> bool:
        """Record a throttled request.

        `asked_s` is the wait that the server requests, if any.

        Returns:
            Whether this started a cool-down after requests had succeeded.
        """
        self._in_a_row += 1
        self._share += (1 - self._share) / 32
        nothing_succeeds = sent_at > self._succeeded_at and self._in_a_row >= 2
        if not nothing_succeeds and self._share < 1 / 3:
            return False
        fresh = not self.left  # otherwise it was sent before the pause and is no new evidence
        if asked_s is not None:
            self._until = max(self._until, time.monotonic() + asked_s)
        elif fresh:
            self._until = time.monotonic() + min(_MAX_PAUSE_S, 0.25 * 2 ** (self._rounds + 1))
        self._rounds += fresh
        self._share = 0.0
        return fresh and self._rounds == 1

    def succeeded(self, now: float) -> None:
        """Record a successful request."""
        self._succeeded_at = now
        self._in_a_row = self._rounds = 0
        self._share -= self._share / 32

    async def wait(self) -> None:
        """Wait until the pause is over. Waiters resume spread over a tenth of it, not all at once."""
        while left := self.left:
            await asyncio.sleep(left + random.random() * (0.05 + left / 10))  # noqa: S311 - not for secrets


class AdaptiveLimit:
    """Limits the requests in flight to `most`.

    Each cool-down removes a fifth. The limit recovers by a twentieth of `most` each time that as many requests as the
    limit have succeeded. Use it as an async context manager around one request.
    """

    def __init__(self, most: int) -> None:
        self._most = self.limit = most
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._successes = 0

    async def __aenter__(self) -> None:
        if self._taken < self.limit:
            self._taken += 1
            return
        slot = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():
                self._release()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        self._taken -= 1
        while self._waiting and self._taken < self.limit:
            slot = self._waiting.popleft()
            if not slot.done():
                self._taken += 1
                slot.set_result(None)

    def throttled(self) -> None:
        """Record that a cool-down started."""
        self.limit = max(1, self.limit * 4 // 5)
        self._successes = 0

    def succeeded(self) -> None:
        """Record a successful request."""
        if self.limit == self._most:
            return
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            self.limit = min(self._most, self.limit + max(1, self._most // 20))
