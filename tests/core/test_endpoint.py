"""Retries of one request: which failures count as which kind."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import Completion, EngineUnavailable, Message, Request, Sampling
from personahub.core.engines.remote.pacing import retry_wait


def outcome_of(*replies: web.Response) -> Completion:
    """Returns the outcome of one request to a server that gives these replies in order."""
    left = list(replies)

    async def handle(_: web.Request) -> web.Response:
        return left.pop(0)

    async def run() -> Completion:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", handle)
        async with TestServer(app) as server:
            values = {"kind": "openai", "model": "m", "base_url": str(server.make_url("/v1"))}
            engine = open_engine(engine_config(values, "engines.e"))
            try:
                return await engine.complete(Request((Message(role="user", content="hello"),), Sampling(), 1))
            finally:
                await engine.close()

    return asyncio.run(run())


def fine() -> web.Response:
    choices = [{"message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}]
    return web.json_response({"choices": choices, "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


def unavailable() -> web.Response:
    return web.json_response({"error": {"message": "overloaded"}}, status=503, headers={"Retry-After": "0.0001"})


def unreadable() -> web.Response:
    return web.Response(text="<html>", content_type="text/html")


def test_a_reply_that_cannot_be_read_has_as_many_tries_after_other_failures() -> None:
    completion = outcome_of(*(unavailable() for _ in range(2)), *(unreadable() for _ in range(3)), fine())
    assert completion.text == "fine"
    assert completion.wasted[0] > 0


def test_four_replies_that_cannot_be_read_are_enough() -> None:
    with pytest.raises(EngineUnavailable, match="is not a chat completion"):
        outcome_of(*(unreadable() for _ in range(4)), fine())


def test_waits_grow_to_a_minute_and_stay_there() -> None:
    assert [retry_wait(tries) for tries in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert retry_wait(20) == retry_wait(5000) == 60, "2 ** 5000 is no float"


def test_what_a_server_asks_for_counts_unless_it_is_next_to_nothing() -> None:
    assert retry_wait(9, 5.0) == 5.0
    assert retry_wait(1, 3600.0) == 3600.0
    assert retry_wait(1, 0.001) == 0.1
    assert retry_wait(99, 0.001) == 1.0
