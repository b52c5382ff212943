"""Experiment tracking: `metrics.jsonl` always, Weights & Biases when asked.

The only module that imports wandb. A stage is one W&B run: group = experiment, job type = stage. The runs of a
stage that `foreach` repeats have one job type, and `matrix.arm`, `matrix.seed` and so on in their configs, to be
grouped by. docs/experiments.md lays out a workspace. Offline runs and W&B's own files stay below the stage's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from personahub.core.artifact import append_to_lines, writing
from personahub.core.config import FrozenModel
from personahub.core.errors import UserError


class TrackingConfig(FrozenModel):
    """The YAML's `tracking:` section. Not part of any fingerprint."""

    wandb: Literal["disabled", "offline", "online"] = "disabled"
    project: str = "persona-hub"
    entity: str | None = None
    tags: tuple[str, ...] = Field(default=())
    timeout_s: float = Field(
        default=60, gt=0, description="For W&B to take a run or its end; then it is tracked offline, to be sent later."
    )


class Tracker:
    """Writes a stage's metrics. `step` is the stage's own axis, such as the optimizer step."""

    def __init__(
        self,
        folder: Path,
        config: TrackingConfig,
        experiment: str,
        stage: str,
        settings: Mapping[str, Any],
        axes: Mapping[str, str] | None = None,
    ) -> None:
        self._run = None
        if config.wandb != "disabled":
            self._run = _start_wandb(folder, config, experiment, stage, settings, axes or {})
        self._file = append_to_lines(folder / "metrics.jsonl")

    @property
    def in_wandb(self) -> bool:
        """Whether there is a W&B run, so that tables and artifacts are worth making."""
        return self._run is not None

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers of one step."""
        with writing(Path(self._file.name)):
            self._file.write(json.dumps({"time": round(time.time(), 3), "step": step, **metrics}) + "\n")
            self._file.flush()
        if self._run is not None:
            self._run.log(dict(metrics), step=step)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final results of the stage; nested mappings become dotted names in W&B."""
        if self._run is not None:
            self._run.summary.update(dict(values))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int | None = None) -> None:
        """A table of samples, shown in W&B; the artifact itself holds them anyway."""
        if self._run is not None:
            import wandb

            self._run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])}, step=step)

    def artifact(
        self, name: str, kind: str, folder: Path, metadata: Mapping[str, Any], uses: Mapping[str, str]
    ) -> None:
        """A W&B artifact that points at `folder` and at what it was made from; nothing is uploaded.

        Args:
            name: of the artifact, without a version.
            kind: W&B's type, such as `dataset` or `model`.
            folder: the files, which stay where they are.
            metadata: such as the fingerprint.
            uses: fingerprint by name of the artifacts it was made from. Online they become edges of the
                lineage graph; offline W&B allows no such edge, and the metadata alone holds them.
        """
        if self._run is None:
            return
        import wandb

        if not self._run.offline:
            for used in uses:
                with contextlib.suppress(wandb.errors.CommError, ValueError):  # type: ignore[attr-defined]
                    self._run.use_artifact(f"{used}:latest")
        made = wandb.Artifact(name, type=kind, metadata={**metadata, "made_from": dict(uses)})
        made.add_reference(folder.resolve().as_uri(), checksum=False)
        self._run.log_artifact(made)

    def finish(self, failed: bool = False) -> None:
        """Close the metrics file and end the W&B run."""
        self._file.close()
        if self._run is None:
            return
        import wandb

        try:
            self._run.finish(exit_code=1 if failed else 0)
        except (wandb.Error, OSError) as error:  # the stage's results are its artifact, which is whole
            _warn(f"W&B did not take the end of {self._run.name}: {error}. To send it later: personahub wandb sync")


def offline_runs(runs: Path) -> list[Path]:
    """Folders of W&B runs below `runs` that were written offline and not sent yet, oldest first."""
    found = [path for path in runs.glob("*/*/wandb/**/offline-run-*") if path.is_dir()]
    return sorted((path for path in found if not list(path.glob("*.synced"))), key=lambda path: path.name)


def sync(folders: Sequence[Path]) -> int:
    """Send offline runs to W&B with its own tool. Returns its exit code.

    Raises:
        UserError: nobody is logged in.
    """
    import wandb

    if not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise UserError("sending runs needs an account: run `wandb login`, or set WANDB_API_KEY")
    command = [sys.executable, "-m", "wandb", "sync", "--include-offline", *map(str, folders)]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - paths that were just listed


def _start_wandb(
    folder: Path,
    config: TrackingConfig,
    experiment: str,
    stage: str,
    settings: Mapping[str, Any],
    axes: Mapping[str, str],
) -> Any:
    for variable, name in (("WANDB_DIR", ""), ("WANDB_DATA_DIR", "data"), ("WANDB_CACHE_DIR", "cache")):
        os.environ.setdefault(variable, str(folder / "wandb" / name))
        Path(os.environ[variable]).mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    if config.wandb == "online" and not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise UserError("tracking.wandb=online needs an account: run `wandb login`, or set tracking.wandb=offline")

    def start(mode: Literal["offline", "online"]) -> Any:
        return wandb.init(
            mode=mode,
            project=config.project,
            entity=config.entity,
            group=experiment,
            job_type=stage.removesuffix("".join(f"-{value}" for value in axes.values())),
            name=f"{experiment}/{stage}",
            tags=list(config.tags),
            config={**settings, "matrix": dict(axes)} if axes else dict(settings),
            dir=str(folder / "wandb"),
            resume="allow",
            id=f"{experiment}-{stage}".replace("/", "-"),
            settings=wandb.Settings(
                init_timeout=config.timeout_s, finish_timeout=config.timeout_s, finish_timeout_raises=False
            ),
        )

    if config.wandb != "online":
        return start("offline")
    try:
        return start("online")
    except wandb.Error as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        wandb.teardown()  # it would refuse the id, which the lost run still has
        _warn(
            f"W&B cannot be reached, so {stage} is tracked offline ({first}). To send it later: personahub wandb sync"
        )
        return start("offline")


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
