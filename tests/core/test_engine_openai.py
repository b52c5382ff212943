"""The HTTP engine against real servers on loopback: requests, failures, secrets."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from personahub.core.config import identity_of
from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import (
    Completion,
    EngineUnavailable,
    Request,
    RequestRefused,
    Sampling,
)
from personahub.core.engines.remote.responses import classify_error, read_completions
from personahub.core.errors import UserError
from tests.core.openai_server import KEY, app_of, engine_at, error, failing, fine, fixed, reply, request, talk


def test_the_body_says_everything(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    seen = {}

    async def handler(http, _body, _number):
        seen.update(http.headers)
        return reply("  text\n")

    sampling = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 55,
        "stop": ("END",),
        "extra": {"top_k": 5, "seed": None},
    }
    schema = {"type": "object"}
    asked = [
        request("h\ud800i", seed=42, temperature=0),
        Request(request().messages, Sampling(**sampling), 9, 0, 0, schema),
    ]
    (first, second), bodies = talk(handler, asked)
    assert first == Completion("  text\n", "stop", 7, 3, "served-model-2026")
    assert second == first
    plain, full = sorted(bodies, key=lambda body: "stop" in body)
    assert plain == {
        "model": "m",
        "messages": [{"role": "user", "content": "h\ud800i"}],
        "temperature": 0,
        "top_p": 1,
        "max_tokens": 1024,
        "seed": 42,
    }
    assert full.pop("response_format") == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }
    assert {k: v for k, v in full.items() if k not in ("messages", "model")} == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 55,
        "stop": ["END"],
        "top_k": 5,
    }
    assert seen["Authorization"] == f"Bearer {KEY}"


def test_extra_cannot_ask_for_more_choices():
    (outcome,), bodies = talk(fine, [request(extra={"n": 4})])
    assert isinstance(outcome, EngineUnavailable)
    assert "n cannot be set" in str(outcome)
    assert bodies == []


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (lambda: error(400, "anything", "context_length_exceeded"), "prompt_too_long"),
        (
            lambda: error(400, "This model's maximum context length is 2048 tokens. However, you requested 3000"),
            "prompt_too_long",
        ),
        (
            lambda: web.json_response(
                {
                    "object": "error",
                    "message": "'max_tokens' is too large: the maximum context length is 9",
                    "code": 400,
                },
                status=400,
            ),
            "prompt_too_long",
        ),
        (lambda: error(413), "prompt_too_long"),
        (lambda: error(400, "The response was filtered", "content_filter"), "content_filter"),
        (lambda: error(403, "Input flagged", "moderation"), "content_filter"),
        (lambda: reply(choices=[{"message": {"content": None}, "finish_reason": "content_filter"}]), "content_filter"),
        (
            lambda: reply(choices=[{"message": {"content": None, "refusal": "I won't"}, "finish_reason": "stop"}]),
            "content_filter",
        ),
    ],
)
def test_what_can_never_be_answered_is_refused_at_once(response, reason):
    (outcome,), bodies = talk(failing(*[fixed(response)] * 9), [request()])
    assert isinstance(outcome, RequestRefused), outcome
    assert outcome.reason == reason
    assert len(bodies) == 1


def test_a_bad_prompt_is_told_from_a_bad_configuration():
    async def bad_prompt(_http, body, _number):
        return error(422, "cannot be encoded") if "bad" in body["messages"][0]["content"] else reply()

    outcomes, _ = talk(bad_prompt, [request("bad"), request("good"), request("bad too")])
    assert [type(outcome) for outcome in outcomes] == [RequestRefused, Completion, RequestRefused]
    assert outcomes[0].reason == "bad_request"

    async def bad_parameter(_http, body, _number):
        return error(400, "Unknown parameter: min_p") if "min_p" in body else reply()

    (outcome,), _ = talk(bad_parameter, [request(extra={"min_p": 0.1})])
    assert isinstance(outcome, EngineUnavailable)
    assert "min_p" in str(outcome)


def test_an_endpoint_that_refuses_seeds_stops_the_run_with_the_way_out():
    async def no_seed(_http, body, _number):
        return error(422, "seed: Extra inputs are not permitted") if "seed" in body else reply()

    (without,), _ = talk(no_seed, [request(extra={"seed": None})])
    assert isinstance(without, Completion)
    (outcome,), bodies = talk(no_seed, [request()])
    assert isinstance(outcome, EngineUnavailable)
    assert "seed: Extra inputs" in str(outcome)
    assert "sampling.extra: {name: null}" in str(outcome)
    assert len(bodies) == 2, "the request and one probe"

    async def both(_http, body, number):
        bad = "bad" in body["messages"][0]["content"]
        return error(422, "cannot be encoded") if bad else await no_seed(_http, body, number)

    outcomes, _ = talk(both, [request("bad", extra={"seed": None}), request("good")])
    assert [type(outcome) for outcome in outcomes] == [RequestRefused, EngineUnavailable]


def test_an_endpoint_that_refuses_n_stops_the_run_with_the_way_out():
    async def only_one(_http, body, _number):
        if "bad" in body["messages"][0]["content"]:
            return error(400, "cannot be encoded")
        return error(400, "only n=1 is supported") if body.get("n", 1) > 1 else reply()

    async def run() -> None:
        async with TestServer(app_of(only_one)[0]) as server, engine_at(server, use_n=True) as engine:
            with pytest.raises(EngineUnavailable, match=r"only n=1 is supported \(set use_n: false"):
                await engine.complete_samples([request(seed=seed) for seed in range(2)])
            with pytest.raises(RequestRefused):
                await engine.complete(request("bad"))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (lambda: error(401, f"Incorrect API key provided: {KEY}"), "MY_KEY"),
        (lambda: error(403, "not allowed"), "MY_KEY"),
        (lambda: error(402, "Insufficient balance"), "credit"),
        (lambda: error(429, "You exceeded your current quota", "insufficient_quota"), "credit"),
        (lambda: error(404, "The model `m` does not exist", "model_not_found"), "model: m"),
        (lambda: web.Response(status=308, headers={"Location": "https://elsewhere/v1"}), "https://elsewhere/v1"),
    ],
)
def test_what_no_request_survives_stops_the_run_without_the_key(response, said, monkeypatch, caplog, capsys):
    monkeypatch.setenv("MY_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    (outcome,), bodies = talk(failing(*[fixed(response)] * 9), [request()], api_key_env="MY_KEY")
    assert isinstance(outcome, EngineUnavailable)
    assert said in str(outcome)
    assert "127.0.0.1" in str(outcome)
    assert "\n" not in str(outcome)
    assert len(bodies) == 1
    assert KEY not in str(outcome) + caplog.text + "".join(capsys.readouterr())


@pytest.mark.parametrize("key", ["EMPTY", "none", "x", "token", "stop", "ollama", "choices", "1"])
def test_a_key_that_stands_for_none_changes_no_completion(key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    text = "1 token is EMPTY or none: stop and ask ollama for the choices of x."
    (outcome,), _ = talk(failing(fixed(lambda: reply(text))), [request()])
    assert outcome == Completion(text, "stop", 7, 3, "served-model-2026")


@pytest.mark.parametrize("slash", ["/", "\\/"])
def test_a_secret_that_a_completion_repeats_is_blanked(slash, monkeypatch):
    """However the server's JSON spells it."""
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}/abc")
    body = reply(f"your key is {KEY}/abc").text
    assert body is not None
    escaped = body.replace("/", slash)
    (outcome,), _ = talk(failing(fixed(lambda: web.Response(text=escaped))), [request()])
    assert outcome.text == "your key is ***"


