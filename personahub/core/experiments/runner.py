"""Run an experiment stage by stage, each in its own process. Finished stages are kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from personahub.core.artifact import MANIFEST, SPEC, Manifest, Source, read_manifest
from personahub.core.errors import UserError
from personahub.core.experiments.experiment import Experiment, PlannedStage, refresh_states, stale_error
from personahub.core.experiments.source import checkout_source
from personahub.core.files import locked, write_json, writing
from personahub.core.texts.figures import format_number, format_seconds

_KEPT_ON_REDO = {"journal"}  # completions whose key is unchanged are reused
# Environment of a stage's process, unless the user has set these variables. OpenMP threads spin while they
# wait, which takes 2-4 times the CPU time of a small model on a machine that does other work too. glibc's
# malloc returns the memory of every large tensor to the system and requests it again at the next step, which
# takes a fifth of the CPU time of a small model's training. The thresholds are glibc's maximum and 512 MiB.
_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(512 << 20),
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def _environment() -> dict[str, str]:
    """Return the variables above. Without a terminal, libraries also show no progress bars."""
    return _ENVIRONMENT if sys.stderr.isatty() else {**_ENVIRONMENT, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


class StageFailedError(Exception):
    """A stage's process failed and has printed the reason on stderr. `code` is the exit code to use."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def run_experiment(
    experiment: Experiment,
    only: Sequence[str] = (),
    redo: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> list[Manifest]:
    """Complete all stages, or those in `only` and the stages they need.

    Args:
        experiment: the loaded experiment. Its states determine what is left to do.
        only: names of stages to stop at.
        redo: names of stages to make again, with all stages that depend on them.
        say: called with one line per stage.

    Returns:
        The manifests of the requested stages, in order.

    Raises:
        UserError: an artifact is stale, or another run of the same experiment is active.
        StageFailedError: a stage's process failed.
    """
    names = experiment.needed(only) if only else list(experiment.stages)
    again = {dependent for name in redo for dependent in experiment.dependents(name)}
    with lock_experiment(experiment.folder) as lock:
        experiment = refresh_states(experiment)
        _refuse_stale_and_damaged(experiment, names, again)
        # Dependent stages are removed first, so that a kill never leaves an artifact without its inputs.
        for stage in reversed(list(experiment.stages.values())):
            if stage.name in again:
                _clear(stage)
        width = max(len(name) for name in names)
        source = checkout_source()
        for number, name in enumerate(names, 1):
            stage = experiment.stage(name)
            head = f"[{number:>{len(str(len(names)))}}/{len(names)}] {name:<{width}}"
            if stage.state == "cached" and name not in again:
                say(f"{head}  cached")
                continue
            say(f"{head}  {_describe(_run_in_process(stage, lock, source), stage.path)}")
    return [manifest for name in names if (manifest := read_manifest(experiment.stage(name).path)) is not None]


def _refuse_stale_and_damaged(experiment: Experiment, names: Sequence[str], again: set[str]) -> None:
    """Check all stages before any of them costs anything."""
    for name in names:
        stage = experiment.stage(name)
        if name in again:
            continue
        if stage.state == "damaged":
            raise UserError(stage.found["damage"])
        if stage.state == "stale":
            raise stale_error(stage)


