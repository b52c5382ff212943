"""Format a plan as text: a table of stages, totals by engine, and assumptions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from personahub.core.engines import EngineConfig, PricedConfig
from personahub.core.engines.price import usd
from personahub.core.experiments.plan import StagePlan
from personahub.core.forecast import Requests
from personahub.core.texts.figures import format_number, format_seconds

_HEADER = (
    "stage", "module", "state", "rows out", "requests", "tokens in", "tokens out", "USD", "GPU-h", "CPU-h", "GB disk",
    "GB memory",
)  # fmt: skip
_TEXT_COLUMNS = 3


def format_plan(plans: Sequence[StagePlan], engines: Mapping[str, EngineConfig]) -> str:
    """Return the plan as a table, with totals, engine costs and the stages' notes."""
    lines = _aligned([_HEADER, *(_cells(plan) for plan in plans)])
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join([*lines, "", *_totals(plans), *_engines(plans, engines), *_notes(plans)])


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Align text to the left and numbers to the right. Columns without values are left out."""
    columns = [cells for cells in zip(*table, strict=True) if any(cells[1:])]
    widths = [max(map(len, cells)) for cells in columns]
    texts = set(_HEADER[:_TEXT_COLUMNS])
    padded = [
        [cell.ljust(width) if cells[0] in texts else cell.rjust(width) for cell in cells]
        for cells, width in zip(columns, widths, strict=True)
    ]
    return ["  ".join(row).rstrip() for row in zip(*padded, strict=True)]


def _cells(plan: StagePlan) -> tuple[str, ...]:
    rows = f"{plan.rows:,}" if plan.rows is not None else ""
    forecast = plan.forecast
    if forecast is None:
        return (plan.name, plan.module, plan.state, rows, *[""] * (len(_HEADER) - 4))
    count, tokens_in, tokens_out = _sums(forecast.requests.values())
    cost = "no price" if plan.cost_usd is None else f"{plan.cost_usd:,.2f}" if plan.cost_usd else ""
    return (
        plan.name, plan.module, plan.state, rows,
        f"{count:,}" if count else "",
        *(format_number(n) if n else "" for n in (tokens_in, tokens_out)),
        cost,
        *(_hours(hours) for hours in (forecast.gpu_hours, forecast.cpu_seconds / 3600)),
        *(_gigabytes(size) for size in (forecast.disk_bytes, forecast.memory_bytes)),
    )  # fmt: skip


def _sums(requests: Iterable[Requests]) -> tuple[int, int, int]:
    asked = list(requests)
    return sum(r.count for r in asked), sum(r.prompt_tokens for r in asked), sum(r.completion_tokens for r in asked)


def _hours(hours: float) -> str:
    return "" if not hours else f"{hours:,.1f}" if hours >= 0.1 else f"{hours:.2g}"


def _gigabytes(size: int) -> str:
    return "" if not size else f"{size / 1e9:,.1f}" if size >= 1e8 else "<0.1"


def _totals(plans: Sequence[StagePlan]) -> list[str]:
    forecasts = [plan.forecast for plan in plans if plan.forecast]
    if not forecasts:
        return ["Nothing left to do." if all(plan.state == "cached" for plan in plans) else "No stage has a forecast."]
    count, tokens_in, tokens_out = _sums(r for forecast in forecasts for r in forecast.requests.values())
    cost = sum(plan.cost_usd or 0.0 for plan in plans)
    lines = [
        f"Still to come (estimated): {count:,} requests, {format_number(tokens_in + tokens_out)} tokens, ${cost:,.2f}, "
        f"{sum(f.gpu_hours for f in forecasts):,.1f} GPU-hours, {sum(f.disk_bytes for f in forecasts) / 1e9:,.1f} GB "
        f"of disk; for the harness itself {sum(f.cpu_seconds for f in forecasts) / 3600:,.1f} CPU-hours and at most "
        f"{max(f.memory_bytes for f in forecasts) / 1e9:,.1f} GB of memory in one process."
    ]
    seconds = [f.seconds for f in forecasts if f.seconds is not None]
    if seconds:
        lines.append(f"At the pilot's rate: {format_seconds(sum(seconds))} for the {len(seconds)} stages that it ran.")
    if measured := sorted({plan.work_measured_by for plan in plans if plan.work_measured_by}):
        lines.append(f"CPU and memory per row: measured with python -m {', '.join(measured)}.")
    if unpriced := [plan.name for plan in plans if plan.cost_usd is None]:
        lines.append(f"Not priced: {', '.join(unpriced)} (set engines.NAME.price, in USD per million tokens).")
    return lines


def _engines(plans: Sequence[StagePlan], engines: Mapping[str, EngineConfig]) -> list[str]:
    """Return requests, tokens and cost of each engine. Includes the Batch API's cost if there is one."""
    lines = []
    for name, engine in engines.items():
        asked = [r for plan in plans if plan.forecast for key, r in plan.forecast.requests.items() if key == name]
        count, tokens_in, tokens_out = _sums(asked)
        if not count:
            continue
        line = f"{name} ({engine.model}): {count:,} requests, {format_number(tokens_in)} tokens in, "
        line += f"{format_number(tokens_out)} out"
        if isinstance(engine, PricedConfig) and (price := engine.billed) is not None:
            line += f", ${usd(price, tokens_in, tokens_out):,.2f} at ${price.input:g} and ${price.output:g} per million"
            line += f" ({price.as_of})" if price.as_of else ""
            if engine.batch_price is not None:
                bill = usd(engine.batch_price, tokens_in, tokens_out)
                line += f", ${bill:,.2f} within a day with kind: openai_batch"
        elif engine.gpu_hours(tokens_out) is None:
            line += "; its GPU-hours are not known: measure and set tokens_per_second"
        lines.append(line)
    return lines


def _notes(plans: Sequence[StagePlan]) -> list[str]:
    return [f"{plan.name}: {note}" for plan in plans if plan.forecast for note in plan.forecast.notes]
