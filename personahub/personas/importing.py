"""What the stages that import texts and personas share: origins, published data sets, and sharded output."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import pyarrow as pa
import yaml
from pydantic import Field, model_validator

from personahub.core.config import CONTENT_PATH, StageConfig
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast
from personahub.core.records import Row
from personahub.core.shards import shard_name
from personahub.core.stage import Stage
from personahub.core.texts.rows import EVERY_FILE, SourceRow
from personahub.personas.documents import FilePattern, HubSource, count_rows

PUBLISHED = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))


class OriginConfig(StageConfig):
    """Where a stage imports from: one of the fields in `origins`."""

    origins: ClassVar[tuple[str, ...]] = ("path", "hub")

    path: Annotated[str | None, CONTENT_PATH] = Field(default=None, description="A file or a folder of files.")
    pattern: FilePattern = Field(
        default=EVERY_FILE, description="Which files of a folder to read, such as '*.jsonl.gz'."
    )
    hub: HubSource | None = None
    limit: int | None = Field(default=None, gt=0, description="Maximum number of rows to read.")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(bool(getattr(self, name)) for name in self.origins) != 1:
            *names, last = (f"`{name}`" for name in self.origins)
            first = f"one of {', '.join(names)} and" if names[1:] else f"either {names[0]} or"
            raise ValueError(f"give {first} {last}")
        return self


def forecast_origin(config: OriginConfig) -> Forecast:
    """Counts the rows of the files, up to `limit`. The size of a hub data set is not requested."""
    if config.path is not None:
        rows = count_rows(Path(config.path), config.pattern)
        return Forecast(rows_out=min(rows, config.limit or rows))
    notes = () if config.limit else ("the size of the data set is not known: set `limit` for a forecast",)
    return Forecast(rows_out=config.limit or 0, notes=notes)


def fill_in(values: Any, key: str, known: Mapping[str, Mapping[str, Any]]) -> Any:
    """Adds the settings of the data set that `values[key]` names. Keys in `values` take precedence, also one level down.

    The location on the hub is only added to an existing `hub`, because the data set may be read from elsewhere.
    """
    if not isinstance(values, dict) or values.get(key) not in known:
        return values
    filled = dict(values)
    for name, setting in known[values[key]].items():
        if name == "hub" and not isinstance(values.get(name), dict):
            continue
        inner = isinstance(setting, dict) and isinstance(values.get(name), dict)
        filled[name] = {**setting, **values[name]} if inner else values.get(name, setting)
    return filled


class Imported(NamedTuple):
    """One record, and the reason to reject it, if any."""

    record: Row
    error: Rejected | None


def write_in_shards(
    stage: Stage[Any], rows: Iterator[SourceRow], convert: Callable[[SourceRow], Iterable[Imported]], schema: pa.Schema
) -> None:
    """Converts rows and writes one output shard for each `rows_per_shard` of them, up to `limit`.

    The rows of shards that an earlier run has written are only converted, so that `convert` can find duplicates of them.
    """
    config = stage.config
    numbered = enumerate(itertools.islice(rows, config.limit))
    with stage.progress(config.limit) as progress:
        for index, group in itertools.groupby(numbered, key=lambda pair: pair[0] // config.rows_per_shard):
            if (stage.path / f"{shard_name(index)}.parquet").exists():
                for _, raw in group:
                    for _ in convert(raw):
                        pass
                continue
            with stage.writer(shard_name(index), schema) as writer:
                for _, raw in group:
                    writer.rows_in += 1
                    progress.update(1)
                    for record, error in convert(raw):
                        if error is None:
                            writer.write(record)
                        else:
                            writer.reject(record, error)
