"""What a stage will still cost, for `personahub plan`. Computing a forecast spends nothing.

A stage module may define `forecast(config, rows_in) -> Forecast`, where `rows_in` holds the
expected number of records by input name. Expected token counts are averages that the module
states with their source; `plan` multiplies and adds, and names the sums as estimates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Requests:
    """Requests to one engine, with their total tokens."""

    count: int
    prompt_tokens: int
    completion_tokens: int


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
    seconds: float | None = None  # of work on this machine; known from a pilot only
    notes: tuple[str, ...] = ()
