"""`personahub forget`: take a record, and all that was made from it, out of an experiment.

    personahub forget 3f9a... --experiment runs/quickstart           # says what would go
    personahub forget 3f9a... --experiment runs/quickstart --yes

For takedown requests: the id is that of a web text, a persona, a problem or any other record. What was made
from it is found through the lineage columns that every record has, stage by stage: a text's personas, the
personas related to them, their problems, solutions, votes, training examples and graded answers, rejected
records and what a simulated teacher knew of them included. All of it leaves the Parquet shards and the
exported JSON Lines. Reports are removed and made anew by the next `run`; journals of completions and W&B's files,
in which a record cannot be found again, are removed where their stage held one (what they cost stays on record). An
experiment with an unfinished stage is refused, because what that stage holds cannot be told yet.

A fingerprint says how an artifact was made and stays as it is, so nothing downstream is made again; the
manifest counts what was forgotten. What cannot be undone is listed: a model keeps what it learned, W&B what it was
sent, and a source that still holds the text gives it back when its stage is run again.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from personahub.commands.cache import remove_completions
from personahub.core.artifact import MANIFEST, SPEC, Artifact, open_artifact
from personahub.core.errors import UserError
from personahub.core.experiments.runner import lock_experiment
from personahub.core.files import replacing, write_json
from personahub.core.records import Row

_ID = re.compile(r"(^|_)ids?(_|$)")  # id, persona_id, record_id, persona_id_a, ...
_JOURNAL = "journal"
_WANDB = "wandb"
_PAGE = "index.html"


@dataclass
class Forgotten:
    """What goes from one stage: records, other rows (rejected, exported, truth), and whole things by name."""

    stage: str
    going: list[Row] = field(default_factory=list, repr=False)
    other_rows: int = 0
    journals: int = 0
    wandb: bool = False  # its W&B runs, whose tables show some records
    removed: bool = False  # the whole artifact, which the next run makes again
    trained: bool = False  # a model that saw a record and keeps what it learned
    files: list[Path] = field(default_factory=list)

    @property
    def records(self) -> int:
        return len(self.going)

    @property
    def touched(self) -> bool:
        return bool(self.files or self.removed or self.trained)


def forget(experiment: Path, record: str, write: bool) -> list[Forgotten]:
    """Find, and with `write` remove, a record and all that was made from it.

    Args:
        experiment: the run's folder, such as `runs/quickstart`.
        record: the id of a record of any stage.
        write: False only looks.

    Returns:
        What goes, or went, from each stage that is concerned, in the order in which stages were made.

    Raises:
        UserError: no such experiment or id, the experiment is running, or, to `write`, one of its stages is unfinished.
    """
    if not any(experiment.glob(f"*/{MANIFEST}")):
        raise UserError(f"{experiment}: no experiment with finished stages; name a folder such as runs/quickstart")
    with lock_experiment(experiment):
        artifacts = _ordered(experiment)
        ids = descendants(artifacts, record)
        if not ids:
            raise UserError(f"{experiment}: no stage has a record {record!r}; ids are shown by `personahub show`")
        found = [_look(artifact, ids) for artifact in artifacts]
        _mark_downstream(artifacts, found)
        if write:
            _refuse_unfinished(experiment)
            # What was made last goes first: after a kill, what is not gone yet is still found through what it was made from.
            for artifact, each in reversed(list(zip(artifacts, found, strict=True))):
                _remove(artifact, each, ids)
    return [each for each in found if each.touched]


def descendants(artifacts: list[Artifact], record: str) -> set[str]:
    """The id and those of all records that name it, or one of these, in a lineage column; empty if nothing has it."""
    wanted, known = {record}, False
    while True:
        before = len(wanted)
        for artifact in artifacts:
            for file in _shards(artifact):
                table = _id_columns(file)
                hit = _mentions(table, wanted)
                known = known or bool(pc.call_function("any", [hit]).as_py())
                if "id" in table.column_names:
                    wanted.update(table.filter(hit)["id"].to_pylist())
        wanted.discard(None)  # pyright: ignore[reportArgumentType] - a null in a damaged artifact
        if len(wanted) == before:
            return wanted if known else set()


def _ordered(experiment: Path) -> list[Artifact]:
    artifacts = [open_artifact(path.parent) for path in experiment.glob(f"*/{MANIFEST}")]
    return sorted(artifacts, key=lambda artifact: (artifact.manifest.created, artifact.name))


def _refuse_unfinished(experiment: Path) -> None:
    for spec in sorted(experiment.glob(f"*/{SPEC}")):
        if not (spec.parent / MANIFEST).exists():
            raise UserError(
                f"{spec.parent}: is unfinished and may hold it, or its completions in the journal: run the experiment to "
                "its end, or remove that folder, and forget it then"
            )


def _shards(artifact: Artifact) -> Iterator[Path]:
    for name in artifact.shard_names:
        yield artifact.path / f"{name}.parquet"


def _id_columns(file: Path) -> pa.Table:
    schema = pq.read_schema(file)
    return pq.read_table(file, columns=[f.name for f in schema if _ID.search(f.name) and pa.types.is_string(f.type)])


def _mentions(table: pa.Table, ids: set[str]) -> pa.ChunkedArray | pa.Array:
    """Per row, whether any of its id columns is among `ids`."""
    values = pa.array(sorted(ids), pa.string())
    hit: Any = pa.array([False] * table.num_rows, pa.bool_())  # a shard may be empty
    for column in table.columns:
        hit = pc.call_function("or", [hit, pc.call_function("is_in", [column], pc.SetLookupOptions(values))])
    return hit


def _names_one(value: Any, ids: set[str]) -> bool:
    """Whether a JSON value holds one of `ids` under a key for ids, at any depth."""
    if isinstance(value, Mapping):
        return any((_ID.search(key) and below in ids) if isinstance(below, str) else _names_one(below, ids)
                   for key, below in value.items())  # fmt: skip
    return isinstance(value, list) and any(_names_one(below, ids) for below in value)


def _look(artifact: Artifact, ids: set[str]) -> Forgotten:
    found = Forgotten(artifact.name)
    for file in _shards(artifact):
        hit = _mentions(_id_columns(file), ids)
        if pc.call_function("any", [hit]).as_py():
            found.going += pq.read_table(file).filter(hit).to_pylist()
            found.files.append(file)
    for file in _beside(artifact):
        rows = sum(1 for gone, _ in _judged(file, ids, found.going) if gone)
        found.other_rows += rows
        found.files += [file] if rows else []
    if found.files:
        found.journals = len(list((artifact.path / _JOURNAL).glob("*.jsonl")))
        found.wandb = (artifact.path / _WANDB).is_dir()
    return found


def _beside(artifact: Artifact) -> Iterator[Path]:
    """Files with rows that are no shards: rejected records, truth, exports, validation samples."""
    for file in sorted(artifact.path.rglob("*")):
        inner = file.relative_to(artifact.path)
        if inner.parts[0] in (_JOURNAL, _WANDB) or inner.name == "metrics.jsonl" or file.is_symlink():
            continue
        if file.suffix == ".jsonl" or (file.suffix == ".parquet" and len(inner.parts) > 1):
            yield file


def _judged(file: Path, ids: set[str], going: Sequence[Row]) -> Iterator[tuple[bool, Any]]:
    """Whether each row goes, and the row: a line of JSON, or a record of a Parquet file.

    An exported line has no id; it goes when it says what a record says that goes.
    """
    if file.suffix == ".jsonl":
        said: dict[tuple[str, ...], set[str]] = {}
        with file.open(encoding="utf-8") as lines:  # not `splitlines`, which parts texts at U+2028 too
            for line in lines:
                content = json.loads(line)
                keys = tuple(content)
                if keys not in said:
                    said[keys] = {_as_text(row, keys) for row in going if row.keys() >= content.keys()}
                yield _names_one(content, ids) or _as_text(content, keys) in said[keys], line
        return
    for row in pq.read_table(file).to_pylist():
        record = row.get("record")
        inside = _names_one(json.loads(record), ids) if isinstance(record, str) else False
        yield inside or _names_one(row, ids), row


def _as_text(row: Row, keys: Sequence[str]) -> str:
    return json.dumps([row[key] for key in keys], sort_keys=True)


def _mark_downstream(artifacts: list[Artifact], found: list[Forgotten]) -> None:
    """Stages that were made from what goes and have no records to take out: pages and models."""
    changed = {artifact.fingerprint for artifact, each in zip(artifacts, found, strict=True) if each.files}
    for artifact, each in zip(artifacts, found, strict=True):
        if not any(used.fingerprint in changed for used in artifact.manifest.inputs.values()):
            continue
        each.removed = (artifact.path / _PAGE).exists()
        each.trained = (artifact.path / "model").is_dir()


def _remove(artifact: Artifact, found: Forgotten, ids: set[str]) -> None:
    if found.removed:
        (artifact.path / MANIFEST).unlink()
        shutil.rmtree(artifact.path)
        return
    if found.files and (artifact.path / _JOURNAL).is_dir():
        remove_completions(artifact.path / _JOURNAL)
    if found.wandb:
        shutil.rmtree(artifact.path / _WANDB)
    shards = set(_shards(artifact))
    for file in (file for file in found.files if file not in shards):
        _rewrite_rows(file, ids, found.going)
    for file in (file for file in found.files if file in shards):
        _rewrite_shard(file, ids)
    _count(artifact, found)


def _rewrite_shard(file: Path, ids: set[str]) -> None:
    table = pq.read_table(file)
    kept = table.filter(pc.call_function("invert", [_mentions(_id_columns(file), ids)]))
    _replace(file, kept)


def _replace(file: Path, table: pa.Table) -> None:
    metadata = pq.read_metadata(file).metadata or {}
    ours = {key: value for key, value in metadata.items() if key == b"personahub"}
    with (
        replacing(file) as temporary,
        pq.ParquetWriter(temporary, table.schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        writer.write_table(table)
        writer.add_key_value_metadata(ours)


def _rewrite_rows(file: Path, ids: set[str], going: Sequence[Row]) -> None:
    """Write the file without the rows that go."""
    kept = [row for gone, row in _judged(file, ids, going) if not gone]
    if file.suffix == ".jsonl":
        with replacing(file) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
    else:
        _replace(file, pa.Table.from_pylist(kept, schema=pq.read_schema(file).remove_metadata()))


def _count(artifact: Artifact, found: Forgotten) -> None:
    """Have the manifest say what is there now, also where an earlier try was killed before it could."""
    manifest = artifact.manifest
    shards = {file.stem: pq.read_metadata(file).num_rows for file in _shards(artifact)}
    reasons = Counter(row["reason"] for row in artifact.rejected())
    counts = manifest.counts.model_copy(
        update={
            "rows_out": manifest.counts.rows_out - artifact.num_rows + sum(shards.values()),
            "rejected": dict(sorted(reasons.items())),
        }
    )
    if not found.files and (shards, counts) == (manifest.shards, manifest.counts):
        return
    forgotten = manifest.forgotten + found.records + found.other_rows
    changed = manifest.model_copy(update={"shards": shards, "counts": counts, "forgotten": forgotten})
    write_json(artifact.path / MANIFEST, changed.model_dump(mode="json"))


def describe(found: list[Forgotten], done: bool) -> str:
    """What went, or would go, in lines."""
    lines = []
    for each in found:
        parts = [f"{each.records:,} records"] if each.records else []
        parts += [f"{each.other_rows:,} rejected or exported rows"] if each.other_rows else []
        parts += [f"{each.journals} journals"] if each.journals else []
        parts += ["W&B's files; what it was sent is to be deleted there"] if each.wandb else []
        parts += ["the report, which the next run makes again"] if each.removed else []
        parts += ["nothing: its model keeps what it learned until `run --redo`"] if each.trained else []
        lines.append(f"{each.stage}: {', '.join(parts)}")
    if done:
        lines.append("Gone. A source that still holds the text gives it back when its stage is run again.")
    else:
        lines.append("Nothing is removed yet: --yes does it.")
    return "\n".join(lines)
