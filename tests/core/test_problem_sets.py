"""Problem sets from files and from the hub, and what they say when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eval.grading.problem_sets import (
    ProblemSetConfig,
    ReferenceProblem,
    expected_rows,
    known_benchmarks,
    load_problems,
)
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
        (['{"problem": "1?", "answer": "1"}', '{"problem": '], r"set.jsonl, line 2: not JSON"),
        (["[1, 2]"], r"set.jsonl, line 1: a row must be a JSON object"),
        (
            [{"text": "1?", "answer": "1"}],
            "set.jsonl, line 1: no text in problem or question; its fields are text, answer",
        ),
        ([{"problem": "  ", "answer": "1"}], "set.jsonl, line 1: no text"),
        ([{"problem": "1?"}], "set.jsonl, line 1: no reference answer"),
        ([{"problem": "1?", "answer": "['17']"}], "set.jsonl, line 1: .*is not JSON"),
        ([{"problem": "1?", "answer": {"a": 1}}], "set.jsonl, line 1: a reference is text"),
        ([{"problem": "1?", "solution": "none boxed"}], "set.jsonl, line 1: no reference answer"),
        ([], "set.jsonl: there are no problems"),
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
        ("bytes.jsonl", "bytes.jsonl, line 1: not UTF-8"),
        ("fake.parquet", "fake.parquet: not a readable Parquet file"),
        ("set.txt", "set.txt: unknown file type; supported: .jsonl"),
        ("empty", "empty: no file here ends in .jsonl"),
    ):
        with pytest.raises(UserError, match=message):
            load(path=str(tmp_path / name))


def test_a_known_name_stands_for_a_pinned_commit_and_others_need_one() -> None:
    identity = identity_of(parse_config(ProblemSetConfig, {"name": "math"}, "test"))
    assert len(identity["revision"]) == 40
    assert identity["split"] == "test"
    with pytest.raises(
        UserError, match=r"no benchmark named 'maths' \(known: math, math500, gsm8k\)\. Did you mean 'math\'\?"
    ):
        load(name="maths")
    with pytest.raises(UserError, match="needs `revision`"):
        load(hub="someone/some-set")
    # a worker reads back the config that was written to stage.json
    config = parse_config(ProblemSetConfig, {"name": "gsm8k"}, "test")
    assert parse_config(ProblemSetConfig, config.model_dump(mode="json"), "test") == config


def describe(folder: Path, text: str, name: str = "exam.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_benchmark_of_ones_own_is_a_yaml_file_next_to_its_rows(tmp_path: Path) -> None:
    folder = tmp_path / "my_benchmarks"
    folder.mkdir()
    write_lines(folder / "exam.jsonl", {"task": "1 + 1?", "key": 2}, {"task": "2 + 2?", "key": 4})
    file = describe(folder, "{path: exam.jsonl, problem_field: task, answer_field: key, rows: 2, licence: CC0}")
    config = parse_config(ProblemSetConfig, {"name": file}, "test")
    assert (config.name, config.path) == ("exam", str(folder / "exam.jsonl"))
    assert [(problem.problem, problem.answer) for problem in load_problems(config)] == [
        ("1 + 1?", "2"),
        ("2 + 2?", "4"),
    ]
    assert expected_rows(config) == 2
    # a worker reads back what was written to stage.json; the number of rows is not part of the identity
    assert parse_config(ProblemSetConfig, config.model_dump(mode="json"), "test") == config
    by_hand = {"name": "exam", "path": config.path, "problem_field": "task", "answer_field": "key"}
    assert identity_of(config) == identity_of(parse_config(ProblemSetConfig, by_hand, "test"))
    # keys of the config come first, and another source has rows of its own
    write_lines(tmp_path / "more.jsonl", *({"task": f"{i}?", "key": i} for i in range(3)))
    assert len(load(name=file, path=str(tmp_path / "more.jsonl"))) == 3
    with pytest.raises(UserError, match=r"problem set exam: .*exam\.jsonl has 2 rows, not 3"):
        load(name=file, rows=3)


def test_a_benchmark_file_can_name_a_hub_data_set(tmp_path: Path) -> None:
    revision = "a" * 40
    file = describe(
        tmp_path, f"{{name: cup, hub: someone/cup, subset: de, split: test, revision: {revision}, rows: 7}}"
    )
    config = parse_config(ProblemSetConfig, {"name": file}, "test")
    assert (config.name, config.hub, config.subset, config.rows) == ("cup", "someone/cup", "de", 7)
    other = parse_config(ProblemSetConfig, {"name": file, "split": "train"}, "test")
    assert (other.subset, other.split, other.rows) == ("de", "train", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{path: exam.jsonl, problem_feild: task}", r"problem_feild: unknown key\. Did you mean 'problem_field'\?"),
        ("{hub: someone/cup}", "needs `revision`"),
        ("{licence: CC0}", "give `path`, or `hub` with `revision`"),
        ("{path: gone.jsonl}", r"gone\.jsonl: no such file"),
        ("{path: [", "not valid YAML"),
        ("[1, 2]", "a mapping"),
    ],
)
def test_bad_benchmark_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = describe(tmp_path, text)
    with pytest.raises(UserError, match=message) as error:
        load(name=file)
    assert str(tmp_path) in str(error.value)


def test_a_missing_benchmark_file_is_named() -> None:
    with pytest.raises(UserError, match=r"gone/exam\.yaml: no such"):
        load(name="gone/exam.yaml")


def test_known_benchmarks_are_complete() -> None:
    for name, benchmark in known_benchmarks().items():
        assert all(
            getattr(benchmark, key) for key in ("hub", "subset", "split", "revision", "rows", "licence", "source")
        )
        assert benchmark.name == name


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


def test_a_list_of_answers_is_read(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", {"problem": "1?", "answer": ["$17$"]}, {"problem": "2?", "answer": ["$2$", "3"]})
    assert [problem.answer for problem in load(path=str(tmp_path / "a.jsonl"))] == ["$17$", "2, 3"]
