"""Progress of a stage: a bar on a terminal, a plain line now and then elsewhere.

Both tell the rate, the time left, tokens and money.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

_LINE_EVERY_S = 15.0


class Progress:
    """Counts done units of `total` (None: unknown). Use as a context manager.

    Args:
        label: what is shown in front, usually the stage's name.
        total: number of units, if known.
        unit: what is counted, in the plural.
        done: units that an earlier run finished; they do not count into the rate.
    """

    def __init__(self, label: str, total: int | None, unit: str = "rows", done: int = 0) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._count, self._start_count = done, done
        self._tokens, self._cost = 0, 0.0
        self._started = self._last_line = time.monotonic()
        self._bar: tqdm | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, desc=label, unit=f" {unit}", dynamic_ncols=True, leave=False)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, count: int = 1, tokens: int = 0, cost_usd: float = 0.0) -> None:
        """Add finished units, and the tokens and money they took."""
        self._count += count
        self._tokens += tokens
        self._cost += cost_usd
        if self._bar is not None:
            if tokens:
                self._bar.set_postfix_str(self._spent(), refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._last_line >= _LINE_EVERY_S:
            self._last_line = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def _spent(self) -> str:
        spent = f"{_short(self._tokens)} tokens"
        return f"{spent}, ${self._cost:.2f}" if self._cost else spent

    def _line(self) -> str:
        elapsed = time.monotonic() - self._started
        rate = (self._count - self._start_count) / elapsed if elapsed else 0.0
        parts = [f"{self._label}: {self._count:,}"]
        if self._total is not None:
            parts[0] += f" of {self._total:,} {self._unit} ({100 * self._count / max(self._total, 1):.0f}%)"
        else:
            parts[0] += f" {self._unit}"
        parts.append(f"{rate:,.1f}/s")
        if self._total is not None and rate:
            parts.append(f"{format_seconds((self._total - self._count) / rate)} left")
        if self._tokens:
            parts.append(self._spent())
        return ", ".join(parts)


def _short(number: float) -> str:
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.2f}{suffix}"
    return f"{number:.0f}"


def format_seconds(seconds: float) -> str:
    """`75` -> `1m15s`, `9000` -> `2h30m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 48 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole / 86400:.1f} days"


format_number = _short
