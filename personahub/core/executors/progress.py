"""Progress of a stage: a bar on a terminal, else a plain line every 15 seconds.

Both show the rate, the time left, tokens and cost. A warning is printed when nothing finishes for a long time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from personahub.core.texts.figures import format_number, format_seconds

_LINE_EVERY_S = 15.0


class Progress:
    """Counts finished units. Use it as a context manager.

    Args:
        label: shown in front, usually the stage's name.
        total: number of units, or None if it is not known.
        unit: what is counted, in the plural.
        done: units that an earlier run finished; they do not count toward the rate.
        quiet_s: seconds without a finished unit until a warning; the next one follows after twice the time.
    """

    def __init__(
        self, label: str, total: int | None, unit: str = "rows", done: int = 0, quiet_s: float = 300.0
    ) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._count, self._start_count = done, done
        self._tokens, self._cost = 0, 0.0
        self._started = self._last_line = self._moved = time.monotonic()
        self._quiet_s = quiet_s
        self._closed = threading.Event()
        self.describe_running: Callable[[], str] | None = None  # describes running work, for the warning
        self._bar: tqdm | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, desc=label, unit=f" {unit}", dynamic_ncols=True, leave=False)

    def __enter__(self) -> Progress:
        threading.Thread(target=self._warn_when_stalled, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._closed.set()
        if self._bar is not None:
            self._bar.close()

    def _warn_when_stalled(self) -> None:
        """Print a warning when nothing finishes for long. Otherwise a hanging worker looks like a busy one."""
        patience = self._quiet_s
        while not self._closed.wait(min(patience / 4, 5.0)):
            quiet = time.monotonic() - self._moved
            if quiet < self._quiet_s:
                patience = self._quiet_s
            elif quiet >= patience:
                patience = 2 * quiet
                tqdm.write(self._stalled_line(quiet), file=sys.stderr)

    def _stalled_line(self, quiet: float) -> str:
        of = "" if self._total is None else f" of {self._total:,}"
        parts = [f"{self._label}: nothing finished for {format_seconds(quiet)}, at {self._count:,}{of} {self._unit}"]
        if self.describe_running is not None:
            parts.append(self.describe_running())
        return "; ".join(part for part in parts if part)

    def update(self, count: int = 1, tokens: int = 0, cost_usd: float = 0.0) -> None:
        """Add finished units, and their tokens and cost."""
        self._moved = time.monotonic()
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
        spent = f"{format_number(self._tokens)} tokens"
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