def _run_in_process(stage: PlannedStage, lock: int, source: Source | None) -> Manifest:
    assert stage.spec is not None  # noqa: S101  (adopted stages are always cached)
    with writing(stage.path):
        stage.path.mkdir(parents=True, exist_ok=True)
    spec = stage.spec.model_copy(update={"source": source})
    write_json(stage.path / SPEC, spec.model_dump(mode="json"))
    worker = [*_launcher(stage), "-m", "personahub.core.experiments.stage_process"]
    with _forwarding_sigterm() as stop:
        # Block SIGINT, which the stage's process inherits, until that process can handle it: an interrupt during
        # Python's startup would end in a traceback. Not with a launcher, whose other children would never unblock it.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, () if stage.entry.execution.launcher else {signal.SIGINT})
        try:
            # The stage inherits the lock, so if only this process dies, a second run still sees that the stage is running.
            process = subprocess.Popen(  # noqa: S603
                [*worker, str(stage.path / SPEC)], pass_fds=[lock], env={**_environment(), **os.environ}
            )
            stop.attach(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        code = process.wait()
    # A process that was already exiting ends with SIGINT itself; then the stop is meant for the next stages.
    if stop.asked or code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code:
        reason = f"was killed by signal {-code}" + (" (out of memory?)" if code == -9 else "") if code < 0 else "failed"
        raise StageFailedError(f"stage {stage.name} {reason}; finished shards are kept", 2 if code == 2 else 1)
    manifest = read_manifest(stage.path)
    if manifest is None:
        raise StageFailedError(f"stage {stage.name} ended without a manifest", 1)
    return manifest


def _launcher(stage: PlannedStage) -> list[str]:
    """Return the command that starts the stage. Programs next to this Python are found without activation."""
    if not stage.entry.execution.launcher:
        return [sys.executable]
    program, *words = stage.entry.execution.launcher
    bin_folder = str(Path(sys.executable).parent)
    found = shutil.which(program) or shutil.which(program, path=bin_folder)
    if found is None:
        raise UserError(
            f"stages.{stage.name}.execution.launcher: no program {program!r} on the PATH or in {bin_folder}; "
            "install it, or set the launcher to [] to run one process"
        )
    return [found, *words]


class _Stop:
    """Handler of SIGTERM that interrupts the stage's process and remembers the signal."""

    def __init__(self) -> None:
        self.asked = False
        self.process: subprocess.Popen | None = None

    def __call__(self, *_: object) -> None:
        self.asked = True
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)

    def attach(self, process: subprocess.Popen) -> None:
        """Set the process, and forward a signal that arrived while it was starting."""
        asked, self.process = self.asked, process
        if asked:
            process.send_signal(signal.SIGINT)


@contextmanager
def _forwarding_sigterm() -> Iterator[_Stop]:
    """Forward SIGTERM to the stage's process. Starts before the process and never leaves it running."""
    stop = _Stop()
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield stop
    except KeyboardInterrupt:
        if stop.process is not None:
            _wait_for_exit(stop.process)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
        if stop.process is not None and stop.process.poll() is None:
            stop.process.kill()
            stop.process.wait()


def _wait_for_exit(process: subprocess.Popen) -> None:
    """Wait for the stage to exit. The terminal has interrupted it too, but maybe before it could handle that."""
    for timeout_s in (3, 30):
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
            return
        process.send_signal(signal.SIGINT)


def lock_experiment(folder: Path) -> AbstractContextManager[int]:
    """Lock the experiment for this process and the stages it starts; see `locked`."""
    return locked(folder / ".lock", f"{folder}: another run of this experiment is in progress; wait for it or stop it")


def _clear(stage: PlannedStage) -> None:
    """Remove what a stage made. The manifest goes first, so that a kill leaves nothing that looks complete."""
    if stage.spec is None or not stage.path.is_dir():
        return
    with writing(stage.path):
        (stage.path / MANIFEST).unlink(missing_ok=True)
        for item in stage.path.iterdir():
            if item.name in _KEPT_ON_REDO:
                continue
            if item.is_dir():
                shutil.rmtree(item)
            else:
                item.unlink()


def _describe(manifest: Manifest, path: Path) -> str:
    counts = manifest.counts
    parts = [f"{counts.rows_in:,} -> {counts.rows_out:,} records" if counts.rows_in else f"{counts.rows_out:,} records"]
    if not counts.rows_in and not counts.rows_out:
        parts = ["done"]
    if counts.rejected:
        most = sorted(counts.rejected.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{reason} {number:,}" for reason, number in most[:3])
        parts.append(f"{sum(counts.rejected.values()):,} rejected ({shown}{', ...' if len(most) > 3 else ''})")
    usage = manifest.usage
    if usage.requests:
        tokens = format_number(usage.prompt_tokens + usage.completion_tokens)
        parts.append(
            f"{usage.requests:,} requests, {tokens} tokens" + (f", ${usage.cost_usd:.2f}" if usage.cost_usd else "")
        )
    line = ", ".join([*parts, format_seconds(manifest.seconds)])
    if counts.rejected and not counts.rows_out:
        line += f"; for the reasons: personahub show {path} --rejected"
    return line
