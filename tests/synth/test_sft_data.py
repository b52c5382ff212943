"""The split: exact, nested, by problem, and without near duplicates across it; and what is exported."""

from __future__ import annotations

import json

import pytest

from personahub.core.artifact import Artifact
from personahub.core.duplicates.surface import jaccard
from personahub.core.errors import UserError
from personahub.core.records import VERIFIED
from synth.sft_data import Config, forecast

TRADES = "baker nurse miner pilot tailor farmer judge potter roofer sailor".split()  # noqa: SIM905
THINGS = "loaves bricks letters melons chairs lamps boats coins books shoes".split()  # noqa: SIM905


def verified_row(index: int, problem: str, **fields: object) -> dict:
    return {
        "id": f"id{index:04d}",
        "problem": problem,
        "persona_id": f"persona{index}",
        "document_id": f"document{index}",
        "licence": "CC BY 4.0",
        "answer": str(index),
        "solution": f" We add. $\\boxed{{{index}}}$\n",
        "solution_model": "teacher",
        "vote_share": 1.0,
        **fields,
    }


def verified_rows() -> list[dict]:
    """100 problems that differ in trade, thing and numbers."""
    return [
        verified_row(
            10 * i + j,
            f"A {trade} carries {3 * i + 2} {thing} up stairs and {j + 11} {THINGS[i]} down a hill on day {i * j}.",
        )
        for i, trade in enumerate(TRADES)
        for j, thing in enumerate(THINGS)
    ]


def split_of(artifact: Artifact) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"train": set(), "test": set()}
    for row in artifact.rows(["id", "split"]):
        found[row["split"]].add(row["id"])
    return found


@pytest.fixture
def split(make_artifact, run_module):
    """Runs the stage over rows; each call with a name of its own."""

    def run(name: str, config: dict, rows: list[dict] | None = None, shards: int = 2, **inputs: Artifact) -> Artifact:
        problems = make_artifact(f"in_{name}", VERIFIED, verified_rows() if rows is None else rows, shards)
        return run_module("synth.sft_data", config, name, problems=problems, **inputs)

    return run


def test_the_test_set_is_exact_and_shares_nothing_with_the_training_set(split) -> None:
    data = split("data", {"test_problems": 20, "near_duplicate": 1.0})
    found = split_of(data)
    assert len(found["test"]) == 20
    assert len(found["train"]) == 80
    assert not found["test"] & found["train"]
    assert data.manifest.summary == {"train": 80, "test": 20}


def test_no_training_problem_is_near_a_test_problem(split) -> None:
    threshold = 0.7
    data = split("data", {"test_problems": 10, "near_duplicate": threshold})
    rows = list(data.rows())
    test = [row["problem"] for row in rows if row["split"] == "test"]
    train = [row["problem"] for row in rows if row["split"] == "train"]
    assert len(test) == 10
    assert max(jaccard(a, b) for a in test for b in train) < threshold
    assert max(jaccard(a, b) for a in test for b in test if a is not b) < threshold
    rejected = list(data.rejected())
    assert rejected
    texts = {row["id"]: row["problem"] for row in rows}
    for row in rejected:
        assert row["reason"] == "near_duplicate_of_test"
        near = row["detail"].split()[2]
        assert jaccard(json.loads(row["record"])["problem"], texts[near]) >= threshold


def test_the_same_text_of_two_personas_is_never_on_both_sides(split) -> None:
    rows = [verified_row(i, f"A potter sells {i // 4} pots. How many are {i // 4} pots?") for i in range(200)]
    data = split("data", {"test_problems": 25}, rows)
    sides: dict[str, set[str]] = {}
    for row in data.rows():
        sides.setdefault(row["problem"], set()).add(row["split"])
    assert all(len(found) == 1 for found in sides.values())
    assert sum(found == {"test"} for found in sides.values()) == 25


def test_splits_are_nested_and_do_not_depend_on_sharding(split) -> None:
    exact = {"near_duplicate": 1.0}
    small = split_of(split("small", {"test_problems": 5, **exact}))
    large = split_of(split("large", {"test_problems": 30, **exact}, shards=7))
    again = split_of(split("again", {"test_problems": 30, **exact}, shards=1))
    assert small["test"] < large["test"]
    assert large == again
    assert split_of(split("other", {"test_problems": 30, "seed": 1, **exact})) != large
    few = split_of(split("few", {"test_problems": 30, "max_train": 10, **exact}))
    more = split_of(split("more", {"test_problems": 30, "max_train": 40, **exact}))
    assert len(few["train"]) == 10
    assert few["train"] < more["train"] < large["train"]


