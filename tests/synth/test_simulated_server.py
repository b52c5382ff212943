"""The simulated teacher behind HTTP: the engine's answers, servers' refusals, and failures as planned."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
import urllib.request

import aiohttp
from aiohttp.test_utils import TestServer

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import Completion, EngineUnavailable, Request, RequestRefused, Sampling
from synth.simulated.engine import Config, answer
from synth.simulated.serve import make_app
from tests.synth.simulated_teacher import ROOT, personas_prompt


def serve_and_ask(requests: list[Request], server: dict | None = None, **config) -> tuple[list, dict]:
    async def run() -> tuple[list, dict]:
        async with TestServer(make_app(**(server or {}))) as test_server:
            values = {
                "kind": "openai",
                "model": "simulated-teacher",
                "base_url": str(test_server.make_url("/v1")),
                **config,
            }
            engine = open_engine(engine_config(values, "engines.e"))
            outcomes = await asyncio.gather(*(engine.complete(r) for r in requests), return_exceptions=True)
            await engine.close()
            async with aiohttp.ClientSession() as session, session.get(test_server.make_url("/stats")) as stats:
                return outcomes, await stats.json()

    return asyncio.run(run())


def test_the_server_answers_as_the_engine_does():
    requests = [
        Request(personas_prompt(count=2), Sampling(max_tokens=limit), seed) for seed, limit in ((1, 1024), (2, 9))
    ]
    outcomes, stats = serve_and_ask([*requests, requests[0]])
    for request, outcome in zip(requests, outcomes[:2], strict=True):
        ours = answer(request, Config())
        assert outcome == Completion(
            ours.text, ours.finish_reason, ours.prompt_tokens, ours.completion_tokens, "simulated-teacher"
        )
    assert stats == {"requests": 3, "distinct": 2, "repeated": 1, "failed": 0}


def test_the_server_refuses_as_servers_do():
    long = Request(personas_prompt(text="x" * 9000), Sampling(), 1)
    (outcome,), _ = serve_and_ask([long], {"max_model_len": 2048})
    assert isinstance(outcome, RequestRefused)
    assert outcome.reason == "prompt_too_long"
    (outcome,), stats = serve_and_ask([long], model="gpt-9")
    assert isinstance(outcome, EngineUnavailable)
    assert "gpt-9" in str(outcome)
    assert stats["requests"] == 0


def test_planned_failures_cost_nothing_in_the_end():
    requests = [Request(personas_prompt(count=1), Sampling(), seed) for seed in range(60)]
    outcomes, stats = serve_and_ask(requests, {"fail_rate": 0.1}, concurrency=8)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert stats["failed"] > 0
    assert stats["requests"] == stats["distinct"] == 60


def test_the_server_gives_as_many_choices_as_asked():
    async def run() -> tuple[dict, dict]:
        async with TestServer(make_app()) as server, aiohttp.ClientSession() as session:
            body = {"model": "simulated-teacher", "messages": personas_prompt(count=1), "n": 3, "seed": 1}
            async with session.post(server.make_url("/v1/chat/completions"), json=body) as response:
                assert response.status == 200
                many = await response.json()
            async with session.post(server.make_url("/v1/chat/completions"), data=b"{nonsense") as response:
                return many, {"status": response.status, **await response.json()}

    many, bad = asyncio.run(run())
    assert len({choice["message"]["content"] for choice in many["choices"]}) == 3
    assert many["usage"]["total_tokens"] == many["usage"]["prompt_tokens"] + many["usage"]["completion_tokens"]
    assert bad["status"] == 400


def test_the_server_starts_from_the_command_line():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "synth.simulated.serve", "--port", str(port), "--model", "tutor"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert f"http://127.0.0.1:{port}/v1" in process.stdout.readline()
            models = _get_soon(f"http://127.0.0.1:{port}/v1/models")
            assert models["data"][0]["id"] == "tutor"
        finally:
            process.terminate()


def _get_soon(url: str) -> dict:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url) as response:
                return json.load(response)
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer from {url}")
