"""Serves the simulated teacher at an OpenAI-compatible endpoint on this machine.

    python -m synth.simulated.serve --port 8000 --latency-ms 50

Use it to try the `openai` engine without a key:

    engines:
      teacher: {kind: openai, model: simulated-teacher, base_url: "http://127.0.0.1:8000/v1"}

Answered requests are counted by a hash of their body. `GET /stats` returns how many were repeated, which shows that a
resumed run does not pay for anything twice.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from personahub.core.engines.base import Completion, Message, Request, RequestRefused, Sampling
from personahub.core.identity import derive_seed
from synth.simulated.engine import Config, answer, count_tokens


@dataclass
class _State:
    config: Config
    max_model_len: int
    fail_rate: float
    chance: Random
    failed: int = 0
    answered: Counter[str] = field(default_factory=Counter)


_STATE = web.AppKey("state", _State)


def make_app(config: Config | None = None, *, max_model_len: int = 32768, fail_rate: float = 0.0) -> web.Application:
    """Makes the server, for `aiohttp.web.run_app` or the `TestServer` of a test.

    Args:
        config: config of the teacher. `latency_ms` is the time until an answer is sent.
        max_model_len: maximum number of prompt and completion tokens. Larger requests get a 400.
        fail_rate: share of requests that get a 429 (with Retry-After) or a 500 instead of an answer.
    """
    app = web.Application(client_max_size=64 * 2**20)
    app[_STATE] = _State(config or Config(), max_model_len, fail_rate, Random(0))  # noqa: S311 - not for secrets
    app.router.add_post("/v1/chat/completions", _chat)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/stats", _stats)
    return app


async def _models(request: web.Request) -> web.Response:
    state = request.app[_STATE]
    model = {"id": state.config.model, "object": "model", "max_model_len": state.max_model_len}
    return web.json_response({"object": "list", "data": [model]})


async def _stats(request: web.Request) -> web.Response:
    """Counts answered requests, distinct and repeated bodies, and planned failures."""
    state = request.app[_STATE]
    total, distinct = state.answered.total(), len(state.answered)
    return web.json_response(
        {"requests": total, "distinct": distinct, "repeated": total - distinct, "failed": state.failed}
    )


async def _chat(request: web.Request) -> web.Response:
    state = request.app[_STATE]
    raw = await request.read()
    if state.chance.random() < state.fail_rate:
        state.failed += 1
        return _planned_failure(state.failed)
    try:
        body = json.loads(raw)
        model, wanted = body["model"], _requests(body)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        return _error(400, f"malformed request: {error}".splitlines()[0], "invalid_request")
    if model != state.config.model:
        return _error(404, f"The model {model!r} does not exist.", "model_not_found")
    prompt = sum(count_tokens(message["content"]) for message in wanted[0].messages)
    needed = prompt + wanted[0].sampling.max_tokens
    if needed > state.max_model_len:
        message = f"This model's maximum context length is {state.max_model_len} tokens; {needed} were requested."
        return _error(400, message, "context_length_exceeded")
    if state.config.latency_ms:
        await asyncio.sleep(state.config.latency_ms / 1000)
    try:
        completions = [answer(one, state.config) for one in wanted]
    except RequestRefused as refused:
        return _error(400, refused.detail, refused.reason)
    state.answered[hashlib.blake2b(raw, digest_size=16).hexdigest()] += 1
    return web.json_response(_completion_object(model, completions))


def _requests(body: dict[str, Any]) -> list[Request]:
    """Returns one request for each of the `n` choices. Without a `seed`, every call draws a new one."""
    seed = secrets.randbits(31) if body.get("seed") is None else int(body["seed"])
    stop = body.get("stop") or ()
    sampling = Sampling(
        temperature=body.get("temperature", 1.0),
        top_p=body.get("top_p", 1.0),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens") or 1024,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )
    messages = tuple(Message(role=str(m["role"]), content=str(m["content"])) for m in body["messages"])
    if not messages:
        raise ValueError("messages is empty")
    schema = body.get("response_format", {}).get("json_schema")
    seeds = [seed, *(derive_seed(seed, choice) for choice in range(1, int(body.get("n") or 1)))]
    return [Request(messages, sampling, seed, json_schema=schema) for seed in seeds]


def _completion_object(model: str, completions: list[Completion]) -> dict[str, Any]:
    prompt, completion = completions[0].prompt_tokens, sum(c.completion_tokens for c in completions)
    return {
        "id": f"chatcmpl-{secrets.token_hex(8)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {"index": i, "message": {"role": "assistant", "content": c.text}, "finish_reason": c.finish_reason}
            for i, c in enumerate(completions)
        ],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }


def _planned_failure(count: int) -> web.Response:
    if count % 2:
        return _error(429, "Rate limit reached.", "rate_limit_exceeded", {"Retry-After": "1"})
    return _error(500, "The server had an error.", "server_error")


def _error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    return web.json_response(body, status=status, headers=headers)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m synth.simulated.serve", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default=Config().model, help="model name that requests must use")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="time until an answer is sent")
    parser.add_argument(
        "--max-model-len", type=int, default=32768, help="maximum number of prompt and completion tokens"
    )
    parser.add_argument("--fail-rate", type=float, default=0.0, help="share of requests that get a 429 or a 500")
    options = parser.parse_args()
    config = Config(model=options.model, latency_ms=options.latency_ms)
    app = make_app(config, max_model_len=options.max_model_len, fail_rate=options.fail_rate)
    print(f"{config.model} at http://127.0.0.1:{options.port}/v1 (press Ctrl-C to stop)", flush=True)
    web.run_app(app, host="127.0.0.1", port=options.port, print=None, access_log=None)


if __name__ == "__main__":
    main()
