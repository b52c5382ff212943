"""The dedup stage on artifacts that a toy source wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personahub import dedup
from personahub.core.artifact import Artifact
from personahub.core.errors import UserError
from personahub.core.identity import content_id
from personahub.deduplication import embedding

SOURCE = '''
"""Writes the personas of a JSON file: one list per shard."""

import json
from pathlib import Path

from personahub.core.config import ContentPath, StageConfig
from personahub.core.identity import content_id
from personahub.core.records import PERSONA

VERSION = "1"
INPUTS = ()


class Config(StageConfig):
    path: ContentPath


def run(stage):
    for number, personas in enumerate(json.loads(Path(stage.config.path).read_text())):
        with stage.writer(f"{number:05d}", PERSONA) as writer:
            for text in personas:
                writer.write({"id": content_id("persona", text), "persona": text, "hop": len(text)})
'''
SURFACE = {"method": "surface", "threshold": 0.8}
EMBEDDING = {"method": "embedding", "threshold": 0.9, "embedder": {"kind": "hashing"}}
NURSES = [
    "A night nurse in Oslo who paints",
    "a night nurse in Oslo, who paints!",
    "A night nurse in Oslo who paints boats",
    "A night nurses in Oslos who painting boats",
    "A coal miner who collects stamps",
    "A teacher of Latin in a small town",
]

Dedup = Callable[..., Artifact]


@pytest.fixture
def run_dedup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., dict[str, Artifact]]) -> Dedup:
    """Runs the stage over shards of personas."""
    (tmp_path / "toy_personas.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)

    def start(
        shards: list[list[str]],
        name: str = "test",
        against: list[str] | None = None,
        execution: dict[str, Any] | None = None,
        **config: Any,
    ) -> Artifact:
        path, old = tmp_path / f"{name}.json", tmp_path / f"{name}-old.json"
        path.write_text(json.dumps(shards))
        old.write_text(json.dumps([against]))
        inputs = {"personas": "personas"}
        stages: dict[str, Any] = {"personas": {"run": "toy_personas", "config": {"path": str(path)}}}
        if against is not None:
            inputs["against"] = "old"
            stages["old"] = {"run": "toy_personas", "config": {"path": str(old)}}
        stages["unique"] = {"run": "personahub.dedup", "inputs": inputs, "config": config}
        if execution is not None:
            stages["unique"]["execution"] = execution
        return run(stages, engines={}, name=name)["unique"]

    return start


def texts(artifact: Artifact) -> list[str]:
    return [row["persona"] for row in artifact.rows()]


def test_methods_follow_one_another_and_account_for_every_row(run_dedup: Dedup) -> None:
    artifact = run_dedup([NURSES[:3], NURSES[3:]], methods=[SURFACE, EMBEDDING | {"threshold": 0.5}], keep="first")
    assert texts(artifact) == [NURSES[0], NURSES[4], NURSES[5]]
    survivor = content_id("persona", NURSES[0])
    rejected = list(artifact.rejected())
    assert [row["reason"] for row in rejected] == [
        "near_duplicate_surface",
        "near_duplicate_surface",
        "near_duplicate_embedding",
    ]
    assert [row["detail"] for row in rejected[:2]] == [
        f"similarity 1.0000 to {survivor}",
        f"similarity 0.8750 to {survivor}",
    ]
    assert json.loads(rejected[2]["record"])["persona"] == NURSES[3]
    assert artifact.manifest.shards == {"00000": 1, "00001": 2}
    assert artifact.manifest.counts.rows_in == 6


def test_minhash_is_a_method_too(run_dedup: Dedup) -> None:
    minhash = {"method": "minhash", "threshold": 0.8, "ngram": 1}
    artifact = run_dedup([NURSES], methods=[minhash], keep="first")
    assert texts(artifact) == [NURSES[0], *NURSES[3:]]
    (report,) = artifact.manifest.summary["methods"]
    assert (report["method"], report["dropped"]) == ("minhash", 2)
    assert {row["reason"] for row in artifact.rejected()} == {"near_duplicate_minhash"}


def test_summary_tells_each_methods_drops_sweep_and_doubts(run_dedup: Dedup) -> None:
    summary = run_dedup([NURSES], methods=[SURFACE], keep="first", sweep=[0.35, 0.99]).manifest.summary
    (surface,) = summary["methods"]
    assert (surface["rows"], surface["kept"], surface["dropped"]) == (6, 4, 2)
    assert summary["duplicate_ratio"] == surface["duplicate_ratio"] == pytest.approx(1 / 3)
    assert [(row["threshold"], row["kept"]) for row in surface["sweep"]["kept"]] == [(0.35, 3), (0.99, 5)]
    assert surface["most_doubtful"][0] == {
        "similarity": 0.875,
        "id": content_id("persona", NURSES[2]),
        "dropped": NURSES[2],
        "survivor": NURSES[0],
    }


def test_result_does_not_depend_on_shards_or_order(run_dedup: Dedup) -> None:
    personas = random_personas(200)
    shuffled = [personas[i] for i in np.random.default_rng(1).permutation(200)]
    config = {"methods": [SURFACE, EMBEDDING]}
    one = run_dedup([personas], name="one", **config)
    several = run_dedup([shuffled[:50], shuffled[50:60], [], shuffled[60:]], name="several", **config)
    assert sorted(texts(one)) == sorted(texts(several))
    assert {(r["id"], r["detail"]) for r in one.rejected()} == {(r["id"], r["detail"]) for r in several.rejected()}
    assert 20 < len(texts(one)) < 180


def test_the_longest_survives_if_asked(run_dedup: Dedup) -> None:
    artifact = run_dedup([NURSES[:3]], methods=[SURFACE], keep="longest")
    assert texts(artifact) == [NURSES[2]]


def test_the_best_by_a_score_survives_if_asked(run_dedup: Dedup) -> None:
    artifact = run_dedup([NURSES[:3]], methods=[SURFACE], keep="score", score_field="hop")
    assert texts(artifact) == [NURSES[2]]
    with pytest.raises(UserError, match="score_field 'persona' holds string, not numbers"):
        run_dedup([NURSES[:3]], name="text", methods=[SURFACE], keep="score", score_field="persona")
    with pytest.raises(UserError, match="go together"):
        run_dedup([NURSES[:3]], name="none", methods=[SURFACE], keep="score")


@pytest.mark.parametrize("method", [SURFACE, {"method": "minhash", "threshold": 0.8}, EMBEDDING])
def test_an_existing_collection_stays_and_covers(run_dedup: Dedup, method: dict[str, Any]) -> None:
    old = [NURSES[4], NURSES[1], NURSES[1].upper()]
    artifact = run_dedup([[NURSES[5], NURSES[0]], [NURSES[4] + "."]], against=old, methods=[method])
    assert texts(artifact) == [NURSES[5]]
    survivors = {json.loads(row["record"])["persona"]: row["detail"].split()[-1] for row in artifact.rejected()}
    assert survivors[NURSES[4] + "."] == content_id("persona", NURSES[4])
    assert survivors[NURSES[0]] == content_id("persona", NURSES[1])
    (report,) = artifact.manifest.summary["methods"]
    assert (report["rows"], report["dropped"]) == (3, 2)
    assert report["most_doubtful"][0]["survivor"] in old


def test_clusters_are_searched_if_asked(run_dedup: Dedup) -> None:
    clustered = EMBEDDING | {"search": "clustered"}
    artifact = run_dedup([NURSES], against=[NURSES[4]], methods=[clustered], keep="first")
    exact = run_dedup([NURSES], name="exact", against=[NURSES[4]], methods=[EMBEDDING], keep="first")
    assert texts(artifact) == texts(exact)
    assert artifact.manifest.summary["methods"][0]["recall"] == 1


@pytest.mark.parametrize("executor", ["process", pytest.param("ray", marks=pytest.mark.slow)])
def test_the_executor_does_not_change_the_result(run_dedup: Dedup, executor: str) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    execution = {"executor": executor, "workers": 2}
    one = run_dedup([NURSES[:3], NURSES[3:]], name="one", methods=[SURFACE])
    other = run_dedup([NURSES[:3], NURSES[3:]], name="other", methods=[SURFACE], execution=execution)
    assert texts(other) == texts(one)
    assert list(other.rejected()) == list(one.rejected())


def random_personas(rows: int) -> list[str]:
    """Many of them similar, with some repeated."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(list("abcdefgh"), rng.integers(1, 8))) for _ in range(rows)]


