"""The HTTP engine and time: retries, waits and rate limits."""

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
from personahub.core.engines.remote.responses import retry_after
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
        fixed(lambda: error(503, **{"Retry-After": "0.01"})),
        fixed(lambda: error(529)),
        fixed(lambda: error(408)),
        fixed(lambda: error(429)),
        fixed(lambda: web.Response(text="<html>bad gateway</html>", status=502)),
        fixed(lambda: web.Response(text="not json")),
        fixed(lambda: web.Response(text="[]", content_type="application/json")),
        fixed(lambda: web.Response(text='{"choices": ' + "[" * 100_000)),
        fixed(lambda: web.Response(text='{"choices": ' + "[" * 100_000, status=500)),
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
    assert (
        3000
        < (
            retry_after({"Retry-After": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3600))})
            or 0
        )
        <= 3600
    )
    assert retry_after({}, b"Quota exceeded.\nPlease retry in 10.67s.") == 10.67
    assert retry_after({"Retry-After": "2"}, b"Please try again in 5 seconds") == 2
    assert retry_after({}, b"Please try again in 20ms") is None


NO_WAITS = [
    {"Retry-After": "0"},
    {"Retry-After": "-1"},
    {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
    {"retry-after-ms": "nan"},
    {"retry-after-ms": "inf"},
    {"retry-after-ms": "-5"},
    {"retry-after-ms": "0", "Retry-After": "0"},
]


@pytest.mark.parametrize("headers", NO_WAITS)
def test_what_is_no_wait_does_not_switch_the_backoff_off(headers):
    """A server with a zero, a negative number or the past in its header would get thousands of requests a second."""
    assert retry_after(headers) is None
    (outcome,), bodies = talk(failing(*[fixed(lambda: error(503, **headers))] * 99), [request()], max_outage_s=0.7)
    assert isinstance(outcome, EngineUnavailable)
    assert 2 <= len(bodies) <= 5


def test_a_wait_of_next_to_nothing_is_not_taken_at_its_word_again_and_again():
    handler = failing(*[fixed(lambda: error(503, **{"Retry-After": "0.001"}))] * 999)
    (outcome,), bodies = talk(handler, [request()], max_outage_s=0.7)
    assert isinstance(outcome, EngineUnavailable)
    assert 2 <= len(bodies) <= 5


GEMINI = {
    "code": 429,
    "message": "You exceeded your current quota, please check your plan and billing details. For more information on "
    "this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. \n* Quota exceeded for metric: "
    "generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 10, model: gemini-2.5-flash\n"
    "Please retry in 0.3s.",
    "status": "RESOURCE_EXHAUSTED",
}
OPENAI = {
    "code": "rate_limit_exceeded",
    "message": "Rate limit reached for m on requests per min. Limit: 3 / min. Please try again in 0.3s. "
    "Visit https://platform.openai.com/account/billing to add a payment method.",
}


@pytest.mark.parametrize(
    "body", [[{"error": GEMINI}], {"error": {**GEMINI, "message": "Check billing"}}, {"error": OPENAI}]
)
def test_a_limit_per_minute_that_speaks_of_billing_is_waited_for(body):
    (outcome,), bodies = talk(failing(*[fixed(lambda: web.json_response(body, status=429))] * 2), [request()])
    assert isinstance(outcome, Completion), outcome
    assert len(bodies) == 3


def test_a_wait_that_is_only_in_the_words_is_kept():
    started = time.monotonic()
    (outcome,), _ = talk(failing(fixed(lambda: error(429, "Quota exceeded.\nPlease retry in 0.8s."))), [request()])
    assert isinstance(outcome, Completion)
    assert time.monotonic() - started >= 0.8, "the first backoff would be 0.1 s"


def test_an_empty_account_is_told_by_its_code_whatever_the_words():
    body = {"error": {"code": "insufficient_quota", "message": "Add credit, then retry in 5s"}}
    (outcome,), bodies = talk(failing(fixed(lambda: web.json_response(body, status=429))), [request()])
    assert isinstance(outcome, EngineUnavailable)
    assert "no credit left" in str(outcome)
    assert len(bodies) == 1


@pytest.mark.parametrize("code", [502, "503", None, "upstream", 200])
def test_an_error_that_comes_as_a_200_is_one(code):
    """Of a gateway that had sent its head already: nothing was paid for, and it is worth as many tries as a 502."""
    body = {"error": {"code": code, "message": "Provider returned error"}, "choices": []}
    handler = failing(*[fixed(lambda: web.json_response(body, headers={"Retry-After": "0.01"}))] * 6)
    (outcome,), bodies = talk(handler, [request()])
    assert isinstance(outcome, Completion), outcome
    assert outcome.wasted == (0, 0)
    assert len(bodies) == 7


@pytest.mark.parametrize(
    ("code", "said"), [(401, "check the key"), (402, "credit"), (404, "model: m"), (400, "refuses")]
)
def test_an_error_that_comes_as_a_200_means_what_its_code_means(code, said):
    handler = failing(*[fixed(lambda: web.json_response({"error": {"code": code, "message": "no"}}))] * 9)
    (outcome,), bodies = talk(handler, [request()])
    assert isinstance(outcome, EngineUnavailable)
    assert f"HTTP {code}" in str(outcome)
    assert said in str(outcome)
    assert len(bodies) <= 2, "only a probe may follow"
