"""Formats numbers and durations for people."""

from __future__ import annotations


def format_seconds(seconds: float) -> str:
    """Formats a duration: `75` -> `1m15s`, `9000` -> `2h30m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 48 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole / 86400:.1f} days"


def format_number(number: float) -> str:
    """Formats a number with a suffix: `1234` -> `1.23k`."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.2f}{suffix}"
    return f"{number:.0f}"
