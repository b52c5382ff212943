"""Remove a record, and everything made from it, from an experiment.

For takedown requests.

    personahub forget 3f9a... --experiment runs/quickstart           # lists what would be removed
    personahub forget 3f9a... --experiment runs/quickstart --yes

ID is the id of a web text, a persona, a problem or any other record. The lineage columns of the
records lead to everything made from it: a text's personas, the personas related to them, their
problems, solutions, votes, training examples and graded answers, including rejected records and
the simulated teacher's true answers. All of these are removed from the Parquet shards and the
exported JSON Lines. Three things are deleted as a whole: reports, which the next `run` makes again,
and, for each stage that held one of the records, the journal of completions (its cost stays on
record) and W&B's files, because single records cannot be found in these. An experiment with an
unfinished stage is refused, because that stage may hold more records.

Fingerprints do not change, so nothing downstream is made again; the manifests count the forgotten
records. The output also lists what cannot be undone: a model keeps what it learned, W&B keeps what
it was sent, and a source that still holds the text returns it when its stage runs again.
"""

from __future__ import annotations

import argparse
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

from personahub.commands.cache import delete_completions
from personahub.core.artifact import MANIFEST, SPEC, Artifact, open_artifact
from personahub.core.errors import UserError
from personahub.core.experiments.runner import lock_experiment
from personahub.core.files import replacing, write_json
from personahub.core.records import Row

_ID = re.compile(r"(^|_)ids?(_|$)")  # id, persona_id, record_id, persona_id_a, ...
_JOURNAL = "journal"
_WANDB = "wandb"
_PAGE = "index.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub forget`."""
    parser.add_argument("id", metavar="ID", help="Id of a web text, a persona, a problem or any other record")
    parser.add_argument(
        "--experiment", type=Path, required=True, metavar="FOLDER", help="Folder of the run, such as runs/quickstart"
    )
    parser.add_argument("--yes", action="store_true", help="Remove; without it, only list what would be removed")


def run(options: argparse.Namespace) -> int:
    """Remove a record or list what would be removed."""
    print(describe(forget(options.experiment, options.id, options.yes), options.yes))
    return 0


@dataclass
class Forgotten:
    """What is removed from one stage."""

    stage: str
    removed_rows: list[Row] = field(default_factory=list, repr=False)
    other_rows: int = 0  # rejected, exported and truth rows
    journals: int = 0
    wandb: bool = False  # the stage's W&B files, whose tables show some records
    removed: bool = False  # the whole artifact, which the next run makes again
    trained: bool = False  # a model was trained on a removed record and keeps what it learned
    files: list[Path] = field(default_factory=list)

    @property
    def records(self) -> int:
        return len(self.removed_rows)

    @property
    def touched(self) -> bool:
        return bool(self.files or self.removed or self.trained)


def forget(experiment: Path, record: str, write: bool) -> list[Forgotten]:
    """Find a record and everything made from it, and remove them if `write` is set.

    Args:
        experiment: the run's folder, such as `runs/quickstart`.
        record: the id of a record of any stage.
        write: whether to remove anything.

    Returns:
        What is removed from each affected stage, in the order in which the stages were made.

    Raises:
        UserError: the experiment or the id does not exist, the experiment is running, or `write` is set and a stage is
            unfinished.
    """
    if not any(experiment.glob(f"*/{MANIFEST}")):
        raise UserError(f"{experiment}: no experiment with finished stages; pass a folder such as runs/quickstart")
    with lock_experiment(experiment):
        artifacts = _ordered(experiment)
        ids = descendants(artifacts, record)
        if not ids:
            raise UserError(f"{experiment}: no stage has a record {record!r}; `personahub show` prints ids")
        found = [_find_rows(artifact, ids) for artifact in artifacts]
        _mark_reports_and_models(artifacts, found)
        if write:
            _refuse_unfinished(experiment)
            # Newest stages first: after a kill, the remaining records are still found through those they were made from.
            for artifact, each in reversed(list(zip(artifacts, found, strict=True))):
                _remove(artifact, each, ids)
    return [each for each in found if each.touched]


def descendants(artifacts: list[Artifact], record: str) -> set[str]:
    """Return the id and the ids of all records made from it, by lineage columns. Empty if the id is unknown."""
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
                f"{spec.parent}: is unfinished and may hold the record, or completions made from it; finish the run or "
                "delete that folder first"
            )


def _shards(artifact: Artifact) -> Iterator[Path]:
    for name in artifact.shard_names:
        yield artifact.path / f"{name}.parquet"


def _id_columns(file: Path) -> pa.Table:
    schema = pq.read_schema(file)
    return pq.read_table(file, columns=[f.name for f in schema if _ID.search(f.name) and pa.types.is_string(f.type)])


def _mentions(table: pa.Table, ids: set[str]) -> pa.ChunkedArray | pa.Array:
    """For each row, whether one of its id columns holds one of `ids`."""
    values = pa.array(sorted(ids), pa.string())
    hit: Any = pa.array([False] * table.num_rows, pa.bool_())  # a shard may be empty
    for column in table.columns:
        hit = pc.call_function("or", [hit, pc.call_function("is_in", [column], pc.SetLookupOptions(values))])
    return hit


