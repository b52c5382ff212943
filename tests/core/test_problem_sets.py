"""Problem sets from files and from the hub, and what they say when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.grading.problem_sets import ProblemSetConfig, ReferenceProblem, load_problems
from personahub.core.config import identity_of, parse_config
from personahub.core.errors import UserError


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def load(**values: object) -> list[ReferenceProblem]:
    return load_problems(parse_config(ProblemSetConfig, {"name": "test", **values}, "stages.test.config"))


@pytest.mark.parametrize(
    ("file", "rows", "subjects"),
    [("math/test.jsonl", 5000, 7), ("math/math500.jsonl", 500, 7), ("gsm8k/test.jsonl", 1319, 0)],
)
def test_the_real_sets_load_whole(test_data: Path, file: str, rows: int, subjects: int) -> None:
    problems = load(path=str(test_data / file))
    assert len(problems) == len({problem.id for problem in problems}) == rows
    assert len({problem.subject for problem in problems} - {None}) == subjects
    assert {problem.level for problem in problems} == (set("12345") if subjects else {None})
    assert all(problem.answer and "####" not in problem.answer for problem in problems)


def test_without_an_answer_field_the_last_box_of_the_solution_is_the_answer(test_data: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (test_data / "math" / "math500.jsonl").open(encoding="utf-8")]
    bare = [{"problem": row["problem"], "solution": row["solution"]} for row in rows]
    found = load(path=str(write_lines(tmp_path / "bare.jsonl", *bare)))
    assert [problem.answer for problem in found] == [row["answer"].strip() for row in rows]


def test_fields_are_found_or_named(tmp_path: Path) -> None:
    row = {"question": "1 + 1?", "answer": "We add.\n#### 2", "type": "Algebra", "level": "Level 3"}
    file = write_lines(tmp_path / "a.jsonl", row, "", {"problem": "2?", "solution": r"\boxed{2}"})
    assert load(path=str(file)) == [
        ReferenceProblem("0", "1 + 1?", "2", "Algebra", "3"),
        ReferenceProblem("1", "2?", "2", None, None),
    ]
    pq.write_table(pa.table({"task": ["3?"], "key": [3], "id": ["x"]}), tmp_path / "b.parquet")
    named = load(path=str(tmp_path / "b.parquet"), problem_field="task", answer_field="key")
    assert named == [ReferenceProblem("x", "3?", "3", None, None)]


def test_a_folder_is_one_set_and_repeated_ids_are_replaced(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_lines(tmp_path / f"{name}.jsonl", {"idx": 0, "problem": name, "answer": "1"})
    assert [(p.id, p.problem) for p in load(path=str(tmp_path))] == [("0", "a"), ("1", "b")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['{"problem": "1?", "answer": "1"}', '{"problem": '], r"set.jsonl:2: not valid JSON"),
        (["[1, 2]"], r"set.jsonl:1: a row is a JSON object"),
        ([{"text": "1?", "answer": "1"}], "row 1: no text in problem or question; its fields are text, answer"),
        ([{"problem": "  ", "answer": "1"}], "row 1: no text"),
        ([{"problem": "1?"}], "row 1: no reference answer"),
        ([{"problem": "1?", "solution": "none boxed"}], "row 1: no reference answer"),
        ([], "holds no problems"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(path=str(write_lines(tmp_path / "set.jsonl", *rows)))


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "bytes.jsonl").write_bytes(b'{"problem": "\xff\xfe"}\n')
    (tmp_path / "fake.parquet").write_text("no parquet")
    (tmp_path / "set.txt").write_text("1 + 1?")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("gone.jsonl", "gone.jsonl: no such file"),
        ("gone.parquet", "gone.parquet: no such file"),
        ("bytes.jsonl", "bytes.jsonl:1: not valid JSON"),
        ("fake.parquet", "fake.parquet: not a readable Parquet file"),
        ("set.txt", "read from .jsonl or .parquet"),
        ("empty", "holds no .jsonl or .parquet"),
    ):
        with pytest.raises(UserError, match=message):
            load(path=str(tmp_path / name))


def test_a_known_name_stands_for_a_pinned_commit_and_others_need_one() -> None:
    identity = identity_of(parse_config(ProblemSetConfig, {"name": "math"}, "test"))
    assert len(identity["revision"]) == 40
    assert identity["split"] == "test"
    with pytest.raises(UserError, match="known by name alone: math, math500, gsm8k"):
        load(name="maths")
    with pytest.raises(UserError, match="needs `revision`"):
        load(hub="someone/some-set")
    # a worker reads back the config that was written to stage.json
    config = parse_config(ProblemSetConfig, {"name": "gsm8k"}, "test")
    assert parse_config(ProblemSetConfig, config.model_dump(mode="json"), "test") == config


def test_identity_is_the_content_of_the_file_not_its_path(tmp_path: Path) -> None:
    rows = [{"problem": "1?", "answer": "1"}]
    first, second = write_lines(tmp_path / "a.jsonl", *rows), write_lines(tmp_path / "b.jsonl", *rows)
    identities = [identity_of(ProblemSetConfig(name="t", path=str(path))) for path in (first, second)]
    assert identities[0] == identities[1]
    write_lines(second, *rows, *rows)
    assert identity_of(ProblemSetConfig(name="t", path=str(second))) != identities[0]


def test_an_unreachable_hub_tells_the_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot be read from the hub.*give `path:`"):
        load(name="math", revision="0" * 40)


@pytest.mark.network
@pytest.mark.parametrize(("name", "rows"), [("math", 5000), ("math500", 500), ("gsm8k", 1319)])
def test_the_hub_copies_are_the_published_sets(name: str, rows: int) -> None:
    assert len(load(name=name)) == rows
