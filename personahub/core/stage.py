"""A stage: a module with `VERSION`, `INPUTS`, a `Config` and `run(stage)`.

    VERSION = "1"                    # increase it when the same config gives different records
    INPUTS = ("personas",)           # names of upstream artifacts; "truth?" is optional

    class Config(StageConfig): ...

    def run(stage: Stage[Config]) -> None:
        stage.map_shards(process, stage.input("personas"), records.PERSONA)

    def process(stage: Stage[Config], shard: Shard) -> None:
        for row in shard.rows():
            ...
            shard.write(row)         # or shard.reject(row, Rejected("too_short"))

A stage that asks an engine is built from `prompts`, `parse` and `record`; see
`personahub.core.generation.llm_stage`. A module may also define `forecast(config, rows_in) -> Forecast`,
for `personahub plan`.
"""

from __future__ import annotations

import importlib
import re
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from personahub.core.artifact import Artifact, Counts, Origin, Usage, read_rows
from personahub.core.config import FrozenModel, StageConfig
from personahub.core.engines import EngineConfig, engine_config
from personahub.core.errors import Rejected, UserError
from personahub.core.executors import Executor, process_pool, run_tasks
from personahub.core.executors.progress import Progress
from personahub.core.executors.tasks import TaskBatch
from personahub.core.files import remove_temporary_files
from personahub.core.records import DOCUMENT, PERSONA, VERIFIED, Row
from personahub.core.shards import ShardWriter, shard_totals
from personahub.core.tracking.tracker import Tracker, TrackingConfig

C = TypeVar("C", bound=StageConfig)
_NETWORK_DELAY_S = 90.0  # until a file that another node wrote is visible here


class Execution(FrozenModel):
    """How a stage runs. Never part of a fingerprint."""

    executor: Executor = Field(
        default="serial",
        description="Where shards are processed. Stages that ask engines always use one process, which is enough for "
        "thousands of requests per second; to scale them, raise the engine's `replicas`.",
    )
    workers: int = Field(default=1, gt=0, description="Shards processed in parallel with `process` and `ray`.")
    shards_in_flight: int = Field(default=2, gt=0, description="Shards whose requests share one engine at a time.")
    quiet_s: float = Field(
        default=300, gt=0, description="Seconds without a finished row until a line reports it and names the shards."
    )
    shard_timeout_s: float | None = Field(
        default=None, gt=0, description="Time limit for a shard with `process`; a slower shard ends the stage."
    )
    launcher: tuple[str, ...] = Field(
        default=(), description="Command that starts the stage, such as [accelerate, launch]."
    )


class StageSpec(Origin):
    """Everything a stage's process needs, as written to `stage.json`."""

    engines: dict[str, dict[str, Any]]
    execution: Execution = Execution()
    tracking: TrackingConfig = TrackingConfig()
    axes: dict[str, str] = Field(default_factory=dict)