def _refers_to(value: Any, ids: set[str]) -> bool:
    """Return whether a JSON value holds one of `ids` under an id key, at any depth."""
    if isinstance(value, Mapping):
        return any((_ID.search(key) and inner in ids) if isinstance(inner, str) else _refers_to(inner, ids)
                   for key, inner in value.items())  # fmt: skip
    return isinstance(value, list) and any(_refers_to(inner, ids) for inner in value)


def _find_rows(artifact: Artifact, ids: set[str]) -> Forgotten:
    found = Forgotten(artifact.name)
    for file in _shards(artifact):
        hit = _mentions(_id_columns(file), ids)
        if pc.call_function("any", [hit]).as_py():
            found.removed_rows += pq.read_table(file).filter(hit).to_pylist()
            found.files.append(file)
    for file in _other_row_files(artifact):
        rows = sum(1 for remove, _ in _rows_to_remove(file, ids, found.removed_rows) if remove)
        found.other_rows += rows
        found.files += [file] if rows else []
    if found.files:
        found.journals = len(list((artifact.path / _JOURNAL).glob("*.jsonl")))
        found.wandb = (artifact.path / _WANDB).is_dir()
    return found


def _other_row_files(artifact: Artifact) -> Iterator[Path]:
    """Return files of rows that are not shards. Rejected records, truth, exports, validation samples."""
    for file in sorted(artifact.path.rglob("*")):
        inner = file.relative_to(artifact.path)
        if inner.parts[0] in (_JOURNAL, _WANDB) or inner.name == "metrics.jsonl" or file.is_symlink():
            continue
        if file.suffix == ".jsonl" or (file.suffix == ".parquet" and len(inner.parts) > 1):
            yield file


def _rows_to_remove(file: Path, ids: set[str], removed: Sequence[Row]) -> Iterator[tuple[bool, Any]]:
    """Yield (whether to remove it, row) for each row.

    A row is a line of JSON Lines or a record of a Parquet file. Exported lines have no id: a line is removed when its
    values equal those of a removed record.
    """
    if file.suffix == ".jsonl":
        values: dict[tuple[str, ...], set[str]] = {}
        with file.open(encoding="utf-8") as lines:  # not `splitlines`, which also splits texts at U+2028
            for line in lines:
                content = json.loads(line)
                keys = tuple(content)
                if keys not in values:
                    values[keys] = {_as_text(row, keys) for row in removed if row.keys() >= content.keys()}
                yield _refers_to(content, ids) or _as_text(content, keys) in values[keys], line
        return
    for row in pq.read_table(file).to_pylist():
        record = row.get("record")
        inside = _refers_to(json.loads(record), ids) if isinstance(record, str) else False
        yield inside or _refers_to(row, ids), row


def _as_text(row: Row, keys: Sequence[str]) -> str:
    return json.dumps([row[key] for key in keys], sort_keys=True)


def _mark_reports_and_models(artifacts: list[Artifact], found: list[Forgotten]) -> None:
    """Mark reports and models made from removed records. They have no records of their own to remove."""
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
        delete_completions(artifact.path / _JOURNAL)
    if found.wandb:
        shutil.rmtree(artifact.path / _WANDB)
    shards = set(_shards(artifact))
    for file in (file for file in found.files if file not in shards):
        _rewrite_rows(file, ids, found.removed_rows)
    for file in (file for file in found.files if file in shards):
        _rewrite_shard(file, ids)
    _update_manifest(artifact, found)


def _rewrite_shard(file: Path, ids: set[str]) -> None:
    table = pq.read_table(file)
    kept = table.filter(pc.call_function("invert", [_mentions(_id_columns(file), ids)]))
    _replace(file, kept)


def _replace(file: Path, table: pa.Table) -> None:
    metadata = pq.read_metadata(file).metadata or {}
    own = {key: value for key, value in metadata.items() if key == b"personahub"}
    with (
        replacing(file) as temporary,
        pq.ParquetWriter(temporary, table.schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        writer.write_table(table)
        writer.add_key_value_metadata(own)


def _rewrite_rows(file: Path, ids: set[str], removed: Sequence[Row]) -> None:
    """Rewrite the file without the rows to remove."""
    kept = [row for remove, row in _rows_to_remove(file, ids, removed) if not remove]
    if file.suffix == ".jsonl":
        with replacing(file) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
    else:
        _replace(file, pa.Table.from_pylist(kept, schema=pq.read_schema(file).remove_metadata()))


def _update_manifest(artifact: Artifact, found: Forgotten) -> None:
    """Update the counts in the manifest. A killed attempt may have left some outdated."""
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
    """Describe what was removed, or would be, one line per stage."""
    lines = []
    for each in found:
        parts = [f"{each.records:,} records"] if each.records else []
        parts += [f"{each.other_rows:,} rejected or exported rows"] if each.other_rows else []
        parts += [f"{each.journals} journals"] if each.journals else []
        parts += ["W&B's files; delete there what it was sent"] if each.wandb else []
        parts += ["the report, which the next run makes again"] if each.removed else []
        parts += ["nothing: the model keeps what it learned until `run --redo`"] if each.trained else []
        lines.append(f"{each.stage}: {', '.join(parts)}")
    if done:
        lines.append("Removed. A source that still holds the text returns it when its stage runs again.")
    else:
        lines.append("Nothing was removed. Add --yes to remove it.")
    return "\n".join(lines)
