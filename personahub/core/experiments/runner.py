"""Running an experiment: stage after stage, each in its own process, finished ones left alone."""

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
from personahub.core.experiments.experiment import Experiment, PlannedStage, look_again, stale_error
from personahub.core.experiments.source import checkout_source
from personahub.core.files import locked, write_json, writing
from personahub.core.texts.figures import format_number, format_seconds

_KEPT_ON_REDO = {"journal"}  # completions whose key is unchanged are reused
# What a stage's process starts with where the user has not set it otherwise. OpenMP's threads spin while
# they wait, which takes 2-4 times the CPU time of a small model on a machine that does other work too.
# glibc's malloc gives the memory of every large tensor back and asks for it again at the next step, which
# a small model's training spends a fifth of its CPU time on; the thresholds are glibc's largest and 512 MiB.
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
    """The libraries' progress bars are for terminals; in a log they are noise."""
    return _ENVIRONMENT if sys.stderr.isatty() else {**_ENVIRONMENT, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


class StageFailedError(Exception):
    """A stage's process ended badly; it has already said why on stderr. `code` is the exit code to use."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def run_experiment(
    experiment: Experiment,
    only: Sequence[str] = (),
    redo: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> list[Manifest]:
    """Bring all stages, or those in `only` and what they need, to completion.

    Args:
        experiment: as loaded; its states say what there is to do.
        only: names of stages to stop at.
        redo: names of stages to make again, with all that depends on them.
        say: takes one line per stage.

    Returns:
        The manifests of the stages asked for, in order.

    Raises:
        UserError: a stale artifact, a second run of the same experiment at this time.
        StageFailedError: a stage's process failed.
    """
    names = experiment.needed(only) if only else list(experiment.stages)
    again = {dependent for name in redo for dependent in experiment.dependents(name)}
    with lock_experiment(experiment.folder) as lock:
        experiment = look_again(experiment)
        _refuse_stale_and_damaged(experiment, names, again)
        # What depends on others goes first: a kill in between leaves nothing whose inputs are gone.
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
            say(f"{head}  {_describe(_run_in_process(stage, lock, source))}")
    return [manifest for name in names if (manifest := read_manifest(experiment.stage(name).path)) is not None]


def _refuse_stale_and_damaged(experiment: Experiment, names: Sequence[str], again: set[str]) -> None:
    """All of it is checked before anything is spent."""
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
    with _stopping() as stop:
        # An interrupt waits until the stage's process can handle it, for it inherits that SIGINT is held: one amid
        # Python's own start would end in a traceback. A launcher would pass the hold on to what never lifts it.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, () if stage.entry.execution.launcher else {signal.SIGINT})
        try:
            # The lock travels: should this process die alone, a second run still sees that the stage is being made.
            process = subprocess.Popen(  # noqa: S603
                [*worker, str(stage.path / SPEC)], pass_fds=[lock], env={**_environment(), **os.environ}
            )
            stop.begin(process)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        code = process.wait()
    # By SIGINT itself ends a process that had done its work and was leaving; the stop is for what comes after it.
    if stop.asked or code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if code:
        reason = f"was killed by signal {-code}" + (" (out of memory?)" if code == -9 else "") if code < 0 else "failed"
        raise StageFailedError(f"stage {stage.name} {reason}; what it finished is kept", 2 if code == 2 else 1)
    manifest = read_manifest(stage.path)
    if manifest is None:
        raise StageFailedError(f"stage {stage.name} ended without a manifest", 1)
    return manifest


def _launcher(stage: PlannedStage) -> list[str]:
    """The command in front of the stage; programs installed beside this Python are found without activation."""
    if not stage.entry.execution.launcher:
        return [sys.executable]
    program, *words = stage.entry.execution.launcher
    beside = str(Path(sys.executable).parent)
    found = shutil.which(program) or shutil.which(program, path=beside)
    if found is None:
        raise UserError(
            f"stages.{stage.name}.execution.launcher: no program {program!r} on the PATH or in {beside}; "
            "install it, or set the launcher to [] to run one process"
        )
    return [found, *words]


class _Stop:
    """SIGTERM's handler: passes it on to the stage's process as an interrupt, and remembers."""

    def __init__(self) -> None:
        self.asked = False
        self.process: subprocess.Popen | None = None

    def __call__(self, *_: object) -> None:
        self.asked = True
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)

    def begin(self, process: subprocess.Popen) -> None:
        """What came while the process was being started reaches it now."""
        asked, self.process = self.asked, process
        if asked:
            process.send_signal(signal.SIGINT)


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """Pass SIGTERM on from before the stage's process is there, and never leave it behind."""
    stop = _Stop()
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield stop
    except KeyboardInterrupt:
        if stop.process is not None:
            _wait_for_the_end(stop.process)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
        if stop.process is not None and stop.process.poll() is None:
            stop.process.kill()
            stop.process.wait()


def _wait_for_the_end(process: subprocess.Popen) -> None:
    """The terminal interrupts the stage as well, unless it had not begun yet: then it is told after a moment."""
    for patience_s in (3, 30):
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            return
        process.send_signal(signal.SIGINT)


def lock_experiment(folder: Path) -> AbstractContextManager[int]:
    """Hold the experiment for this process and the stages it starts; see `locked`."""
    return locked(folder / ".lock", f"{folder}: another run of this experiment is under way; wait for it or stop it")


def _clear(stage: PlannedStage) -> None:
    """Remove what a stage made, the manifest first, so that a kill in between leaves no half that looks whole."""
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


def _describe(manifest: Manifest) -> str:
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
    return ", ".join([*parts, format_seconds(manifest.seconds)])