class Shard:
    """One input shard and the output shard made from it."""

    def __init__(self, source: Path, writer: ShardWriter, progress: Callable[[int], None]) -> None:
        self.name = writer.name
        self.writer = writer
        self.current_id: str | None = None  # of the row being processed, for error messages
        self._source = source
        self._progress = progress

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Yield the input rows and count them."""
        for row in read_rows(self._source, columns):
            self.writer.rows_in += 1
            self.current_id = row.get("id")
            yield row
            self.current_id = None
            self._progress(1)

    def wrong_input_hint(self, column: Any) -> str | None:
        """Return a hint if the input lacks a standard column. It then comes from the wrong stage."""
        columns = pq.read_schema(self._source).names
        if column in columns or not any(column in schema.names for schema in (DOCUMENT, PERSONA, VERIFIED)):
            return None
        return (
            f"{self._source.parent}: the records have no column {column!r}, only {', '.join(columns)}; "
            "under `inputs`, name the stage that makes records with this column"
        )

    def write(self, row: Row) -> None:
        """Add one output record. Keys that the schema lacks are left out, and missing keys become null."""
        self.writer.write(row)

    def reject(self, row: Row, error: Rejected, raw: str | None = None) -> None:
        """Add a rejected record with its reason."""
        self.writer.reject(row, error, raw)

    def count(self, name: str, number: int) -> None:
        """Add to a count that `Stage.totals` sums over all shards, in `Counts.noted`."""
        self.writer.count(name, number)


@dataclass
class Stage(Generic[C]):
    """A running stage: its config, inputs, engines, output folder and tracker."""

    spec: StageSpec
    path: Path
    config: C
    inputs: dict[str, Artifact]
    engines: dict[str, EngineConfig]
    tracker: Tracker | None = None
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.spec.stage

    def input(self, name: str) -> Artifact:
        """Return the upstream artifact called `name` in the YAML's `inputs:`."""
        return self.inputs[name]

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics of one step to metrics.jsonl and W&B."""
        if self.tracker is not None:
            self.tracker.log(metrics, step)

    def report(self, **results: Any) -> None:
        """Add results of the stage (JSON values) to the manifest's `summary`."""
        self.summary.update(results)

    def writer(self, shard: str, schema: pa.Schema) -> ShardWriter:
        """Return the writer of an output shard, for stages that do not map input shards."""
        return ShardWriter(self.path, shard, schema)

    def progress(self, total: int | None, unit: str = "rows", done: int = 0) -> Progress:
        """Return a progress bar labeled with the stage's name."""
        return Progress(self.name, total, unit, done, self.spec.execution.quiet_s)

    def pending(self, source: Artifact) -> list[str]:
        """Return the names of the source's shards that have no output yet."""
        return [name for name in source.shard_names if not (self.path / f"{name}.parquet").exists()]

    def map_shards(self, process: Callable[[Stage[C], Shard], None], source: Artifact, schema: pa.Schema) -> None:
        """Make one output shard from each input shard.

        Shards that exist are skipped.

        Args:
            process: a module-level function that reads `shard.rows()` and writes or rejects.
            source: the artifact to map over.
            schema: of the output records.
        """
        pending = self.pending(source)
        done = source.num_rows - sum(source.manifest.shards[name] for name in pending)
        with self.progress(source.num_rows, done=done) as progress:
            execution = self.spec.execution
            if execution.executor == "serial" or not pending or (execution.executor == "process" and len(pending) == 1):
                for name in pending:
                    _map_shard(self, process, source, name, schema, progress.update)
                return
            tracker, self.tracker = self.tracker, None  # open files cannot be pickled
            tasks = [(name, (self, process, source, name, schema, _no_progress)) for name in pending]

            def on_done(name: str) -> None:
                progress.update(source.manifest.shards[name])

            batch = TaskBatch(_map_shard, tasks, on_done, timeout_s=execution.shard_timeout_s)
            progress.describe_running = partial(process_pool.describe, batch.running)
            try:
                run_tasks(batch, execution.executor, execution.workers)
            finally:
                self.tracker = tracker
            if execution.executor == "ray":
                self._wait_for_shards(pending)
            elif left := self.pending(source):
                raise RuntimeError(f"shards were started but not written: {', '.join(left)}")
            remove_temporary_files(self.path)  # left by workers that were lost

    def _wait_for_shards(self, shards: Sequence[str]) -> None:
        """Wait until shards are visible.

        A network file system may show another node's files a minute late.

        Raises:
            UserError: a shard does not appear.
        """
        last = time.monotonic() + _NETWORK_DELAY_S
        while missing := set(shards) - {file.stem for file in self.path.glob("[0-9]*.parquet")}:
            if time.monotonic() > last:
                raise UserError(
                    f"{self.path}: {len(missing)} shards that workers wrote are missing, such as {min(missing)}; "
                    "make sure that this is the same folder on all nodes"
                )
            time.sleep(0.5)

    def totals(self) -> tuple[dict[str, int], Counts, Usage]:
        """Return the rows by shard, and counts and usage of all committed shards."""
        rows: dict[str, int] = {}
        counts, usage = Counts(), Usage()
        for file in sorted(self.path.glob("[0-9]*.parquet")):
            totals = shard_totals(file)
            assert totals is not None  # noqa: S101  (the file was just listed)
            rows[file.stem] = totals[0].rows_out
            counts, usage = counts.plus(totals[0]), usage.plus(totals[1])
        return rows, counts, usage


def _no_progress(_: int) -> None:
    """Ignore progress within a shard. Workers only report finished shards."""


def _map_shard(
    stage: Stage, process: Any, source: Artifact, name: str, schema: pa.Schema, progress: Callable[[int], None]
) -> None:
    with stage.writer(name, schema) as writer:
        shard = Shard(source.path / f"{name}.parquet", writer, progress)
        with error_context(shard):
            process(stage, shard)


@contextmanager
def error_context(shard: Shard, record: str | None = None) -> Iterator[None]:
    """Add the shard name and record id to an error as a note."""
    try:
        yield
    except Exception as error:
        if isinstance(error, KeyError) and (hint := shard.wrong_input_hint(error.args[0])):
            raise UserError(hint) from None
        record = record or shard.current_id
        if not isinstance(error, UserError) and not hasattr(error, "__notes__"):
            error.add_note(f"in shard {shard.name}{f', record {record}' if record else ''}")
            if isinstance(error, Rejected):
                error.add_note("to drop this record, catch the error and call shard.reject(row, error)")
        raise


def load_stage_module(name: str, where: str) -> types.ModuleType:
    """Import a stage's module by its dotted path.

    Raises:
        UserError: the module does not exist, or is not a stage.
    """
    if not re.fullmatch(r"\w+(\.\w+)*", name):
        raise UserError(f"{where}.run: {name!r} is not the dotted path of a module, such as personahub.sources")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise UserError(
                f"{where}.run: no module {name!r}; give the dotted path of a file, from the folder you run in"
            ) from None
        raise UserError(f"{where}.run: {name} needs the package {error.name!r}, which is not installed") from None
    missing = [part for part in ("VERSION", "INPUTS", "Config", "run") if not hasattr(module, part)]
    if missing:
        raise UserError(f"{where}.run: {name} is not a stage: it does not define {', '.join(missing)}")
    if not isinstance(module.VERSION, str):
        raise UserError(f'{where}.run: {name}: VERSION must be a string, such as "1" (got {module.VERSION!r})')
    if not (isinstance(module.Config, type) and issubclass(module.Config, StageConfig)):
        raise UserError(f"{where}.run: {name}: Config must be a subclass of personahub.core.config.StageConfig")
    return module


def open_engines(spec: StageSpec) -> dict[str, EngineConfig]:
    """Return the engine configs of a spec, validated again in the stage's own process."""
    return {name: engine_config(values, f"engines.{name}") for name, values in spec.engines.items()}
