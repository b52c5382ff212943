"""Two complementary parts, the same ones under any sharding."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from personahub.core.artifact import Artifact, InputReference, Manifest
from personahub.core.errors import UserError
from personahub.core.shards import ShardWriter, shard_name
from personahub.core.stage import StageSpec
from personahub.core.worker import run_stage

SCHEMA = pa.schema([("id", pa.string()), ("problem", pa.string())])


def source(path: Path, rows: int, shards: int) -> Artifact:
    """An artifact of `rows` records, dealt to `shards` shards."""
    sizes = {}
    for shard in range(shards):
        with ShardWriter(path, shard_name(shard), SCHEMA) as writer:
            for i in range(shard, rows, shards):
                writer.write({"id": f"id{i}", "problem": f"What is {i} + 1?"})
        sizes[shard_name(shard)] = len(range(shard, rows, shards))
    manifest = Manifest(
        experiment="test", stage=path.name, module="toy", version="1", fingerprint="f", config={}, identity={},
        inputs={}, shards=sizes, counts={}, usage={}, summary={}, seconds=0, created="", versions={}, command="",
    )  # fmt: skip
    (path / "manifest.json").write_text(manifest.model_dump_json())
    return Artifact(path, manifest)


def split(tmp_path: Path, artifact: Artifact, name: str, **config: object) -> Artifact:
    spec = StageSpec(
        experiment="test", stage=name, module="synth.split", version="1", fingerprint=name, identity={}, config=config,
        inputs={"records": InputReference(path=str(artifact.path), fingerprint="f")}, engines={},
    )  # fmt: skip
    return run_stage(spec, tmp_path / name)


def ids(artifact: Artifact) -> list[str]:
    return [row["id"] for row in artifact.rows()]


def test_parts_are_complements_of_exact_size_and_independent_of_sharding(tmp_path: Path) -> None:
    one, many = source(tmp_path / "one", 500, 1), source(tmp_path / "many", 500, 7)
    held = ids(split(tmp_path, one, "held", held_out=120, part="held_out"))
    rest = ids(split(tmp_path, one, "rest", held_out=120, part="rest"))
    assert len(held) == 120
    assert sorted(held + rest) == sorted(ids(one))
    assert set(ids(split(tmp_path, many, "held2", held_out=120, part="held_out"))) == set(held)
    assert set(held) < set(ids(split(tmp_path, many, "held3", held_out=121, part="held_out")))
    assert set(ids(split(tmp_path, many, "held4", held_out=120, part="held_out", seed=1))) != set(held)


def test_more_held_out_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stages.held.config.held_out: 11, but .*one has 10 records"):
        split(tmp_path, source(tmp_path / "one", 10, 2), "held", held_out=11, part="held_out")