@pytest.mark.parametrize(
    ("partitions", "config"),
    [
        (1, {}),
        (3, {"keep": "first"}),
        (4, {"keep": "longest"}),
        (2, {"keep": "score", "score_field": "hop"}),
        (3, {"against": ["a b c d", "h", "a b c d"]}),
        (5, {"methods": [EMBEDDING, SURFACE], "keep": "longest"}),
        (3, {"methods": [EMBEDDING | {"search": "clustered"}], "against": ["a b c d"]}),
    ],
)
def test_partitions_change_nothing(run_dedup: Dedup, partitions: int, config: dict[str, Any]) -> None:
    personas = random_personas(150)
    shards = [personas[:70], [], personas[70:]]
    config = {"methods": [SURFACE, EMBEDDING], **config}
    one = run_dedup(shards, name="one", **config)
    several = run_dedup(shards, name="several", partitions=partitions, **config)
    assert several.fingerprint == one.fingerprint
    assert list(several.rows()) == list(one.rows())
    assert list(several.rejected()) == list(one.rejected())
    assert several.manifest.summary == one.manifest.summary
    assert several.manifest.counts.rejected
    assert not list(several.path.glob("partitions-*"))


@pytest.mark.parametrize("shards", [[], [[]], [["a"]], [["!"], [""], ["!"]]])
def test_partitions_of_next_to_nothing(run_dedup: Dedup, shards: list[list[str]]) -> None:
    one = run_dedup(shards, name="one", methods=[SURFACE, EMBEDDING])
    several = run_dedup(shards, name="several", methods=[SURFACE, EMBEDDING], partitions=4)
    assert list(several.rows()) == list(one.rows())
    assert several.manifest.summary == one.manifest.summary


