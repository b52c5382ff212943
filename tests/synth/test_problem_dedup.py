"""Output dedup: `personahub.dedup` on problems, with the teacher's planted near-duplicates as ground truth."""

from __future__ import annotations

import json

from personahub.core.records import PERSONA

TRADES = ("beekeeper", "tram driver", "nurse", "baker", "surveyor", "luthier", "farrier", "printer", "diver", "cook")

THINGS = (
    "kites", "clocks", "nets", "bells", "chairs", "maps", "lamps", "boots", "drums", "tents", "wells", "ladders", "fences",
    "violins", "kettles", "sails", "gloves", "looms",
)  # fmt: skip


def test_near_duplicate_problems_are_found_by_surface_and_by_meaning(make_artifact, run_module) -> None:
    people = [{"id": f"p{i}", "persona": f"A {TRADES[i % 10]} who mends {THINGS[i // 10]}"} for i in range(180)]
    rates = {"near_duplicate": 0.4, "malformed": 0.0, "refusal": 0.0, "truncation": 0.0, "unsolvable": 0.0}
    problems = run_module(
        "synth.problems",
        {"engine": "teacher", "problems_per_persona": 1},
        engines={"teacher": {"kind": "simulated", "model": "m", "rates": rates}},
        personas=make_artifact("personas", PERSONA, people),
    )
    truth = {(t["record_id"], t["sample"]): json.loads(t["truth"]) for t in problems.truth()}
    canonical = {row["id"]: truth[row["persona_id"], row["sample"]]["canonical"] for row in problems.rows()}
    config = {
        "field": "problem",
        "methods": [
            {"method": "surface", "threshold": 0.85},
            {"method": "embedding", "threshold": 0.95, "embedder": {"kind": "hashing"}},
        ],
    }
    unique = run_module("personahub.dedup", config, personas=problems)

    kept = {row["id"] for row in unique.rows()}
    planted = [id for id, number in canonical.items() if number is not None]
    others = [id for id, number in canonical.items() if number is None]
    assert len(planted) > 50
    assert sum(id in kept for id in planted) < 0.65 * len(planted)  # several of a kind, in other themes
    assert sum(id in kept for id in others) > 0.8 * len(others)
    methods = unique.manifest.summary["methods"]
    assert [report["method"] for report in methods] == ["surface", "embedding"]
    for report in methods:
        swept = [point["kept"] for point in report["sweep"]["kept"]]
        assert len(swept) == 6
        assert swept == sorted(swept)
        assert swept[0] < swept[-1]
        assert all(case["dropped"] and case["survivor"] for case in report["most_doubtful"])
    for row in unique.rejected():
        assert row["reason"] in ("near_duplicate_surface", "near_duplicate_embedding")
        assert json.loads(row["record"])["problem"]