def test_test_problems_need_an_answer_with_enough_votes(split) -> None:
    rows = [row | {"vote_share": 0.6} if i % 2 else row for i, row in enumerate(verified_rows())]
    rows[0]["answer"] = rows[0]["vote_share"] = None
    data = split("data", {"test_problems": 40, "test_min_vote_share": 0.9, "near_duplicate": 1.0}, rows)
    shares = {row["id"]: row["vote_share"] for row in rows}
    found = split_of(data)
    assert {shares[key] for key in found["test"]} == {1.0}
    assert rows[0]["id"] in found["train"]
    assert len(found["train"]) == 60


def test_more_test_problems_than_there_are_is_an_error(split) -> None:
    with pytest.raises(UserError, match="test_problems: 300 are requested, but only 100 of 100"):
        split("data", {"test_problems": 300, "near_duplicate": 1.0})


def test_the_test_set_can_come_from_an_artifact_of_its_own(split, make_artifact) -> None:
    rows = verified_rows()
    strict = [
        row | {"solution_model": "other", "answer": None if i == 0 else row["answer"]} for i, row in enumerate(rows)
    ]
    test = make_artifact("verified_test", VERIFIED, strict[:20])
    data = split("data", {"near_duplicate": 1.0}, rows, test=test)
    found = split_of(data)
    assert len(found["test"]) == 19
    assert found["train"] == {row["id"] for row in rows[20:]} | {rows[0]["id"]}
    assert {row["model"] for row in data.rows() if row["split"] == "test"} == {"other"}
    assert data.manifest.counts.rejected == {"near_duplicate_of_test": 19, "not_in_test": 1}
    assert data.manifest.counts.rows_in == data.num_rows + 20


def test_records_are_chats_with_the_lineage_of_their_problem(split) -> None:
    data = split("data", {"system_prompt": "Be brief.", "test_problems": 3})
    for row in data.rows():
        index = int(row["id"].removeprefix("id"))
        system, user = row["prompt"]
        assert (system["role"], system["content"], user["role"]) == ("system", "Be brief.", "user")
        assert user["content"].startswith(row["problem"])
        assert r"\boxed{}" in user["content"]
        assert row["completion"] == [{"role": "assistant", "content": f"We add. $\\boxed{{{index}}}$"}]
        assert (row["answer"], row["persona_id"], row["document_id"], row["licence"], row["model"]) == (
            str(index),
            f"persona{index}",
            f"document{index}",
            "CC BY 4.0",
            "teacher",
        )


@pytest.mark.parametrize(("opening", "closing"), [("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("", "</think>")])
def test_thoughts_are_trained_on_only_where_asked_for(split, opening: str, closing: str) -> None:
    thought = f"{opening}Perhaps \\boxed{{4}}?{closing}\n"
    rows = [
        verified_row(index, row["problem"], solution=f"{thought}It is \\boxed{{{index}}}.")
        for index, row in enumerate(verified_rows()[:5])
    ]
    for name, config, kept in (("cut", {}, ""), ("kept", {"keep_thinking": True}, thought)):
        data = split(name, {"test_problems": 0, **config}, rows)
        found = {row["id"]: row["completion"][0]["content"] for row in data.rows()}
        assert found == {row["id"]: f"{kept}It is \\boxed{{{row['answer']}}}." for row in rows}


def test_exports_are_what_trl_reads_and_the_card_says_what_they_are(split) -> None:
    rows = verified_rows()
    rows[3]["licence"] = None
    data = split("data", {"test_problems": 7, "near_duplicate": 1.0}, rows)
    for name, count in (("train", 93), ("test", 7)):
        lines = [json.loads(line) for line in (data.path / "export" / f"{name}.jsonl").open(encoding="utf-8")]
        expected = [
            {"prompt": row["prompt"], "completion": row["completion"]} for row in data.rows() if row["split"] == name
        ]
        assert len(lines) == count
        assert lines == expected
    card = (data.path / "export" / "README.md").read_text(encoding="utf-8")
    for text in (
        "| train | 93 |",
        "| test | 7 |",
        "teacher (100)",
        "CC BY 4.0 (99); not stated (1)",
        "Machine-generated",
    ):
        assert text in card


def test_the_export_loads_through_datasets(split) -> None:
    import datasets

    data = split("data", {"test_problems": 7})
    loaded = datasets.load_dataset(
        "json", data_files={"train": str(data.path / "export" / "train.jsonl")}, cache_dir=str(data.path / "cache")
    )
    assert loaded["train"].column_names == ["prompt", "completion"]
    assert loaded["train"][0]["prompt"][0]["role"] == "user"


def test_forecast_knows_the_bounds() -> None:
    assert forecast(Config(test_problems=300), {"problems": 1000}).rows_out == 1000
    assert forecast(Config(test_problems=300, max_train=500), {"problems": 1000}).rows_out == 800
    assert forecast(Config(), {"problems": 1000, "test": 50}).rows_out == 1050
