"""Experiment tracking to `metrics.jsonl`, and to Weights & Biases if configured.

A stage is one W&B run, with the experiment as its group and the stage as its job type. The runs of a stage
with `foreach` share a job type and have `matrix.arm`, `matrix.seed` and so on in their configs to group by.
docs/experiments.md describes a workspace. Offline runs and W&B's own files stay in the stage's folder.

An error of W&B ends the tracking of a stage, but never the stage.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from personahub.core.config import FrozenModel
from personahub.core.errors import UserError
from personahub.core.files import append_to_lines, writing

RUN_ID = Path("wandb", "id")  # in a stage's folder
UNSENT = "unsent"  # in a W&B run's folder until the finished run is uploaded
_SYNC_HINT = "to upload it later: personahub wandb sync"


class TrackingConfig(FrozenModel):
    """The YAML's `tracking:` section. Never part of a fingerprint."""

    wandb: Literal["disabled", "offline", "online"] = "disabled"
    project: str = Field(default="persona-hub", pattern=r"^[^/\\#?%:]{1,128}$")
    entity: str | None = None
    tags: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = ()
    timeout_s: float = Field(
        default=60, gt=0, description="Time limit for W&B to start or finish a run; then it is tracked offline."
    )


class Tracker:
    """Writes a stage's metrics. `step` is the stage's own counter, such as the optimizer step."""

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
        self._failed = False
        self._name = f"{experiment}/{stage}"
        if config.wandb != "disabled":
            self._run = _start_wandb(folder, config, experiment, stage, settings, axes or {})
        self._file = append_to_lines(folder / "metrics.jsonl")

    @property
    def in_wandb(self) -> bool:
        """Whether there is a W&B run, which can take tables and artifacts."""
        return self._run is not None

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics of one step."""
        with writing(Path(self._file.name)):
            self._file.write(json.dumps({"time": round(time.time(), 3), "step": step, **metrics}) + "\n")
            self._file.flush()
        self._send(lambda run: run.log(dict(metrics), step=step))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Log the final results of the stage. W&B shows nested mappings as dotted names."""
        self._send(lambda run: run.summary.update(dict(values)))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], step: int | None = None) -> None:
        """Log a table of samples to W&B. The artifact on disk has them too."""

        def log_table(run: Any) -> None:
            import wandb

            run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])}, step=step)

        self._send(log_table)

    def artifact(
        self, name: str, kind: str, folder: Path, metadata: Mapping[str, Any], uses: Mapping[str, str]
    ) -> None:
        """Log a W&B artifact that refers to `folder` and to its inputs.

        No file is uploaded.

        Args:
            name: name of the artifact, without a version.
            kind: W&B's type, such as `dataset` or `model`.
            folder: the folder of the files, which are not copied.
            metadata: includes the `fingerprint`, whose first characters become an alias. Others may run an
                experiment of the same name in the same project, so the latest version may not be the one used.
            uses: fingerprints of the input artifacts, by name. Online they become edges of the lineage graph.
                Offline, W&B does not support such edges, and only the metadata has them.
        """

        def log_artifact(run: Any) -> None:
            import wandb

            made = wandb.Artifact(name, type=kind, metadata={**metadata, "made_from": dict(uses)})
            made.add_reference(folder.resolve().as_uri(), checksum=False)
            run.log_artifact(made, aliases=["latest", alias_of(metadata["fingerprint"])])
            for used, fingerprint in uses.items() if not run.offline else ():
                try:
                    run.use_artifact(f"{used}:{alias_of(fingerprint)}")
                except (wandb.errors.CommError, ValueError):  # type: ignore[attr-defined]
                    continue  # the input was made without W&B

        self._send(log_artifact)

    def finish(self, failed: bool = False) -> None:
        """Close the metrics file and end the W&B run."""
        self._file.close()
        if self._run is None:
            return
        try:
            self._run.finish(exit_code=1 if failed else 0)
            if not self._failed:
                (Path(self._run.settings.sync_dir) / UNSENT).unlink(missing_ok=True)
        except Exception as error:  # noqa: BLE001 - see the module docstring
            _warn(f"W&B could not finish {self._name}: {_first_line(error)}; {_SYNC_HINT}")

    def _send(self, action: Callable[[Any], object]) -> None:
        if self._run is None or self._failed:
            return
        try:
            action(self._run)
        except Exception as error:  # noqa: BLE001 - see the module docstring; W&B raises many types
            self._failed = True
            _warn(f"W&B stopped tracking {self._name}: {_first_line(error)}; metrics.jsonl continues; {_SYNC_HINT}")


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

    known, id_ = _run_id(folder / RUN_ID, f"{experiment}-{stage}")

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
            resume="allow" if known else None,  # `wandb sync` would append to a new run with "allow"
            id=id_,
            settings=wandb.Settings(
                init_timeout=config.timeout_s, finish_timeout=config.timeout_s, finish_timeout_raises=True
            ),
        )

    modes: list[Literal["online", "offline"]] = ["online", "offline"] if config.wandb == "online" else ["offline"]
    for mode in modes:
        try:
            run = start(mode)
        except wandb.errors.UsageError as error:  # type: ignore[attr-defined]
            raise UserError(f"tracking: {_first_line(error)}") from None
        except Exception as error:  # noqa: BLE001 - see the module docstring
            instead = f"is tracked offline ({_SYNC_HINT})" if mode == "online" else "is not tracked there"
            _warn(f"W&B could not start {stage}, which {instead}: {_first_line(error)}")
            with suppress(Exception):
                wandb.teardown()  # otherwise the failed run would still use the id
        else:
            if mode == "online":
                (Path(run.settings.sync_dir) / UNSENT).touch()
            return run
    return None


def _run_id(file: Path, name: str) -> tuple[bool, str]:
    """Return whether a stage's folder has a W&B run, and its id.

    A resumed stage continues its run. Each folder has its own id, so that one project may have many runs of an
    experiment. W&B does not allow some characters, or more than 128
    (https://docs.wandb.ai/ref/python/functions/init).
    """
    if file.exists() and (known := file.read_text()):
        return True, known
    id_ = f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)[:100]}-{secrets.token_hex(4)}"
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(id_)
    return False, id_


def artifact_name(path: str) -> str:
    """Return the W&B name of the artifact in a stage's folder."""
    return "-".join(Path(path).parts[-2:])


def alias_of(fingerprint: str) -> str:
    """Return the alias of a version of a W&B artifact."""
    return fingerprint[:12]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
