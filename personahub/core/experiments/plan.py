"""Forecast what is left of an experiment and its cost, for `personahub plan`.

Free of charge. `plan_table` prints the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from personahub.core.artifact import read_manifest
from personahub.core.engines import PricedConfig
from personahub.core.engines.price import usd
from personahub.core.errors import UserError
from personahub.core.experiments.experiment import Experiment, PlannedStage
from personahub.core.experiments.pilot import Correction
from personahub.core.forecast import Forecast, Work
from personahub.core.stage import load_stage_module


@dataclass(frozen=True)
class StagePlan:
    """One row of the plan. `cost_usd` is None if an engine has no price."""

    name: str
    module: str
    state: str
    rows: int | None
    forecast: Forecast | None
    cost_usd: float | None
    work_measured_by: str | None = None


def plan_experiment(
    experiment: Experiment, pilot: Mapping[str, Correction] | None = None, only: Sequence[str] = ()
) -> list[StagePlan]:
    """Forecast the stages in order.

    The rows of finished stages are counted, not estimated.

    Args:
        experiment: the experiment to plan.
        pilot: corrections by stage, from a small run (`personahub.core.experiments.pilot`).
        only: names of stages to stop at, as in `runner.run_experiment`; by default all stages.

    Raises:
        UserError: a name in `only` is not a stage.
    """
    rows: dict[str, int | None] = {}
    plans = []
    for name in experiment.needed(only) if only else list(experiment.stages):
        stage = experiment.stages[name]
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
    rows_in = sum(rows.get(upstream) or 0 for upstream in stage.upstream.values())
    if correction is not None:
        forecast = correction.apply(forecast, rows_in)
    work: Work | None = getattr(load_stage_module(stage.spec.module, stage.name), "WORK", None) if stage.spec else None
    if work is not None:
        forecast = work.add_to(rows_in, forecast)
    measured_by = work.measured_by if work else None
    forecast = replace(forecast, gpu_hours=forecast.gpu_hours + _gpu_hours_of_engines(forecast, experiment))
    return StagePlan(
        stage.name, module, _state(stage), forecast.rows_out, forecast, _cost(forecast, experiment), measured_by
    )


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
    try:
        return module.forecast(stage.config, known)
    except UserError as error:
        raise UserError(f"stages.{stage.name}: {error}") from None


def _cost(forecast: Forecast, experiment: Experiment) -> float | None:
    total = 0.0
    for name, requests in forecast.requests.items():
        engine = experiment.engines[name]
        if isinstance(engine, PricedConfig):
            if engine.billed is None:
                return None
            total += usd(engine.billed, requests.prompt_tokens, requests.completion_tokens)
    return total


def _gpu_hours_of_engines(forecast: Forecast, experiment: Experiment) -> float:
    """GPU-hours of the engines whose rate is configured; the others are not known."""
    requests = forecast.requests.items()
    return sum(experiment.engines[name].gpu_hours(asked.completion_tokens) or 0.0 for name, asked in requests)
