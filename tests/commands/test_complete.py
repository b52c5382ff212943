"""`personahub complete` against a server that misbehaves: formats, resume, limits, and what it says about bad input."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from personahub.commands.cli import main


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def row(number: int, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"What is {number} + {number}?"}]
    whole = {"messages": messages, "temperature": 0.5, "user": "someone", **body}
    return {"custom_id": f"id-{number}", "method": "POST", "url": "/v1/chat/completions", "body": whole}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def words(source: Path, target: Path, base_url: str, *more: str) -> list[str]:
    return ["complete", str(source), str(target), "--base-url", base_url, "--model", "m", *more]


def test_replies_in_the_format_and_order_of_the_requests(chaos, tmp_path: Path, capsys) -> None:
    server = chaos(rate_500=0.1, rate_drip=0.1, drip_s=0.1)
    source = write(tmp_path / "in.jsonl", [row(i) for i in range(50)])
    prices = ("--price-input", "1000000", "--price-output", "0")
    assert main(words(source, tmp_path / "out.jsonl", server.base_url, "--n", "3", *prices)) == 0
    rows = read(tmp_path / "out.jsonl")
    assert [r["custom_id"] for r in rows] == [f"id-{i}" for i in range(50)]
    assert all(set(r) == {"id", "custom_id", "response", "error"} and r["error"] is None for r in rows)
    response = rows[7]["response"]
    assert response["status_code"] == 200
    assert response["request_id"] == response["body"]["id"]
    assert response["body"]["model"] == "m"
    assert len(response["body"]["choices"]) == 3
    said = capsys.readouterr().out
    tokens = sum(r["response"]["body"]["usage"]["prompt_tokens"] for r in rows)
    assert "50 replies" in said
    assert f"${tokens:.4g}" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_killed_run_goes_on_where_it_was(chaos, tmp_path: Path, repository: Path) -> None:
    server = chaos(latency_ms=20)
    source, target = write(tmp_path / "in.jsonl", [row(i) for i in range(600)]), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "personahub", *words(source, target, server.base_url, "--concurrency", "16")]
    process = subprocess.Popen(command, cwd=repository, start_new_session=True, stderr=subprocess.DEVNULL)
    while server.stats()["distinct"] < 300:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    assert subprocess.run(command, cwd=repository, timeout=60).returncode == 0
    assert [r["custom_id"] for r in read(target)] == [f"id-{i}" for i in range(600)]
    stats = server.stats()
    assert stats["distinct"] == 600
    assert stats["repeated"] <= 32


def test_a_row_that_cannot_be_answered_has_its_error_and_the_others_go_on(chaos, tmp_path: Path, capsys) -> None:
    server = chaos(max_chars=100)
    rows = [row(0), row(1, messages=[{"role": "user", "content": "x" * 101}]), row(2)]
    assert main(words(write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", server.base_url)) == 0
    first, second, third = read(tmp_path / "out.jsonl")
    assert first["error"] is third["error"] is second["response"] is None
    assert second["error"]["code"] == "prompt_too_long"
    assert "2 replies, 1 errors (prompt_too_long 1)" in capsys.readouterr().out
    assert main(words(write(tmp_path / "bad.jsonl", rows[1:2]), tmp_path / "none.jsonl", server.base_url)) == 1
    assert "0 replies, 1 errors" in capsys.readouterr().out


def test_the_money_limit_stops_and_raising_it_goes_on(chaos, tmp_path: Path, capsys) -> None:
    server = chaos(latency_ms=5, reply_chars=400)  # 100 tokens: a dollar each
    source, target = write(tmp_path / "in.jsonl", [row(i) for i in range(100)]), tmp_path / "out.jsonl"
    money = ("--concurrency", "4", "--price-input", "0", "--price-output", "10000")
    assert main(words(source, target, server.base_url, *money, "--max-cost-usd", "30")) == 2
    said = capsys.readouterr().err
    assert "--max-cost-usd is reached" in said
    assert "raise it and run the same command" in said
    spent = server.stats()["requests"]
    assert 26 <= spent <= 30
    assert not target.exists()
    assert main(words(source, target, server.base_url, *money, "--max-cost-usd", "40")) == 2
    assert server.stats()["requests"] <= 40, "what was spent before counts"
    assert main(words(source, target, server.base_url, *money, "--max-cost-usd", "1000")) == 0
    assert server.stats()["repeated"] == 0
    assert len(read(target)) == 100


def test_the_money_limit_holds_where_the_server_reports_no_usage(chaos, tmp_path: Path, capsys) -> None:
    """By characters / 4, as engines do: 400 in a reply are 100 tokens, which are a dollar here."""
    server = chaos(latency_ms=5, reply_chars=400, no_usage=True)
    source, target = write(tmp_path / "in.jsonl", [row(i) for i in range(100)]), tmp_path / "out.jsonl"
    money = ("--concurrency", "4", "--price-input", "0", "--price-output", "10000")
    assert main(words(source, target, server.base_url, *money, "--max-cost-usd", "30")) == 2
    assert "--max-cost-usd is reached" in capsys.readouterr().err
    assert 26 <= server.stats()["requests"] <= 30
    assert main(words(source, target, server.base_url, *money)) == 0
    said = capsys.readouterr().out
    assert "10,000 out, $100" in said
    asked = sum(len(json.dumps({**row(i)["body"], "model": "m"})) / 4 for i in range(100))
    assert int(said.split(" replies, ")[1].split(" tokens in")[0].replace(",", "")) == pytest.approx(asked, abs=100)


def test_other_bodies_are_asked_anew(chaos, tmp_path: Path) -> None:
    """A half-done file never mixes with what another command asks for."""
    server = chaos()
    source, target = write(tmp_path / "in.jsonl", [row(i) for i in range(10)]), tmp_path / "out.jsonl"
    money = ("--price-input", "0", "--price-output", "10000", "--max-cost-usd", "5", "--concurrency", "1")
    assert main(words(source, target, server.base_url, *money)) == 2
    asked = server.stats()["requests"]
    assert main(words(source, target, server.base_url, "--n", "2")) == 0
    assert server.stats()["requests"] == asked + 10
    assert all(len(r["response"]["body"]["choices"]) == 2 for r in read(target))


def test_a_failure_that_comes_as_a_200_and_a_reply_nested_without_end_are_asked_again(tmp_path: Path) -> None:
    fine = {"choices": [{"message": {"content": "fine"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    bodies = [json.dumps({"error": {"code": 502, "message": "no"}}), "[" * 100_000, json.dumps(fine)]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = bodies.pop(0).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    source = write(tmp_path / "in.jsonl", [row(1)])
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert main(words(source, tmp_path / "out.jsonl", f"http://127.0.0.1:{server.server_port}/v1")) == 0
        server.shutdown()
    assert bodies == []
    assert read(tmp_path / "out.jsonl")[0]["response"]["body"] == fine


def test_a_server_that_ignores_n_is_caught(chaos, tmp_path: Path, capsys) -> None:
    server = chaos(ignore_n=True)
    source = write(tmp_path / "in.jsonl", [row(0)])
    assert main(words(source, tmp_path / "out.jsonl", server.base_url, "--n", "4")) == 2
    assert "requested n=4 completions and got 1: this server ignores n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{not json", "in.jsonl, line 2: not JSON"),
        ([1], "in.jsonl, line 2: a row must be a JSON object"),
        ({**row(1), "custom_id": None}, "in.jsonl, line 2: custom_id is missing"),
        ({**row(1), "custom_id": "id-0"}, "in.jsonl, line 2: custom_id 'id-0' is already used in line 1"),
        ({**row(1), "url": "/v1/embeddings"}, "in.jsonl, line 2: only POST to /v1/chat/completions"),
        ({"custom_id": "x"}, "in.jsonl, line 2: body is missing"),
        (row(1, messages=[]), "in.jsonl, line 2: body.messages is missing, empty"),
        (row(1, stream=True), "in.jsonl, line 2: body.stream"),
        (row(1, n="two"), "in.jsonl, line 2: body.n"),
        (row(1, max_tokens="many"), "in.jsonl, line 2: body.max_tokens is not an integer"),
    ],
)
def test_bad_lines_are_named_before_anything_is_asked(tmp_path: Path, capsys, bad: Any, said: str) -> None:
    source = write(tmp_path / "in.jsonl", [row(0), bad, row(3)])
    assert main(words(source, tmp_path / "out.jsonl", "http://127.0.0.1:9/v1")) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_what_else_is_refused(chaos, tmp_path: Path, capsys) -> None:
    server = chaos(model="m", key="right")
    source = write(tmp_path / "in.jsonl", [row(0)])
    for options, said in (
        (["--base-url", "nowhere"], "--base-url"),
        (["--max-cost-usd", "1"], "needs a price"),
        (["--concurrency", "0"], "--concurrency"),
        ([], "check the key in OPENAI_API_KEY"),
        (["--base-url", "http://127.0.0.1:9/v1"], "cannot reach http://127.0.0.1:9/v1"),
    ):
        os.environ["OPENAI_API_KEY"] = "wrong"
        try:
            assert main([*words(source, tmp_path / "out.jsonl", server.base_url), *options]) == 2, said
        finally:
            del os.environ["OPENAI_API_KEY"]
        message = capsys.readouterr().err
        assert said in message
        assert message.count("\n") == 1
    server.change(key="")
    source = write(tmp_path / "in.jsonl", [row(0)])
    arguments = ["complete", str(source), str(tmp_path / "out.jsonl"), "--base-url", server.base_url]
    assert main(arguments) == 2
    assert "in.jsonl, line 1: body.model is missing: set it, or use --model" in capsys.readouterr().err
    assert main([*arguments, "--model", "other"]) == 2
    assert "model" in capsys.readouterr().err
    (tmp_path / "out.jsonl").write_text("")
    assert main([*arguments, "--model", "m"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_target_that_another_process_has_made_meanwhile_is_neither_paid_for_again_nor_replaced(
    chaos, tmp_path: Path, repository: Path
) -> None:
    server = chaos()
    source, target = tmp_path / "requests.jsonl", tmp_path / "out.jsonl"
    os.mkfifo(source)  # checking the requests takes as long as it takes to write them
    process = subprocess.Popen(
        [sys.executable, "-m", "personahub", *words(source, target, server.base_url)],
        cwd=repository,
        stderr=subprocess.PIPE,
        text=True,
    )
    with source.open("w") as requests:
        requests.write(json.dumps(row(1)) + "\n")
        target.write_text("theirs")
    _, said = process.communicate(timeout=200)
    assert process.returncode == 2
    assert "out.jsonl: exists already" in said
    assert target.read_text() == "theirs"
    assert server.stats()["requests"] == 0


def through_a_pipe(how: str, source: Path, target: Path, base_url: str, *more: str) -> subprocess.CompletedProcess[str]:
    """`how` names REQUESTS, the command and the file that goes through the pipe."""
    command = shlex.join([sys.executable, "-m", "personahub", *words(Path("REQUESTS"), target, base_url, *more)])
    script = how.replace("COMMAND", command).replace("FILE", shlex.quote(str(source)))
    before, _, name = script.partition(" as ")
    return subprocess.run(["bash", "-c", before.replace("REQUESTS", name)], capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    "how", ["COMMAND as <(cat FILE)", "cat FILE | COMMAND as /dev/stdin", "COMMAND < FILE as /dev/stdin"]
)
def test_requests_from_a_pipe(chaos, tmp_path: Path, how: str) -> None:
    server = chaos()
    source, target = write(tmp_path / "in.jsonl", [row(i) for i in range(50)]), tmp_path / "out.jsonl"
    done = through_a_pipe(how, source, target, server.base_url)
    assert done.returncode == 0, done.stderr
    assert [r["custom_id"] for r in read(target)] == [f"id-{i}" for i in range(50)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_a_bad_line_in_a_pipe_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    source = write(tmp_path / "in.jsonl", [row(0), "{not json"])
    done = through_a_pipe("cat FILE | COMMAND as /dev/stdin", source, tmp_path / "out.jsonl", "http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: /dev/stdin, line 2: not JSON")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_another_pipe_goes_on_with_what_it_shares_and_mixes_nothing(chaos, tmp_path: Path) -> None:
    """Stopped by its limit amid the first pipe; the second has other rows, of which some are the first's."""
    server = chaos()
    first = write(tmp_path / "first.jsonl", [row(i) for i in range(20)])
    target = tmp_path / "out.jsonl"
    money = ("--price-input", "0", "--price-output", "10000", "--max-cost-usd", "10", "--concurrency", "1")
    assert through_a_pipe("COMMAND as <(cat FILE)", first, target, server.base_url, *money).returncode == 2
    asked = server.stats()["requests"]
    assert 5 < asked < 15
    second = write(tmp_path / "second.jsonl", [row(i) for i in (30, 2, 31, 0)])
    assert through_a_pipe("COMMAND as <(cat FILE)", second, target, server.base_url).returncode == 0
    assert [r["custom_id"] for r in read(target)] == ["id-30", "id-2", "id-31", "id-0"]
    assert server.stats()["requests"] == asked + 2


