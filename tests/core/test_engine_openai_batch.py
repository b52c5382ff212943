"""The Batch API engine against a server that has one: files, states, rows that fail, and kills."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from personahub.core.artifact import open_artifact
from personahub.core.engines import PricedConfig, engine_config, open_engine
from personahub.core.engines.base import Completion, EngineUnavailable, Request, RequestRefused, Sampling

FAST = {"settle_s": 0.1, "poll_s": 0.1}


def request(text: str, sample: int = 0) -> Request:
    return Request(({"role": "user", "content": text},), Sampling(max_tokens=50), 1, sample)


def ask(base_url: str, texts: list[str], folder: Path | None = None, **config) -> list:
    """Outcomes of `texts`, all asked at once."""
    values = {"kind": "openai_batch", "model": "m", "base_url": base_url, **FAST, **config}

    async def run() -> list:
        engine = open_engine(engine_config(values, "engines.e"))
        if folder is not None:
            engine.keep_state_in(folder)
        try:
            return await asyncio.gather(*(engine.complete(request(text)) for text in texts), return_exceptions=True)
        finally:
            await engine.close()

    return asyncio.run(run())


def test_requests_travel_as_one_file_and_answers_find_their_requests(chaos) -> None:
    server = chaos(batch_s=0.2)
    outcomes = ask(server.base_url, [f"question {i}" for i in range(50)])
    assert all(isinstance(outcome, Completion) for outcome in outcomes), outcomes[:3]
    assert len({outcome.text for outcome in outcomes}) == 50
    assert server.stats()["batches"] == {"uploads": 1, "submitted": 1, "lines": 50}
    assert server.stats()["requests"] == 50


def test_files_keep_to_the_limits(chaos) -> None:
    server = chaos(batch_s=0.1)
    assert len(ask(server.base_url, [f"question {i}" for i in range(50)], max_requests=20)) == 50
    assert server.stats()["batches"] == {"uploads": 3, "submitted": 3, "lines": 50}
    server.change()
    outcomes = ask(server.base_url, [f"question {i}" for i in range(50)], max_bytes=2_000)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert server.stats()["batches"]["submitted"] >= 5
    assert server.stats()["batches"]["lines"] == 50


def test_a_row_that_fails_is_refused_alone(chaos) -> None:
    server = chaos(batch_s=0.1, batch_fail="poison")
    good, bad, other = ask(server.base_url, ["good", "poison", "other"])
    assert isinstance(good, Completion)
    assert isinstance(other, Completion)
    assert isinstance(bad, RequestRefused)
    assert bad.reason == "prompt_too_long"


def test_what_an_expired_batch_did_not_reach_is_submitted_again(chaos) -> None:
    server = chaos(batch_s=0.1, batch_expire_after=30)
    outcomes = ask(server.base_url, [f"question {i}" for i in range(80)])
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    stats = server.stats()
    assert stats["batches"] == {"uploads": 3, "submitted": 3, "lines": 80 + 50 + 20}
    assert stats["answered_twice"] == 0


def test_an_endpoint_without_batches_stops_the_run(chaos) -> None:
    (outcome,) = ask(f"{chaos().url}/v2/none", ["a"])
    assert isinstance(outcome, EngineUnavailable)
    assert "HTTP 404" in str(outcome)
    assert "base_url" in str(outcome)


def ask_broken(replies: dict[str, str], folder: Path | None = None) -> tuple[list, int]:
    """Outcomes of one request to a Batch API some of whose replies are others, and how often it was asked.

    Args:
        replies: body by method and path below /v1; CUSTOM_ID in it is replaced by the request's.
    """
    asked, custom_id = 0, ""
    ready = {
        "POST files": '{"id": "f"}',
        "POST batches": '{"id": "b"}',
        "GET batches": '{"data": []}',
        "GET batches/b": '{"status": "completed", "output_file_id": "o"}',
    }

    async def handle(http: web.Request) -> web.Response:
        nonlocal asked, custom_id
        asked += 1
        found = re.search(rb'"custom_id": "(\w+)"', await http.read())
        custom_id = found[1].decode() if found else custom_id
        path = f"{http.method} {http.path.removeprefix('/v1/')}"
        return web.Response(text={**ready, **replies}[path].replace("CUSTOM_ID", custom_id))

    async def run() -> list:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        async with TestServer(app) as server:
            return await asyncio.to_thread(ask, str(server.make_url("/v1")), ["a"], folder)

    return asyncio.run(run()), asked


LOGIN = "<html>\n  <h1>Please log in</h1>\n</html>"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("POST files", LOGIN),
        ("POST files", "{}"),
        ("POST files", '{"id": 7}'),
        ("POST batches", LOGIN),
        ("POST batches", "[]"),
        ("GET batches/b", LOGIN),
        ("GET batches/b", '{"id": "b"}'),
        ("GET batches/b", '{"status": ' + "[" * 100_000),
        ("GET files/o/content", LOGIN),
        ("GET files/o/content", '{"response": {}}'),
        ("GET files/o/content", "[1]"),
        ("GET files/o/content", "[" * 100_000),
    ],
)
def test_a_reply_that_is_not_the_batch_apis_is_one_line_with_the_address(path: str, body: str) -> None:
    (outcome,), _ = ask_broken({path: body})
    assert isinstance(outcome, EngineUnavailable), outcome
    assert f"/v1/{path.split()[1]}: not a reply of the Batch API: {body[:6]}" in str(outcome)
    assert "\n" not in str(outcome)
    assert len(str(outcome)) < 500


@pytest.mark.parametrize("body", [LOGIN, "{}", '{"data": [{"metadata": {}}]}', '{"data": [7]}'])
def test_a_list_of_batches_that_cannot_be_read_is_one_line(body: str, tmp_path: Path) -> None:
    """After a kill between a batch's submission and the note of its id."""
    ask_broken({"POST batches": LOGIN}, tmp_path)
    (outcome,), _ = ask_broken({"GET batches": body}, tmp_path)
    assert isinstance(outcome, EngineUnavailable), outcome
    assert "batches?limit=100: not a reply of the Batch API" in str(outcome)
    assert "\n" not in str(outcome)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ({"status_code": 200, "body": {"error": {"code": 503, "message": "hunter2 is down"}}}, "*** is down"),
        ({"status_code": 503, "body": {"error": {"message": "hunter2 is down"}}}, "*** is down"),
        ({"status_code": None, "body": {"error": {"message": "hunter2 is down"}}}, "*** is down"),
        ("hunter2", "ended badly"),
    ],
)
def test_a_row_that_fails_for_a_while_is_submitted_again_and_shows_no_key(response, said: str, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "hunter2")
    row = {"custom_id": "CUSTOM_ID", "response": response, "error": "ended badly"}
    (outcome,), asked = ask_broken({"GET files/o/content": json.dumps(row)})
    assert isinstance(outcome, EngineUnavailable), outcome  # nothing at all was answered: it is not the prompt
    assert said in str(outcome)
    assert "hunter2" not in str(outcome)
    assert asked == 4 * 4