def refusing(text: str) -> web.Response:
    return reply(choices=[{"message": {"content": None, "refusal": text}, "finish_reason": "stop"}])


@pytest.mark.parametrize("key", ["hunter2", "aVery/Long+Secret/0123=="])
@pytest.mark.parametrize(
    "response",
    [
        lambda key: error(400, key),
        lambda key: error(403, key, "moderation"),
        lambda key: error(503, key),
        lambda key: web.Response(text=f"<p>{key}</p>", status=401),
        lambda key: web.Response(text=json.dumps({"error": f"({key})"}).replace("/", "\\/"), status=401),
        lambda key: web.Response(status=308, headers={"Location": f"https://elsewhere/{key}"}),
        lambda key: web.Response(text=f"<p>{key}</p>"),
        lambda key: web.json_response({"error": {"message": key}}),
        refusing,
        lambda key: reply(choices=[{"message": {"content": None}, "finish_reason": key}]),
        lambda key: reply(choices=[{"message": {"content": key}}] * 2),
    ],
)
def test_no_message_shows_a_key_however_short(response, key, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    (outcome,), _ = talk(failing(*[fixed(lambda: response(key))] * 99), [request()], max_outage_s=0.5)
    assert isinstance(outcome, EngineUnavailable | RequestRefused)
    assert "***" in str(outcome)
    assert key not in f"{outcome} {outcome!r} {vars(outcome)}"


def test_an_endpoint_that_is_not_there_is_one_line_soon():
    started = time.monotonic()

    async def run() -> None:
        values = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
        engine = open_engine(engine_config(values, "engines.e"))
        try:
            await asyncio.gather(*(engine.complete(request()) for _ in range(8)))
        finally:
            await engine.close()

    with pytest.raises(EngineUnavailable, match=r"cannot reach http://127\.0\.0\.1:9/v1") as failure:
        asyncio.run(run())
    assert "\n" not in str(failure.value)
    assert time.monotonic() - started < 10


def test_keys(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    loopback = {"kind": "openai", "model": "m", "base_url": "http://localhost:8000/v1"}
    open_engine(engine_config(loopback, "e"))
    remote = {"kind": "openai", "model": "m", "base_url": "https://api.example.org/v1"}
    open_engine(engine_config({**remote, "api_key_env": None}, "e"))
    with pytest.raises(EngineUnavailable, match="OPENAI_API_KEY"):
        open_engine(engine_config(remote, "e"))
    monkeypatch.setenv("OPENAI_API_KEY", "two\nlines")
    with pytest.raises(EngineUnavailable, match="OPENAI_API_KEY") as failure:
        open_engine(engine_config(remote, "e"))
    assert "two" not in str(failure.value)


def test_identity_is_the_model_and_the_endpoint():
    def identity(**values):
        return identity_of(engine_config({"kind": "openai", "model": "m", **values}, "e"))

    base = identity(base_url="https://api.example.org/v1")
    assert base == {"kind": "openai", "model": "m", "base_url": "https://api.example.org/v1", "use_n": False}
    assert identity(base_url="https://API.example.org/v1/") == base
    assert (
        identity(base_url="https://api.example.org/v1", rpm=5, price={"input": 1, "output": 2}, concurrency=3) == base
    )
    assert identity(base_url="https://api.example.org/v2") != base
    for url in ("api.example.org/v1", "https://user:pass@example.org/v1", "https://example.org/v1?key=1", "ftp://x/v1"):
        with pytest.raises(UserError, match="base_url"):
            identity(base_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:80800/v1",
        "http://127.0.0.1:0/v1",
        "http://127.0.0.1:port/v1",
        "http://foo..bar/v1",
        f"http://{'a' * 64}.org/v1",
        "http://[::1/v1",
        "http://a b/v1",
    ],
)
def test_a_base_url_that_no_request_can_go_to_is_refused_before_anything_runs(url):
    for kind in ("openai", "openai_batch"):
        with pytest.raises(UserError, match=r"base_url.*http://127\.0\.0\.1:8000/v1") as refused:
            engine_config({"kind": kind, "model": "m", "base_url": url}, "engines.e")
        assert "\n" not in str(refused.value)
    for fine_url in ("http://my_server:8000/v1", "http://[::1]:8000/v1", "https://m\u00fcller.example/v1"):
        engine_config({"kind": "openai", "model": "m", "base_url": fine_url}, "engines.e")


def test_usage_is_estimated_where_the_server_is_silent():
    body = {"choices": [{"message": {"content": "12345678"}, "finish_reason": "length"}]}
    (completion,) = read_completions(json.dumps(body).encode(), "m", 40)
    assert completion == Completion("12345678", "length", 10, 2, "m")
    odd = {**body, "usage": {"prompt_tokens": None, "completion_tokens": "many"}}
    assert read_completions(json.dumps(odd).encode(), "m", 40) == [completion]


@pytest.mark.parametrize(
    "reported",
    [
        "none",
        {"content": None},
        {"content": [None]},
        {"content": [{"token": "a"}]},
        {"content": [{"token": "a", "logprob": None}]},
        {"content": [{"token": "a", "logprob": 10**400}]},
        {"tokens": ["a"], "token_logprobs": [-0.5]},
    ],
)
def test_log_probabilities_that_cannot_be_read_are_none(reported):
    choice = {"message": {"content": "fine"}, "finish_reason": "stop", "logprobs": reported}
    (outcome,), _ = talk(failing(fixed(lambda: reply(choices=[choice]))), [request(extra={"logprobs": True})])
    assert outcome == Completion("fine", "stop", 7, 3, "served-model-2026")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"error": ' + b"[" * 900 + b"]" * 900 + b"}",
        b"",
        b"\xff\xfe",
        b"null",
        b"[1]",
        b'"x"',
        b'{"error": "flat"}',
        b'{"detail": [{"msg": "x"}]}',
    ],
)
def test_error_bodies_of_any_shape_are_read(body):
    kind, message = classify_error(400, {}, body)
    assert kind == "refused"
    assert "\n" not in message
