"""The HTTP engine against real servers on loopback: what it retries, what it gives up, what it never says."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from personahub.core.config import identity_of
from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import (
    Completion,
    Engine,
    EngineUnavailable,
    Message,
    Request,
    RequestRefused,
    Sampling,
)
from personahub.core.engines.openai_replies import classify_error, read_completions, retry_after
from personahub.core.errors import UserError

KEY = "sk-very-secret-0123456789"
Handler = Callable[[web.Request, dict, int], Awaitable[web.StreamResponse]]


def reply(text: str = "fine", **changes) -> web.Response:
    body = {
        "model": "served-model-2026",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }
    return web.json_response({**body, **changes})


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": code}}, status=status, headers=headers)


def request(text: str = "hello", seed: int = 1, **sampling) -> Request:
    return Request((Message(role="user", content=text),), Sampling(**sampling), seed)


def app_of(handler: Handler) -> tuple[web.Application, list[dict]]:
    """A server with `handler(request, body, number)`, and the bodies it receives."""
    received: list[dict] = []

    async def handle(http: web.Request) -> web.StreamResponse:
        body = await http.json()
        received.append(body)
        return await handler(http, body, len(received))

    app = web.Application()
    app.router.add_post("/v1/chat/completions", handle)
    return app, received


@asynccontextmanager
async def engine_at(server: TestServer, **config) -> AsyncIterator[Engine]:
    values = {"kind": "openai", "model": "m", "base_url": str(server.make_url("/v1")), **config}
    engine = open_engine(engine_config(values, "engines.e"))
    try:
        yield engine
    finally:
        await engine.close()


def talk(handler: Handler, requests: list[Request], **config) -> tuple[list, list[dict]]:
    """Ask `requests`, all at once; outcomes, and the bodies that the server received."""
    app, received = app_of(handler)

    async def run() -> list:
        async with TestServer(app) as server, engine_at(server, **config) as engine:
            return await asyncio.gather(*(engine.complete(r) for r in requests), return_exceptions=True)

    return asyncio.run(run()), received


async def fine(_http, _body, _number) -> web.Response:
    return reply()


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


def failing(*failures: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
    """A server that answers its first requests with `failures`, then properly."""

    async def handler(http, _body, number):
        return await failures[number - 1](http) if number <= len(failures) else reply()

    return handler


async def dropped(http: web.Request) -> web.StreamResponse:
    assert http.transport is not None
    http.transport.close()
    return web.Response()


async def cut_short(http: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(http)
    await response.write(b'{"choices": [{"mess')
    assert http.transport is not None
    http.transport.close()
    return response


async def slow(_http: web.Request) -> web.StreamResponse:
    await asyncio.sleep(2)
    return reply()


def fixed(make: Callable[[], web.Response]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def respond(_http: web.Request) -> web.StreamResponse:
        return make()

    return respond


@pytest.mark.parametrize(
    "failure",
    [
        fixed(lambda: error(500)),
        fixed(lambda: error(503, **{"Retry-After": "0"})),
        fixed(lambda: error(529)),
        fixed(lambda: error(408)),
        fixed(lambda: error(429)),
        fixed(lambda: web.Response(text="<html>bad gateway</html>", status=502)),
        fixed(lambda: web.Response(text="not json")),
        fixed(lambda: web.Response(text="[]", content_type="application/json")),
        fixed(lambda: reply(choices=[])),
        fixed(lambda: reply(choices=[{}])),
        fixed(lambda: reply(choices=[{"message": {"content": "a"}}, {"message": {"content": "b"}}])),
        fixed(lambda: reply(choices=[{"message": {"content": "a"}, "finish_reason": "abort"}])),
        fixed(lambda: reply(choices=[{"message": {"content": {"a": 1}}, "finish_reason": "stop"}])),
        dropped,
        cut_short,
        slow,
    ],
)
def test_passing_failures_are_retried(failure):
    (outcome,), bodies = talk(failing(failure), [request()], timeout_s=0.4)
    assert isinstance(outcome, Completion), outcome
    assert len(bodies) == 2
    assert bodies[0] == bodies[1], "the retry asks for something else"


def arrivals_after(throttled: int) -> list[float]:
    """Arrival times where the first `throttled` requests are turned away for a second, and one more comes 0.3 s later."""
    arrivals: list[float] = []

    async def handler(_http, _body, number):
        arrivals.append(time.monotonic())
        return error(429, **{"Retry-After": "1"}) if number <= throttled else reply()

    async def run():
        async with TestServer(app_of(handler)[0]) as server, engine_at(server) as engine:
            early = [asyncio.create_task(engine.complete(request(str(i)))) for i in range(throttled)]
            await asyncio.sleep(0.3)
            await engine.complete(request("late"))
            await asyncio.gather(*early)

    asyncio.run(run())
    return [arrival - arrivals[0] for arrival in arrivals]


def test_a_throttling_server_gets_a_pause_from_all_requests():
    assert all(arrival >= 0.99 for arrival in arrivals_after(throttled=2)[2:])


def test_one_throttled_request_waits_alone():
    _, late, retried = arrivals_after(throttled=1)
    assert 0.25 < late < 0.9
    assert retried >= 0.99


def test_a_window_of_throttling_loses_nothing():
    started = []

    async def handler(_http, _body, _number):
        started.append(time.monotonic())
        return error(429) if time.monotonic() - started[0] < 1.5 else reply()

    outcomes, bodies = talk(handler, [request(str(i)) for i in range(300)], concurrency=32, max_outage_s=30)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert len(bodies) < 300 + 300 * 4, "throttled requests hammer the server"


def test_scattered_failures_lose_neither_requests_nor_time():
    async def handler(_http, _body, number):
        if number % 20 == 0:
            return error(500) if number % 40 else error(429, **{"Retry-After": "1"})
        return reply()

    started = time.monotonic()
    outcomes, _ = talk(handler, [request(str(i)) for i in range(400)], concurrency=32)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert time.monotonic() - started < 5, "ten pauses of a second would take ten seconds"


def test_when_nothing_gets_through_the_run_stops():
    for status in (500, 429):
        (outcome,), bodies = talk(
            failing(*[fixed(lambda s=status: error(s, "overloaded"))] * 99), [request()], max_outage_s=1
        )
        assert isinstance(outcome, EngineUnavailable)
        assert "overloaded" in str(outcome)
        assert "resume" in str(outcome)
        assert len(bodies) >= 2


def test_a_wait_beyond_all_patience_stops_at_once():
    started = time.monotonic()
    (outcome,), _ = talk(failing(fixed(lambda: error(429, **{"Retry-After": "86400"}))), [request()])
    assert isinstance(outcome, EngineUnavailable)
    assert time.monotonic() - started < 5


def test_one_poisonous_request_is_refused_while_others_go_on():
    async def handler(_http, body, _number):
        return error(500, "worker died") if "poison" in body["messages"][0]["content"] else reply()

    async def slow_others(http, body, number):
        await asyncio.sleep(0.4)
        return await handler(http, body, number)

    outcomes, _ = talk(
        slow_others, [request("poison"), *(request(str(i)) for i in range(9))], concurrency=2, max_retry_s=0.5
    )
    assert isinstance(outcomes[0], RequestRefused)
    assert outcomes[0].reason == "server_error"
    assert all(isinstance(outcome, Completion) for outcome in outcomes[1:])


def test_answers_that_cannot_be_read_are_not_paid_for_without_end():
    (outcome,), bodies = talk(failing(*[fixed(lambda: web.Response(text="{}"))] * 99), [request()])
    assert isinstance(outcome, EngineUnavailable)
    assert len(bodies) == 4


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


def test_a_server_that_restarts_is_waited_for():
    async def run() -> Completion:
        server = TestServer(app_of(fine)[0])
        await server.start_server()
        async with engine_at(server, max_outage_s=20) as engine:
            await engine.complete(request())
            port = server.port
            await server.close()
            pending = asyncio.create_task(engine.complete(request()))
            await asyncio.sleep(1)
            async with TestServer(app_of(fine)[0], port=port):
                return await pending

    assert asyncio.run(run()).text == "fine"


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


def test_requests_per_minute_hold():
    arrivals = []

    async def handler(_http, _body, _number):
        arrivals.append(time.monotonic())
        return reply()

    outcomes, _ = talk(handler, [request(str(i)) for i in range(16)], rpm=600)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert arrivals[-1] - arrivals[0] == pytest.approx(1.5, abs=0.4)


def test_tokens_per_minute_hold():
    """4,000 tokens a second and 1,000 a request: four requests a second, though far fewer were expected of them."""
    arrivals = []

    async def handler(_http, _body, _number):
        arrivals.append(time.monotonic())
        return reply(usage={"prompt_tokens": 400, "completion_tokens": 600})

    async def run() -> None:
        async with TestServer(app_of(handler)[0]) as server, engine_at(server, tpm=240_000) as engine:
            for i in range(7):
                await engine.complete(request(str(i), max_tokens=64))

    asyncio.run(run())
    assert arrivals[-1] - arrivals[0] == pytest.approx(1.5, abs=0.4)


def test_usage_is_estimated_where_the_server_is_silent():
    body = {"choices": [{"message": {"content": "12345678"}, "finish_reason": "length"}]}
    (completion,) = read_completions(json.dumps(body).encode(), "m", 40)
    assert completion == Completion("12345678", "length", 10, 2, "m")
    odd = {**body, "usage": {"prompt_tokens": None, "completion_tokens": "many"}}
    assert read_completions(json.dumps(odd).encode(), "m", 40) == [completion]


def test_retry_after_in_all_its_forms():
    assert retry_after({}) is None
    assert retry_after({"Retry-After": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "250", "Retry-After": "9"}) == 0.25
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert (
        3000
        < (
            retry_after({"Retry-After": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))})
            or 0
        )
        <= 3600
    )


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe", b"null", b"[1]", b'"x"', b'{"error": "flat"}', b'{"detail": [{"msg": "x"}]}']
)
def test_error_bodies_of_any_shape_are_read(body):
    kind, message = classify_error(400, {}, body)
    assert kind == "refused"
    assert "\n" not in message
