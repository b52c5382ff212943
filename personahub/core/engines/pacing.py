"""Keeping to rate limits: even pacing by count or tokens, and a pause that all requests share."""

from __future__ import annotations

import asyncio
import random
import time

_LONGEST_PAUSE_S = 60.0


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

    One throttled reply among answers is that request's affair. Two in a row mean that the server
    turns requests away: then all wait, twice as long each time until anything gets through.
    """

    def __init__(self) -> None:
        self._until = 0.0
        self._in_a_row = 0
        self._rounds = 0

    @property
    def left(self) -> float:
        """Seconds until requests may go out again; 0 if they may now."""
        return max(0.0, self._until - time.monotonic())

    def throttled(self, asked_s: float | None) -> None:
        """A request was turned away, with or without the server saying for how long."""
        self._in_a_row += 1
        if self._in_a_row < 2:
            return
        if asked_s is not None:
            self._until = max(self._until, time.monotonic() + asked_s)
        elif not self.left:  # else it was sent before the pause and says nothing new
            self._rounds += 1
            self._until = time.monotonic() + min(_LONGEST_PAUSE_S, 0.25 * 2**self._rounds)

    def succeeded(self) -> None:
        """A request got through."""
        self._in_a_row = self._rounds = 0

    async def wait(self) -> None:
        """Return once no pause is left. Waiters come back spread over a tenth of it, not all at once."""
        while left := self.left:
            await asyncio.sleep(left + random.random() * (0.05 + left / 10))  # noqa: S311 - not for secrets
