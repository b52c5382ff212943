"""Patience with one request: what counts as a failure of which kind."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import Completion, EngineUnavailable, Message, Request, Sampling


def outcome_of(*replies: web.Response) -> Completion:
    """What becomes of one request to a server that gives these replies, one after the other."""
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
    with pytest.raises(EngineUnavailable, match="not one chat completion"):
        outcome_of(*(unreadable() for _ in range(4)), fine())


def test_an_outage_of_more_than_a_thousand_tries_is_survived() -> None:
    assert outcome_of(*(unavailable() for _ in range(1100)), fine()).text == "fine"
