"""`check_file`: streams, keeps order and rows, survives anything in the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from personahub.core.answers import Policy, check_file
from personahub.core.errors import UserError


def test_rows_keep_their_order_and_fields(tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"id": n, "gold": str(n), "pred": f"\\boxed{{{n + (n % 5 == 0)}}}", "extra": [n]} for n in range(100)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    counts = check_file(source, target, workers=2)
    assert counts == {"correct": 80, "wrong": 20, "no_answer": 0, "timeout": 0, "error": 0}
    written = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in written] == list(range(100))
    assert written[1] == {
        **rows[1],
        "verdict": "correct",
        "extracted": "1",
        "extraction": "boxed",
        "rule": "same text",
        "ms": written[1]["ms"],
    }
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.jsonl"}


def test_any_row_is_survived(tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [
        b'{"gold": "1", "pred": "1"}',
        b"not json",
        b"[1, 2]",
        b'{"gold": "1"}',
        b'{"gold": null, "pred": "1"}',
        b'{"gold": 5, "pred": 5.0}',
        b"",
        b'{"gold": "1", "pred": "\xff\xfe"}',
        json.dumps({"gold": "1", "pred": "{" * 100_000}).encode(),
        b'{"gold": "' + b"[" * 5_000 + b'", "pred": ""}',
        b"[" * 100_000,
        json.dumps({"gold": "\ud800", "pred": "\x00"}).encode(),
        b'{"gold": "2", "pred": "\\\\boxed{2}"}',
    ]
    source.write_bytes(b"\n".join(lines) + b"\n")
    check_file(source, target)
    verdicts = [json.loads(line)["verdict"] for line in target.read_text(encoding="utf-8").splitlines()]
    assert len(verdicts) == len(lines) - 1
    assert verdicts[:6] == ["correct", "error", "error", "error", "error", "correct"]
    assert verdicts[-1] == "correct"
    assert "timeout" not in verdicts


def test_a_faulty_row_says_what_is_wrong(tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"answer": "1", "output": "1"}\n{"answer": "1"}\n', encoding="utf-8")
    counts = check_file(source, target, gold_field="answer", pred_field="output")
    assert (counts["correct"], counts["error"]) == (1, 1)
    assert f"{source}, line 2: no text in 'output'; it has answer" in target.read_text(encoding="utf-8")


def test_a_file_without_a_single_fit_row_is_the_users_mistake(tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"answer": "1", "output": "1"}\n' * 3, encoding="utf-8")
    with pytest.raises(UserError, match=r"in\.jsonl, line 1: no text in 'gold'; it has answer, output"):
        check_file(source, target)
    assert target.read_text(encoding="utf-8").count('"verdict": "error"') == 3
    source.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"in\.jsonl: there are no rows"):
        check_file(source, target)


def test_standard_input_and_output_are_a_pipe():
    rows = [{"gold": str(n), "pred": str(n % 7)} for n in range(50)]
    text = "".join(json.dumps(row) + "\n" for row in rows) + "no row\n"
    command = [sys.executable, "-m", "personahub", "check", "-", "-", "--workers", "1"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=True)
    written = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["verdict"] for row in written] == ["correct"] * 7 + ["wrong"] * 43 + ["error"]
    assert written[-1]["rule"].startswith("stdin, line 51: not JSON")
    assert done.stderr.strip().startswith("correct 7 (13.7%), wrong 43")


def test_a_reader_that_stops_ends_the_pipe():
    text = '{"gold": "1", "pred": "1"}\n' * 20_000
    command = f"{sys.executable} -m personahub check - - --workers 1 | head -n 1"
    done = subprocess.run(command, shell=True, input=text, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout)["verdict"] == "correct"
    assert done.stderr == ""


def test_the_policy_is_applied(tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"gold": "5 cm", "pred": "5"}\n', encoding="utf-8")
    assert check_file(source, target)["correct"] == 1
    assert check_file(source, target, policy=Policy.strict())["wrong"] == 1


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_an_unreadable_source_is_one_line(tmp_path, name):
    with pytest.raises(UserError, match=r"no such file|cannot be read: Is a directory"):
        check_file(tmp_path / name, tmp_path / "out.jsonl")


def test_the_input_is_never_overwritten(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"gold": "1", "pred": "1"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="would overwrite"):
        check_file(source, source)
    assert source.read_text(encoding="utf-8") == '{"gold": "1", "pred": "1"}\n'


def test_what_is_no_file_of_rows_is_one_line_and_leaves_no_output(tmp_path):
    for name, said in (("empty.jsonl", "there are no rows"), ("a.jsonl.gz", "only uncompressed JSON Lines")):
        (tmp_path / name).write_bytes(b"\n")
        with pytest.raises(UserError, match=f"{name}: .*{said}"):
            check_file(tmp_path / name, tmp_path / "out.jsonl")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "in.jsonl").write_text('{"gold": "1", "pred": "1"}\n')
    with pytest.raises(UserError, match="pipe: is not a regular file"):
        check_file(tmp_path / "in.jsonl", tmp_path / "pipe")
    with pytest.raises(UserError, match="workers 0"):
        check_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", workers=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl.gz", "empty.jsonl", "in.jsonl", "pipe"]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"gold": "1", "pred": "1"}\n', encoding="utf-8-sig")
    assert check_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")["correct"] == 1
