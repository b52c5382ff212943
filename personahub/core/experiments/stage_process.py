"""The process of one stage.

`run` starts it with the path of a `stage.json`. Every stage has its own process, so that vLLM and TRL never share a
GPU context and memory is freed when a stage ends. `run_stage` does the same in the current process, for tests and
notebooks.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import resource
import shlex
import signal
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

from personahub.core.artifact import FORMAT, MANIFEST, SPEC, Artifact, Manifest, Origin, open_artifact
from personahub.core.config import parse_config
from personahub.core.errors import UserError
from personahub.core.files import disk_error, remove_temporary_files, write_json
from personahub.core.stage import Stage, StageSpec, load_stage_module, open_engines
from personahub.core.tracking.tracker import Tracker, artifact_name

COMMAND_VARIABLE = "PERSONAHUB_COMMAND"  # the user's command line, for the manifest

_RESTORE = "restore it, or remove what is left of it to start over"
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of `ru_maxrss`

_SAMPLES = 50  # records in a W&B table
_MAX_CELL_CHARACTERS = 4000

_PACKAGES = (
    "persona-hub-harness",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "vllm",
    "datasets",
    "sympy",
    "math-verify",
)


def run_stage(spec: StageSpec, path: Path) -> Artifact:
    """Run one stage into `path` and write its manifest.

    Raises:
        UserError: an input is missing or has changed, or the stage raises it.
    """
    _run(spec, path)
    return open_artifact(path)


def _run(spec: StageSpec, path: Path) -> None:
    """Run one stage. Only the first rank writes the manifest, so other ranks must not open it."""
    started = time.monotonic()
    module = load_stage_module(spec.module, f"stages.{spec.stage}")
    stage = Stage(
        spec=spec,
        path=path,
        config=parse_config(module.Config, spec.config, f"stages.{spec.stage}.config"),
        inputs={
            name: _open_input(name, reference.path, reference.fingerprint) for name, reference in spec.inputs.items()
        },
        engines=open_engines(spec),
    )
    path.mkdir(parents=True, exist_ok=True)
    if _is_main_rank():  # other ranks may get here when the first one is writing already
        remove_temporary_files(path)
    had_spec = (path / SPEC).exists()
    stage.tracker = (
        Tracker(path, spec.tracking, spec.experiment, spec.stage, spec.identity, spec.axes) if _is_main_rank() else None
    )
    finished = False
    try:
        module.run(stage)
        if had_spec and not (path / SPEC).exists():
            raise UserError(f"{path} disappeared while the stage ran, together with its finished shards; {_RESTORE}")
        if _is_main_rank():
            _write_manifest(stage, time.monotonic() - started)
            _track_artifact(stage)
        finished = True
    finally:
        if stage.tracker is not None:
            stage.tracker.finish(failed=not finished)


def _is_main_rank() -> bool:
    """Return whether this is the rank that tracks and writes. With `accelerate launch`, all ranks run the stage."""
    return os.environ.get("RANK", "0") == "0"


def _open_input(name: str, path: str, fingerprint: str) -> Artifact:
    artifact = open_artifact(path)
    if artifact.fingerprint != fingerprint:
        raise UserError(f"input {name!r}: {path} has changed since this run was planned; start the run again")
    return artifact


def _write_manifest(stage: Stage, seconds: float) -> None:
    shards, counts, usage = stage.totals()
    if stage.tracker is not None:
        rejected = {f"rejected/{reason}": number for reason, number in counts.rejected.items()}
        stage.tracker.summary({"rows_in": counts.rows_in, "rows_out": counts.rows_out, **rejected, **stage.summary})
    manifest = Manifest(
        format=FORMAT,
        **{name: getattr(stage.spec, name) for name in Origin.model_fields},
        shards=shards,
        counts=counts,
        usage=usage,
        summary=stage.summary,
        seconds=round(seconds, 3),
        cpu_seconds=round(sum(os.times()[:4]), 2),
        peak_bytes=_peak_bytes(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=installed_versions(),
        command=os.environ.get(COMMAND_VARIABLE) or shlex.join(sys.argv),
    )
    write_json(stage.path / MANIFEST, manifest.model_dump(mode="json"))


def _peak_bytes() -> int:
    """Return the peak resident memory of this process or of an ended child process."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * _RSS_UNIT
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        own = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, ValueError, IndexError):  # not on Linux, where ru_maxrss includes the parent before exec
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
    return max(own, children)


def _track_artifact(stage: Stage) -> None:
    """Log some records and the artifact with its inputs to W&B."""
    tracker, artifact = stage.tracker, open_artifact(stage.path)
    if tracker is None or not tracker.in_wandb:
        return
    for name, rows in (("samples", artifact.rows()), ("rejected", artifact.rejected())):
        shown = list(islice(rows, _SAMPLES))
        if shown:
            columns = list(shown[0])
            tracker.table(name, columns, [[_table_cell(row[column]) for column in columns] for row in shown])
    manifest = artifact.manifest
    tracker.artifact(
        f"{manifest.experiment}-{manifest.stage}",
        "model" if (stage.path / "model").is_dir() else "dataset",
        stage.path,
        {
            "fingerprint": manifest.fingerprint,
            "module": manifest.module,
            "version": manifest.version,
            "rows": artifact.num_rows,
            "rejected": manifest.counts.rejected,
        },
        {artifact_name(used.path): used.fingerprint for used in manifest.inputs.values()},
    )


def _table_cell(value: Any) -> str | int | float | bool | None:
    """Return the value of a table's cell. Long texts are cut, because the artifact has them."""
    if isinstance(value, int | float | bool) or value is None:
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_CELL_CHARACTERS else text[:_MAX_CELL_CHARACTERS] + " ..."


def installed_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can affect results."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def main(arguments: list[str] | None = None) -> int:
    """Run the stage whose `stage.json` is named on the command line. Return the exit code."""
    (spec_file,) = sys.argv[1:] if arguments is None else arguments
    path = Path(spec_file)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see `runner`: one may be pending
        _run(StageSpec.model_validate(json.loads(path.read_text(encoding="utf-8"))), path.parent)
    except UserError as error:
        print(f"error: {path.parent.name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        line = disk_error(error, path.parent)
        if line is None:
            raise
        print(f"error: {path.parent.name}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
