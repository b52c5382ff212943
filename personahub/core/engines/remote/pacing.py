"""Keeping to rate limits: even pacing by count or tokens, a pause that all requests share, and fewer at once."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque

_LONGEST_PAUSE_S = 60.0
_LONGEST_BACKOFF_S = 60.0
_LONGEST_DOUBT_S = 1.0


def retry_wait(tries: int, asked_s: float | None = None) -> float:
    """Seconds before a request that has failed `tries` times is sent again: 0.1, 0.2, 0.4 and so on up to a minute.

    What the server asks for goes before that, but is no promise: one that says 0.001 for ever would be
    asked thousands of times. So after some failures it is a second at least.
    """
    backoff = min(_LONGEST_BACKOFF_S, 0.05 * 2 ** min(tries, 32))
    return backoff if asked_s is None else max(asked_s, min(backoff, _LONGEST_DOUBT_S))


class Pacer:
    """Lets units (requests, tokens) through at an even rate, first come, first served.

    There is no burst to begin with: servers count in windows of their own, and units spread evenly
    stay below the limit in every window.
    """

    def __init__(self, per_minute: float) -> None:
        self._seconds_per_unit = 60 / per_minute
        self._next = 0.0

    async def take(self, units: float = 1) -> None:
        """Wait for the turn of `units`, which are then spent."""
        now = time.monotonic()
        turn = max(self._next, now)
        self._next = turn + units * self._seconds_per_unit
        if turn > now:
            await asyncio.sleep(turn - now)

    def correct(self, units: float) -> None:
        """Spend `units` more; a negative number gives back what an estimate took too much."""
        self._next += units * self._seconds_per_unit


class Pause:
    """A cool-down that a throttling server brings about and all requests keep.

    A throttled reply among answers is that request's affair. It is the server's when nothing got
    through since the request was sent and it is not the first one, or when a third of the latest
    replies were throttled: then all wait, twice as long each time until anything gets through.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._succeeded_at = -math.inf
        self._in_a_row = 0
        self._share = 0.0  # of throttled replies, a running mean over some 32
        self._rounds = 0

    @property
    def left(self) -> float:
        """Seconds until requests may go out again; 0 if they may now."""
        return max(0.0, self._until - time.monotonic()) if self._until else 0.0

    def throttled(self, sent_at: float, asked_s: float | None) -> bool:
        """A request was turned away, with or without the server saying for how long.

        Returns:
            Whether this began a cool-down, after answers had come through.
        """
        self._in_a_row += 1
        self._share += (1 - self._share) / 32
        nothing_gets_through = sent_at > self._succeeded_at and self._in_a_row >= 2
        if not nothing_gets_through and self._share < 1 / 3:
            return False
        fresh = not self.left  # else it was sent before the pause and says nothing new
        if asked_s is not None:
            self._until = max(self._until, time.monotonic() + asked_s)
        elif fresh:
            self._until = time.monotonic() + min(_LONGEST_PAUSE_S, 0.25 * 2 ** (self._rounds + 1))
        self._rounds += fresh
        self._share = 0.0
        return fresh and self._rounds == 1

    def succeeded(self, now: float) -> None:
        """A request got through."""
        self._succeeded_at = now
        self._in_a_row = self._rounds = 0
        self._share -= self._share / 32

    async def wait(self) -> None:
        """Return once no pause is left. Waiters come back spread over a tenth of it, not all at once."""
        while left := self.left:
            await asyncio.sleep(left + random.random() * (0.05 + left / 10))  # noqa: S311 - not for secrets


class Places:
    """Requests that may be under way at once: `most` of them, a fifth less after each cool-down.

    What was taken away comes back by a twentieth whenever as many requests as there are places got
    through. Use as an async context manager around one request.
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
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._give_back()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._give_back()

    def _give_back(self) -> None:
        self._taken -= 1
        while self._waiting and self._taken < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self._taken += 1
                place.set_result(None)

    def throttled(self) -> None:
        """A cool-down began."""
        self.limit = max(1, self.limit * 4 // 5)
        self._successes = 0

    def succeeded(self) -> None:
        """A request got through."""
        if self.limit == self._most:
            return
        self._successes += 1
        if self._successes >= self.limit:
            self._successes = 0
            self.limit = min(self._most, self.limit + max(1, self._most // 20))
