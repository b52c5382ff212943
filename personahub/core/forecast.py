"""What a stage will still cost, for `personahub plan`. Computing a forecast spends nothing.

A stage module may define `forecast(config, rows_in) -> Forecast`, where `rows_in` holds the
expected number of records by input name. Expected token counts are averages that the module
states with their source; `plan` multiplies and adds, and names the sums as estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_EMPTY_STAGE_BYTES = 120_000_000  # interpreter, numpy and pyarrow


@dataclass(frozen=True)
class Requests:
    """Requests to one engine, with their total tokens."""

    count: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Work:
    """What a stage itself takes of a machine, models apart. A stage module may have one, named `WORK`.

    A row is one of those that come in or of those that go out, whichever are more.
    """

    cpu_seconds: float  # per row
    measured_by: str  # the module of benchmarks that prints the coefficients
    memory_bytes: float = 0.0  # per row, of the largest process, besides what an empty stage takes
    disk_bytes: float = 0.0  # per row

    def of(self, rows_in: int, forecast: Forecast) -> Forecast:
        """The forecast with this work in it; what the stage forecasts itself stays."""
        rows = max(rows_in, forecast.rows_out)
        return replace(
            forecast,
            cpu_seconds=forecast.cpu_seconds or rows * self.cpu_seconds,
            memory_bytes=forecast.memory_bytes or round(_EMPTY_STAGE_BYTES + rows * self.memory_bytes),
            disk_bytes=forecast.disk_bytes or round(rows * self.disk_bytes),
        )


@dataclass(frozen=True)
class Forecast:
    """Expected output and cost of one stage.

    `requests` is keyed by the engine's name; `gpu_hours` covers what no engine is charged for,
    such as training; `notes` are lines that `plan` prints below the stage.
    """

    rows_out: int
    requests: Mapping[str, Requests] = field(default_factory=dict)
    gpu_hours: float = 0.0
    disk_bytes: int = 0
    seconds: float | None = None  # on the clock of this machine; known from a pilot only
    cpu_seconds: float = 0.0  # of the harness itself, models apart
    memory_bytes: int = 0  # resident, of the stage's largest process
    notes: tuple[str, ...] = ()
