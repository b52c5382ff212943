"""The HTTP engine and time: what it asks again, how long it waits, and the rates that it keeps."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from personahub.core.engines.base import (
    Completion,
    EngineUnavailable,
    RequestRefused,
)
from personahub.core.engines.openai_replies import retry_after
from tests.core.openai_server import app_of, engine_at, error, failing, fine, fixed, reply, request, talk


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