@pytest.mark.parametrize("kept", ["whole lines", "half a line"])
def test_a_file_that_loses_lines_while_it_is_answered_is_no_success(
    chaos, tmp_path: Path, repository: Path, kept: str
) -> None:
    """The file is read in blocks of at most 128 KB, so the part cut off here has not been read yet."""
    server = chaos(latency_ms=20)
    rows = [row(i, padding="x" * 1000) for i in range(1000)]
    source, target = write(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl"
    command = [sys.executable, "-m", "personahub", *words(source, target, server.base_url, "--concurrency", "4")]
    process = subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE, text=True)
    while not server.stats()["requests"]:
        time.sleep(0.01)
    whole = source.read_bytes()
    os.truncate(source, whole.index(b"\n", 500_000) + (1 if kept == "whole lines" else 500))
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 2
    assert re.search(
        r"in\.jsonl: had 1,000 requests when it was checked and now has 4\d\d: "
        if kept == "whole lines"
        else r"in\.jsonl, line 4\d\d: changed after it was checked \(not JSON",
        said,
    )
    assert "leave the file unchanged and repeat the command" in said
    assert not target.exists()
    source.write_bytes(whole)
    server.change(latency_ms=0)
    assert subprocess.run(command, cwd=repository, timeout=100).returncode == 0
    assert len(read(target)) == 1000
    assert server.stats()["repeated"] <= 8, "what was in flight"
