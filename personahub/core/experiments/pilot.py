"""Correct forecasts with a pilot, which is a small run of the same experiment.

    personahub run  configs/mine.yaml experiment=pilot stages.sources.config.limit=100
    personahub plan configs/mine.yaml --pilot runs/pilot

Each stage's forecast is also computed for the pilot, from the pilot's config and inputs, and compared with what
the pilot used. The ratios of rows, requests, tokens and bytes correct the forecast of the full run. So a pilot
may differ in its sizes and in anything else that a forecast takes into account. The model should be the same.
Seconds are proportional to the input rows. A pilot with few rows spends most of its time starting processes, so
it overestimates them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from personahub.core.artifact import Artifact, open_artifact
from personahub.core.config import parse_config
from personahub.core.errors import UserError
from personahub.core.forecast import Forecast, Requests
from personahub.core.stage import load_stage_module


@dataclass(frozen=True)
class Correction:
    """What a stage of the pilot used, as multiples of its forecast. `seconds_per_row` is per input row."""

    rows: float
    requests: float
    prompt_tokens: float
    completion_tokens: float
    disk: float | None  # None if the stage does not forecast its size
    disk_per_row: float
    seconds_per_row: float

    def apply(self, forecast: Forecast, rows_in: int) -> Forecast:
        """Return the corrected forecast of a stage with `rows_in` input rows."""
        rows_out = round(forecast.rows_out * self.rows)
        disk = forecast.disk_bytes * self.disk if self.disk is not None else rows_out * self.disk_per_row
        return replace(
            forecast,
            rows_out=rows_out,
            requests={
                engine: Requests(
                    round(asked.count * self.requests),
                    round(asked.prompt_tokens * self.prompt_tokens),
                    round(asked.completion_tokens * self.completion_tokens),
                )
                for engine, asked in forecast.requests.items()
            },
            disk_bytes=round(disk),
            seconds=rows_in * self.seconds_per_row,
            notes=(),  # they state the assumptions of the uncorrected forecast
        )


def read_pilot(folder: Path) -> dict[str, Correction]:
    """Return corrections by stage, for finished pilot stages that have a forecast.

    Raises:
        UserError: the folder is not a run or has no finished stage.
    """
    artifacts = [open_artifact(path.parent) for path in sorted(folder.glob("*/manifest.json"))]
    if not artifacts:
        raise UserError(f"--pilot {folder}: no finished stage found; name the folder of a run, such as runs/pilot")
    found = {artifact.name: _correction(artifact) for artifact in artifacts}
    return {name: correction for name, correction in found.items() if correction is not None}


def _correction(artifact: Artifact) -> Correction | None:
    manifest = artifact.manifest
    module = load_stage_module(manifest.module, f"{artifact.path}")
    if not hasattr(module, "forecast"):
        return None
    inputs = {name: open_artifact(used.path).num_rows for name, used in manifest.inputs.items()}
    config = parse_config(module.Config, manifest.config, f"{artifact.path}")
    forecast: Forecast = module.forecast(config, inputs)
    asked = forecast.requests.values()
    usage, size = manifest.usage, sum(file.stat().st_size for file in artifact.path.rglob("*") if file.is_file())
    return Correction(
        rows=_ratio(artifact.num_rows, forecast.rows_out),
        requests=_ratio(usage.requests, sum(each.count for each in asked)),
        prompt_tokens=_ratio(usage.prompt_tokens, sum(each.prompt_tokens for each in asked)),
        completion_tokens=_ratio(usage.completion_tokens, sum(each.completion_tokens for each in asked)),
        disk=size / forecast.disk_bytes if forecast.disk_bytes else None,
        disk_per_row=_ratio(size, artifact.num_rows),
        seconds_per_row=manifest.seconds / max(1, sum(inputs.values())),
    )


def _ratio(used: int, expected: int) -> float:
    return used / expected if expected else 1.0