def test_a_row_that_fails_in_each_batch_is_refused_where_others_are_answered(chaos) -> None:
    server = chaos(batch_s=0.1, batch_fail="poison", batch_fail_status=503)
    good, bad, other = ask(server.base_url, ["good", "poison", "other"])
    assert isinstance(good, Completion)
    assert isinstance(other, Completion)
    assert isinstance(bad, RequestRefused)
    assert bad.reason == "server_error"
    assert bad.wasted == (0, 0)
    assert server.stats()["batches"]["submitted"] == 4


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        (400, "unsupported_parameter", "sampling.extra"),
        (404, "model_not_found", "check model: m"),
        (401, "invalid_api_key", "check the key in OPENAI_API_KEY"),
        (429, "insufficient_quota", "no credit left"),
    ],
)
def test_what_no_prompt_would_pass_stops_the_run_and_is_asked_anew_by_the_next(
    status: int, code: str, advice: str, chaos, tmp_path: Path
) -> None:
    said = {"batch_fail_status": status, "batch_fail_code": code, "batch_fail_message": "not like this"}
    server = chaos(batch_s=0.1, batch_fail="question", refuse=True, **said)
    texts = [f"question {i}" for i in range(5)]
    for outcome in ask(server.base_url, texts, tmp_path):
        assert isinstance(outcome, EngineUnavailable), outcome
        assert "not like this" in str(outcome)
        assert advice in str(outcome)
    assert server.stats()["batches"]["submitted"] == 1
    server.change(anew=False, batch_fail="", refuse=False)
    outcomes = ask(server.base_url, texts, tmp_path)
    assert all(isinstance(outcome, Completion) for outcome in outcomes), outcomes[0]
    assert server.stats()["batches"]["submitted"] == 2


@pytest.mark.parametrize("texts", [["poison", "poison too"], ["poison", "good"]])
def test_a_prompt_that_is_refused_does_not_stop_the_run(texts: list[str], chaos) -> None:
    """In a batch of nothing else the parameters are tried with another prompt."""
    server = chaos(batch_s=0.1, batch_fail="poison", batch_fail_code="bad", batch_fail_message="this prompt is bad")
    first, second = ask(server.base_url, texts)
    assert isinstance(first, RequestRefused), first
    assert first.reason == "bad_request"
    assert "this prompt is bad" in str(first)
    assert isinstance(second, RequestRefused if "poison" in texts[1] else Completion), second


