"""Expected output and cost of a stage, for `personahub plan`.

Computing a forecast is free. A stage module may define `forecast(config, rows_in) -> Forecast`, where `rows_in` holds
the expected number of records by input name. Expected token counts are averages, which the module states with their
source. `plan` multiplies and adds them, and labels the sums as estimates.
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
    """Resources that a stage itself uses, without models.

    A stage module may define one as `WORK`. The number of rows is that of the input or of the output, whichever is
    larger.
    """

    cpu_seconds: float  # per row
    measured_by: str  # the benchmark module that prints these coefficients
    memory_bytes: float = 0.0  # per row, in the largest process, in addition to an empty stage's memory
    disk_bytes: float = 0.0  # per row

    def add_to(self, rows_in: int, forecast: Forecast) -> Forecast:
        """Add this work to a forecast. Values that the stage forecasts itself are kept."""
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

    `requests` is keyed by engine name. `gpu_hours` covers work that no engine does, such as training.
    `notes` are lines that `plan` prints below the table.
    """

    rows_out: int
    requests: Mapping[str, Requests] = field(default_factory=dict)
    gpu_hours: float = 0.0
    disk_bytes: int = 0
    seconds: float | None = None  # wall-clock time on this machine; only known from a pilot run
    cpu_seconds: float = 0.0  # of the harness itself, without models
    memory_bytes: int = 0  # resident memory of the stage's largest process
    notes: tuple[str, ...] = ()
