"""`personahub plan`: what an experiment still has to do and what that will cost. Spends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from personahub.core.artifact import read_manifest
from personahub.core.experiment import Experiment, PlannedStage
from personahub.core.forecast import Forecast
from personahub.core.pilot import Correction
from personahub.core.price import usd
from personahub.core.progress import format_number, format_seconds
from personahub.core.stage import load_stage_module


@dataclass(frozen=True)
class StagePlan:
    """One row of the plan. `cost_usd` is None where an engine has no price."""

    name: str
    module: str
    state: str
    rows: int | None
    forecast: Forecast | None
    cost_usd: float | None


def plan_experiment(experiment: Experiment, pilot: Mapping[str, Correction] | None = None) -> list[StagePlan]:
    """Forecast every stage, in order; the rows of finished stages are counted, not estimated.

    Args:
        experiment: what is to be run.
        pilot: corrections by stage, from a small run of it (`personahub.core.pilot`).
    """
    rows: dict[str, int | None] = {}
    plans = []
    for stage in experiment.stages.values():
        plan = _plan_stage(stage, experiment, rows, (pilot or {}).get(stage.name))
        rows[stage.name] = plan.rows
        plans.append(plan)
    return plans


def _plan_stage(
    stage: PlannedStage, experiment: Experiment, rows: Mapping[str, int | None], correction: Correction | None
) -> StagePlan:
    module = stage.spec.module if stage.spec else f"adopted from {stage.path}"
    if stage.state == "cached":
        manifest = read_manifest(stage.path)
        done = sum(manifest.shards.values()) if manifest else None
        return StagePlan(stage.name, module, "cached", done, None, 0.0)
    forecast = _forecast(stage, rows)
    if forecast is None:
        return StagePlan(stage.name, module, _state(stage), None, None, 0.0)
    if correction is not None:
        forecast = correction.apply(forecast, sum(rows.get(upstream) or 0 for upstream in stage.upstream.values()))
    return StagePlan(stage.name, module, _state(stage), forecast.rows_out, forecast, _cost(forecast, experiment))


def _state(stage: PlannedStage) -> str:
    if stage.state != "partial":
        return stage.state
    done = len(list(stage.path.glob("[0-9]*.parquet")))
    return f"partial ({done} shards done)"


def _forecast(stage: PlannedStage, rows: Mapping[str, int | None]) -> Forecast | None:
    assert stage.spec is not None  # noqa: S101  (adopted stages are always cached)
    module = load_stage_module(stage.spec.module, stage.name)
    inputs = {name: rows.get(upstream) for name, upstream in stage.upstream.items()}
    known = {name: number for name, number in inputs.items() if number is not None}
    if not hasattr(module, "forecast") or len(known) < len(inputs):
        return None
    return module.forecast(stage.config, known)


def _cost(forecast: Forecast, experiment: Experiment) -> float | None:
    total = 0.0
    for name, requests in forecast.requests.items():
        engine = experiment.engines[name]
        price = getattr(engine, "billed", None)
        if price is None and hasattr(engine, "price"):
            return None
        total += usd(price, requests.prompt_tokens, requests.completion_tokens)
    return total


def format_plan(plans: list[StagePlan]) -> str:
    """The plan as a table, its totals, and the notes of the stages."""
    header = ("stage", "module", "state", "rows out", "requests", "tokens in", "tokens out", "USD", "GPU-h")
    table = [header, *(_cells(plan) for plan in plans)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, "", *_totals(plans), *_notes(plans)])


def _cells(plan: StagePlan) -> tuple[str, ...]:
    rows = f"{plan.rows:,}" if plan.rows is not None else ""
    if plan.forecast is None:
        return (plan.name, plan.module, plan.state, rows, "", "", "", "", "")
    requests = plan.forecast.requests.values()
    count, tokens_in, tokens_out = (
        sum(getattr(r, field) for r in requests) for field in ("count", "prompt_tokens", "completion_tokens")
    )
    cost = "no price" if plan.cost_usd is None else f"{plan.cost_usd:,.2f}" if plan.cost_usd else ""
    hours = f"{plan.forecast.gpu_hours:,.1f}" if plan.forecast.gpu_hours else ""
    shown = tuple(format_number(n) if n else "" for n in (tokens_in, tokens_out))
    return (plan.name, plan.module, plan.state, rows, f"{count:,}" if count else "", *shown, cost, hours)


def _totals(plans: list[StagePlan]) -> list[str]:
    forecasts = [plan.forecast for plan in plans if plan.forecast]
    if not forecasts:
        return [
            "Nothing left to do." if all(plan.state == "cached" for plan in plans) else "No stage gives a forecast."
        ]
    requests = sum(r.count for f in forecasts for r in f.requests.values())
    tokens = sum(r.prompt_tokens + r.completion_tokens for f in forecasts for r in f.requests.values())
    cost = sum(plan.cost_usd or 0.0 for plan in plans)
    hours = sum(f.gpu_hours for f in forecasts)
    disk = sum(f.disk_bytes for f in forecasts)
    seconds = [f.seconds for f in forecasts if f.seconds is not None]
    unpriced = [plan.name for plan in plans if plan.cost_usd is None]
    lines = [
        f"Still to come (estimated): {requests:,} requests, {format_number(tokens)} tokens, ${cost:,.2f}, "
        f"{hours:,.1f} GPU-hours, {disk / 1e9:,.1f} GB of disk."
    ]
    if seconds:
        lines.append(f"At the pilot's rate: {format_seconds(sum(seconds))} for the {len(seconds)} stages that it has.")
    if unpriced:
        lines.append(f"Not priced: {', '.join(unpriced)} (set engines.NAME.price, in USD per million tokens).")
    return lines


def _notes(plans: list[StagePlan]) -> list[str]:
    return [f"{plan.name}: {note}" for plan in plans if plan.forecast for note in plan.forecast.notes]
