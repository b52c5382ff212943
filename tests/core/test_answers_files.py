"""`check_file`: streams, keeps order and rows, survives anything in the file."""

from __future__ import annotations

import json

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
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl", "out.jsonl"] or len(list(tmp_path.iterdir())) == 2


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
    assert "line 2 has no text in 'output'" in target.read_text(encoding="utf-8")


def test_the_policy_is_applied(tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"gold": "5 cm", "pred": "5"}\n', encoding="utf-8")
    assert check_file(source, target)["correct"] == 1
    assert check_file(source, target, policy=Policy.strict())["wrong"] == 1


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_an_unreadable_source_is_one_line(tmp_path, name):
    with pytest.raises(UserError, match=r"No such file|Is a directory|cannot be read"):
        check_file(tmp_path / name, tmp_path / "out.jsonl")


def test_the_input_is_never_overwritten(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"gold": "1", "pred": "1"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="would overwrite"):
        check_file(source, source)
    assert source.read_text(encoding="utf-8") == '{"gold": "1", "pred": "1"}\n'
