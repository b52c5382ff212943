"""Two complementary parts, the same ones under any sharding."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from personahub.core.artifact import Artifact, InputReference, Manifest
from personahub.core.errors import UserError
from personahub.core.experiments.stage_process import run_stage
from personahub.core.shards import ShardWriter, shard_name
from personahub.core.stage import StageSpec

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


def split(
    tmp_path: Path, name: str, records: Artifact, held_out: Artifact | None, config: dict[str, object]
) -> Artifact:
    inputs = {"records": records} if held_out is None else {"records": records, "held_out": held_out}
    spec = StageSpec(
        experiment="test", stage=name, module="synth.split", version="2", fingerprint=name, identity={}, config=config,
        inputs={key: InputReference(path=str(a.path), fingerprint=a.manifest.fingerprint) for key, a in inputs.items()},
        engines={},
    )  # fmt: skip
    return run_stage(spec, tmp_path / name)


def hold_out(tmp_path: Path, name: str, records: Artifact, number: int, seed: int = 0) -> Artifact:
    return split(tmp_path, name, records, None, {"held_out": number, "seed": seed})


def keep_others(tmp_path: Path, name: str, records: Artifact, held_out: Artifact) -> Artifact:
    return split(tmp_path, name, records, held_out, {})


def ids(artifact: Artifact) -> list[str]:
    return [row["id"] for row in artifact.rows()]


def test_parts_are_complements_of_exact_size_and_independent_of_sharding(tmp_path: Path) -> None:
    one, many = source(tmp_path / "one", 500, 1), source(tmp_path / "many", 500, 7)
    held = hold_out(tmp_path, "held", one, 120)
    assert len(ids(held)) == 120
    for records in (one, many):
        rest = keep_others(tmp_path, f"rest-{records.path.name}", records, held)
        assert sorted(ids(held) + ids(rest)) == sorted(ids(one))
    assert set(ids(hold_out(tmp_path, "held2", many, 120))) == set(ids(held))
    assert set(ids(held)) < set(ids(hold_out(tmp_path, "held3", many, 121)))
    assert set(ids(hold_out(tmp_path, "held4", many, 120, seed=1))) != set(ids(held))


def test_more_held_out_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"stages.held.config.held_out: 11, but .*one has 10 records"):
        hold_out(tmp_path, "held", source(tmp_path / "one", 10, 2), 11)


def test_what_was_held_out_of_something_else_is_refused(tmp_path: Path) -> None:
    held = hold_out(tmp_path, "held", source(tmp_path / "all", 20, 2), 8)
    with pytest.raises(
        UserError, match=r"inputs.held_out: \d of its 8 records, such as id1\d, are not in .*half; both"
    ):
        keep_others(tmp_path, "rest", source(tmp_path / "half", 10, 2), held)


@pytest.mark.parametrize("both", [True, False])
def test_a_number_or_the_stage_that_holds_them_out(tmp_path: Path, both: bool) -> None:
    records = source(tmp_path / "all", 20, 2)
    held = hold_out(tmp_path, "held", records, 8) if both else None
    with pytest.raises(UserError, match=r"^stages.part: needs either config.held_out, .*, or an input `held_out`"):
        split(tmp_path, "part", records, held, {"held_out": 8} if both else {})
