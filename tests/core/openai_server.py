"""Servers on loopback that answer as a test wants, and the HTTP engine asking them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import (
    Engine,
    Message,
    Request,
    Sampling,
)

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


def failing(*failures: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
    """A server that answers its first requests with `failures`, then properly."""

    async def handler(http, _body, number):
        return await failures[number - 1](http) if number <= len(failures) else reply()

    return handler


def fixed(make: Callable[[], web.Response]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def respond(_http: web.Request) -> web.StreamResponse:
        return make()

    return respond