def test_minhash_is_not_partitioned(run_dedup: Dedup) -> None:
    with pytest.raises(UserError, match="partitions: minhash works in one process only"):
        run_dedup([["a"]], methods=[{"method": "minhash"}], partitions=2)


def test_any_field_can_be_compared(run_dedup: Dedup) -> None:
    artifact = run_dedup([["a", "b", "a"]], methods=[SURFACE], field="id", keep="first")
    assert texts(artifact) == ["a", "b"]
    with pytest.raises(UserError, match=r"no field 'person'\. Did you mean 'persona'"):
        run_dedup([["a"]], name="other", methods=[SURFACE], field="person")
    with pytest.raises(UserError, match="has no relation"):
        run_dedup([["a"]], name="null", methods=[SURFACE], field="relation")


@pytest.mark.parametrize("shards", [[], [[]]])
def test_no_personas(run_dedup: Dedup, shards: list[list[str]]) -> None:
    artifact = run_dedup(shards, methods=[SURFACE, EMBEDDING])
    assert artifact.num_rows == 0
    assert artifact.manifest.summary["duplicate_ratio"] == 0


def test_an_interrupted_run_embeds_nothing_twice(
    run_dedup: Dedup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    embedded: list[int] = []
    real = embedding.embed

    def counting(block: list[str], *rest: Any) -> np.ndarray:
        if sum(embedded) >= 4:
            raise KeyboardInterrupt
        embedded.append(len(block))
        return real(block, *rest)

    monkeypatch.setattr(embedding, "ROWS_PER_FILE", 2)
    monkeypatch.setattr(embedding, "embed", counting)
    config: dict[str, Any] = {"methods": [EMBEDDING], "keep": "first"}
    with pytest.raises(KeyboardInterrupt):
        run_dedup([NURSES], **config)
    embedded.clear()
    artifact = run_dedup([NURSES], **config)
    assert embedded == [2]
    assert NURSES[1] not in texts(artifact)
    assert not (artifact.path / "vectors").exists()


def test_a_finished_shard_is_left_alone(run_dedup: Dedup, monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    artifact = run_dedup([NURSES[:3], NURSES[3:]], methods=[SURFACE], keep="first")
    before = {file.name: file.read_bytes() for file in artifact.path.glob("0*.parquet")}
    (artifact.path / "manifest.json").unlink()
    (artifact.path / "00001.parquet").unlink()
    time_of_first = (artifact.path / "00000.parquet").stat().st_mtime_ns
    again = run_dedup([NURSES[:3], NURSES[3:]], methods=[SURFACE], keep="first")
    assert (again.path / "00000.parquet").stat().st_mtime_ns == time_of_first
    assert {file.name: file.read_bytes() for file in again.path.glob("0*.parquet")} == before
    assert again.manifest.counts == artifact.manifest.counts


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"methods": [{"method": "simhash"}]}, "methods.0"),
        ({"methods": [{"method": "minhash", "ngram": 0}]}, "ngram"),
        ({"methods": [{"method": "surface", "threshold": 1.5}]}, "threshold"),
        ({"methods": [{"method": "surface", "embedder": {}}]}, "embedder: unknown key"),
        ({"keep": "best"}, "keep"),
    ],
)
def test_config_errors_name_their_key(run_dedup: Dedup, config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_dedup([["a"]], **config)


def test_forecast_counts_what_the_packaged_embedder_takes() -> None:
    surface: Any = {"method": "surface", "threshold": 0.9}
    embedding: Any = {"method": "embedding", "threshold": 0.9, "embedder": {"kind": "minilm"}}
    hashing: Any = {**embedding, "embedder": {"kind": "hashing"}}
    for rows in (10**6, 10**9):
        by_words, by_hashes, by_meaning = (
            dedup.forecast(dedup.Config(methods=methods), {"personas": rows})
            for methods in ((surface,), (surface, hashing), (surface, embedding))
        )
        assert 2 < (by_meaning.cpu_seconds - by_hashes.cpu_seconds) / rows * 1000 < 5
        assert any("benchmarks.embedding_dedup --only-rates" in note for note in by_meaning.notes)
        assert by_hashes.cpu_seconds > by_words.cpu_seconds


def test_forecast_counts_the_search_for_near_vectors() -> None:
    """As docs/dedup.md has it: 259 and 222 CPU seconds at a million, exact growing with the square."""

    def searched(rows: int, search: str) -> tuple[float, int]:
        surface: Any = {"method": "surface"}
        embedding: Any = {"method": "embedding", "embedder": {"kind": "hashing"}, "search": search}
        with_it, without = (
            dedup.forecast(dedup.Config(methods=methods), {"personas": rows})
            for methods in ((surface, embedding), (surface,))
        )
        return with_it.cpu_seconds - without.cpu_seconds, with_it.memory_bytes - without.memory_bytes

    assert searched(10**6, "exact") == (pytest.approx(259, rel=0.05), 367 * 10**6)
    assert searched(10**6, "clustered") == (pytest.approx(222, rel=0.05), 1045 * 10**6)
    assert searched(10**9, "exact")[0] / searched(10**6, "exact")[0] == pytest.approx(10**6, rel=0.05)
    assert searched(10**9, "clustered")[1] > 90 * 10**9  # centroids are found by one task


def test_forecast_of_a_billion_is_by_partitions() -> None:
    """The memory of each task falls with the number of tasks, unlike that of one process."""
    methods: Any = [{"method": "surface"}]
    in_one = dedup.forecast(dedup.Config(methods=methods), {"personas": 10**6})
    assert in_one.memory_bytes == pytest.approx(1700 * 10**6, rel=0.1)  # as `WORK` says
    assert not in_one.notes
    billion = dedup.forecast(dedup.Config(methods=methods), {"personas": 10**9})
    finer = dedup.forecast(dedup.Config(methods=methods, partitions=4000), {"personas": 10**9})
    assert finer.memory_bytes < billion.memory_bytes < 4e9
    assert billion.cpu_seconds == finer.cpu_seconds > 10**9 * dedup.WORK.cpu_seconds
    assert "by 4,000 partitions: 640.0 GB of the disk are scratch" in finer.notes[0]
