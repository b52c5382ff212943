"""Code of tools runs in the sandbox, and is kept only if it matches its interface."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from personahub.core.errors import Rejected, UserError
from personahub.core.records import PERSONA
from synth.sandbox.programs import Limits, Sandbox
from synth.tools import check_tool

INTERFACE = {
    "function_name": "double",
    "input_args": [{"name": "value", "type": "integer"}, {"name": "times", "type": "integer"}],
    "return": {"type": "integer"},
    "example": {"value": 4, "times": 2},
}
HEAD = "def double(value, times):\n    "


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    try:
        box = Sandbox(Limits(timeout_s=1.5))
    except UserError as error:
        pytest.skip(str(error))
    with box:
        yield box


@pytest.mark.parametrize(
    "code",
    [
        HEAD + "return value * 2 ** times",
        HEAD + "print('noise')\n    return 16",
        "import json, math, re, datetime, statistics\n" + HEAD + "return 1",
        "def double(value: int, times: int = 1) -> int:\n    return 1",
        "if __name__ == '__main__':\n    raise SystemExit\n" + HEAD + "return 1",
    ],
)
def test_code_that_does_what_it_should_passes(sandbox: Sandbox, code: str) -> None:
    assert isinstance(check_tool(sandbox, code, INTERFACE), int)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def double(value, times)", "import_failed"),
        ("import requests\n" + HEAD + "return 1", "import_failed"),
        ("raise SystemExit(0)", "import_failed"),
        ("double = 3", "no_function"),
        ("double = int", "no_function"),
        ("def treble(value, times):\n    return 1", "no_function"),
        ("def double(times, value):\n    return 1", "signature_mismatch"),
        ("def double(value):\n    return 1", "signature_mismatch"),
        ("def double(*args):\n    return 1", "signature_mismatch"),
        (HEAD + "raise ValueError('no')", "example_failed"),
        (HEAD + "return {1, 2}", "example_failed"),
        (HEAD + "return float('nan')", "example_failed"),
        (HEAD + "return '16'", "wrong_return_type"),
        (HEAD + "return True", "wrong_return_type"),
        (HEAD + "return 2.5", "wrong_return_type"),
        (HEAD + "return None", "wrong_return_type"),
        ("import random\n" + HEAD + "return random.getrandbits(60)", "not_deterministic"),
        (HEAD + "return open('/etc/passwd').read()", "example_failed"),
        (HEAD + "import socket\n    socket.socket()\n    return 1", "example_failed"),
        (HEAD + "while True: pass", "timeout"),
        (HEAD + "print('x' * 10**7)\n    return 1", "output_limit"),
    ],
)
def test_code_that_does_not_is_named(sandbox: Sandbox, code: str, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        check_tool(sandbox, code, INTERFACE)
    assert rejected.value.reason == reason


def test_quotes_and_braces_in_code_and_example_stay_data(sandbox: Sandbox) -> None:
    text = '"""\'{}\\n{0} \u2028 é'
    interface = {
        "function_name": "echo",
        "input_args": [{"name": "text", "type": "string"}],
        "return": {"type": "string"},
        "example": {"text": text},
    }
    assert check_tool(sandbox, f"def echo(text):\n    return text if text == {text!r} else ''", interface) == text


def test_interfaces_become_tools_that_ran(make_artifact, run_module, sandbox: Sandbox) -> None:
    rows = [{"id": f"p{i}", "persona": f"A baker of {i} loaves", "document_id": "d"} for i in range(40)]
    people = make_artifact("personas", PERSONA, rows, shards=1)
    config = {"engine": "teacher", "use_case": "tool_interface"}
    interfaces = run_module("synth.usecases", config, personas=people)
    tools = run_module("synth.tools", {"engine": "teacher"}, interfaces=interfaces)
    made, rejected = list(tools.rows()), list(tools.rejected())
    assert len(made) + len(rejected) == interfaces.num_rows
    assert len(made) > 30
    assert {row["reason"] for row in rejected} <= {"example_failed", "wrong_return_type"}
    known = {row["id"]: row for row in interfaces.rows()}
    for row in made:
        interface = known[row["interface_id"]]
        assert row["interface"] == interface["text"]
        assert row["persona_id"] == interface["persona_id"]
        assert f"def {json.loads(row['interface'])['function_name']}(" in row["code"]
        assert isinstance(json.loads(row["example_result"]), int)


def test_without_a_sandbox_no_tool_is_tried(make_artifact, run_module, monkeypatch) -> None:
    people = make_artifact("personas", PERSONA, [{"id": "p", "persona": "A baker"}], shards=1)
    interfaces = run_module("synth.usecases", {"engine": "teacher", "use_case": "tool_interface"}, personas=people)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "sandlock", None)  # as if it were not installed
    with pytest.raises(UserError, match="bubblewrap"):
        run_module("synth.tools", {"engine": "teacher"}, interfaces=interfaces)