def test_a_batch_of_refused_prompts_is_one_probe(chaos) -> None:
    server = chaos(batch_s=0.1, batch_fail="poison", batch_fail_code="bad", batch_fail_message="no", latency_ms=50)
    outcomes = ask(server.base_url, [f"poison {i}" for i in range(40)])
    assert all(isinstance(outcome, RequestRefused) for outcome in outcomes), outcomes[0]
    stats = server.stats()
    assert stats["requests"] - stats["batches"]["lines"] == 1


def test_an_engine_that_opens_anew_finds_its_batches(chaos, tmp_path: Path) -> None:
    """Also one whose id was not noted any more: the kill came between the submission and the note."""
    server = chaos(batch_s=0.1)
    texts = [f"question {i}" for i in range(20)]
    first = ask(server.base_url, texts, tmp_path)
    assert ask(server.base_url, texts, tmp_path) == first
    (note,) = (tmp_path / "batches").glob("*.json")
    note.unlink()
    assert ask(server.base_url, texts, tmp_path) == first
    assert note.exists()
    assert server.stats()["batches"]["submitted"] == 1
    assert len(ask(server.base_url, [*texts, "one more"], tmp_path)) == 21
    assert server.stats()["batches"] == {"uploads": 2, "submitted": 2, "lines": 21}


def test_another_provider_is_not_asked_for_batches_that_it_never_had(chaos, tmp_path: Path) -> None:
    """As after `run --redo` with another base_url: the folder of the journal is the same."""
    first, second = chaos(batch_s=0.1), chaos(batch_s=0.1)
    texts = [f"question {i}" for i in range(5)]
    assert all(isinstance(outcome, Completion) for outcome in ask(first.base_url, texts, tmp_path))
    outcomes = ask(second.base_url, texts, tmp_path)
    assert all(isinstance(outcome, Completion) for outcome in outcomes), outcomes[0]
    assert second.stats()["batches"]["submitted"] == 1


def test_batches_that_are_read_are_not_held_in_memory(chaos) -> None:
    server = chaos(batch_s=0.1)
    values = {"kind": "openai_batch", "model": "m", "base_url": server.base_url, **FAST, "max_requests": 4}

    async def run() -> list[int]:
        engine = open_engine(engine_config(values, "engines.e"))
        held = []
        try:
            for part in range(3):
                await asyncio.gather(*(engine.complete(request(f"question {part} {i}")) for i in range(8)))
                gc.collect()
                # rows of replies, as the server sent them
                held.append(sum(type(o) is dict and o.keys() >= {"custom_id", "response"} for o in gc.get_objects()))
        finally:
            await engine.close()
        return held

    assert asyncio.run(run()) == [0, 0, 0]


def test_a_kill_between_submission_and_download_submits_nothing_twice(chaos, tmp_path: Path, repository: Path) -> None:
    server = chaos(batch_s=2.0)
    module = "benchmarks.generation_stage"
    engine = {"kind": "openai_batch", "model": "m", "base_url": server.base_url, **FAST}
    stages = {
        "prompts": {"run": module, "config": {"count": 200}},
        "answers": {"run": module, "inputs": {"prompts": "prompts"}, "config": {"engine": "server"}},
    }
    file = tmp_path / "batch.json"
    file.write_text(json.dumps({"experiment": "batch", "engines": {"server": engine}, "stages": stages}))
    command = [sys.executable, "-m", "personahub", "run", str(file), "--runs", str(tmp_path)]
    process = subprocess.Popen(command, cwd=repository, start_new_session=True)
    while server.stats()["batches"]["submitted"] < 1:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert subprocess.run(command, cwd=repository, timeout=60).returncode == 0
    artifact = open_artifact(tmp_path / "batch" / "answers")
    assert [row["id"] for row in artifact.rows()] == [str(number) for number in range(200)]
    assert server.stats()["batches"] == {"uploads": 1, "submitted": 1, "lines": 200}


@pytest.mark.parametrize("kind", ["openai", "openai_batch"])
def test_batches_are_billed_at_half_the_price(kind: str) -> None:
    price = {"input": 4, "output": 10}
    config = engine_config({"kind": kind, "model": "m", "price": price}, "e")
    assert isinstance(config, PricedConfig)
    assert (billed := config.billed) is not None
    assert (billed.input, billed.output) == ((4, 10) if kind == "openai" else (2, 5))
