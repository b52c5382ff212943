"""An OpenAI-compatible server on loopback that misbehaves on request, for tests and benchmarks.

    python tests/chaos_server.py --port 0 --latency-ms 50 --rate-500 0.05

It prints its base URL when it listens. Flags are fields of `Chaos`; `POST /chaos {"field": value}`
changes them while it runs. `GET /stats` tells what was asked and what was answered, counted by a
hash of the request's body; `POST /reset` resets the counts.

It speaks HTTP/1.1 through a bare asyncio protocol, because a framework would be slower than the
clients that it measures. Standard library only: benchmarks run it in any environment.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import gc
import hashlib
import json
import random
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from chaos_batches import Batches  # pyright: ignore[reportMissingImports]

REASONS = {200: "OK", 308: "Permanent Redirect", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
           429: "Too Many Requests", 500: "Internal Server Error"}  # fmt: skip


@dataclass
class Chaos:
    """Faults to inject. Rates are shares of all requests, drawn when a request arrives."""

    latency_ms: float = 0.0
    reply_chars: int = 400
    window_after: int = -1  # the request after which a window of nothing but 429 opens; -1: never
    window_s: float = 10.0
    retry_after: float = -1.0  # seconds in the 429s of the window; negative: no header
    rate_429: float = 0.0
    rate_429_retry_after: float = 0.0  # with Retry-After: 1
    rate_500: float = 0.0
    rate_dropped: float = 0.0  # the connection is closed without a byte
    rate_cut: float = 0.0  # the body ends early
    rate_not_json: float = 0.0
    rate_wrong_n: float = 0.0  # one choice too many
    rate_drip: float = 0.0  # the body comes a few bytes at a time
    drip_s: float = 2.0
    rate_malformed: float = 0.0  # content that no parser wants; decided by the body's hash, not by chance
    ignore_n: bool = False
    no_usage: bool = False  # replies do not say what they took
    requests_per_minute: float = 0.0  # a token bucket of one second's worth; what is beyond gets 429. 0: no limit
    max_chars: int = 0  # a longer prompt is refused; 0: none is
    model: str = ""  # another model is a 404; empty: any is fine
    key: str = ""  # another bearer token is a 401
    batch_s: float = 0.5  # how long a batch stays in progress
    batch_fail: str = ""  # lines of a batch that hold this text fail
    batch_fail_status: int = 400
    batch_fail_code: str = "context_length_exceeded"
    batch_fail_message: str = "maximum context length is 10"
    refuse: bool = False  # each request outside batches is a 400
    batch_expire_after: int = -1  # lines that a batch completes before it expires


@dataclass
class State:
    chaos: Chaos
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    asked: Counter[int] = field(default_factory=Counter)
    answered: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    window_opened: float = 0.0
    bucket: float = 0.0
    bucket_at: float = 0.0
    batches: Batches = field(default_factory=Batches)

    def stats(self) -> dict[str, Any]:
        total = self.asked.total()
        return {
            "requests": total,
            "distinct": len(self.asked),
            "repeated": total - len(self.asked),
            "answered": self.answered.total(),
            "answered_twice": self.answered.total() - len(self.answered),
            "faults": dict(self.faults),
            "most_in_flight": self.most_in_flight,
            "batches": self.batches.stats(),
        }


def http(status: int, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\nContent-Type: application/json\r\n"
    return f"{head}{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def error(status: int, message: str, code: str = "", headers: str = "") -> bytes:
    return http(status, json.dumps({"error": {"message": message, "code": code, "type": "chaos"}}).encode(), headers)


def answer(state: State, body: dict[str, Any], mark: int, *, malformed: bool = False, more: int = 0) -> dict[str, Any]:
    """The chat completion of a request whose body has the hash `mark`."""
    text = "MALFORMED" if malformed else f"reply {mark:016x} ".ljust(state.chaos.reply_chars, "x")
    wanted = 1 if state.chaos.ignore_n else body.get("n") or 1
    prompt = sum(len(str(message.get("content"))) for message in body.get("messages", ()))
    choices = []
    for index in range(wanted + more):
        choice = {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if index:
            choice["message"] = {"role": "assistant", "content": f"{text} #{index}"}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": "reply", "logprob": -0.5, "top_logprobs": []}]}
        choices.append(choice)
    usage = {"prompt_tokens": prompt // 4, "completion_tokens": len(choices) * len(text) // 4}
    usage["total_tokens"] = sum(usage.values())
    model = body.get("model", "chaos")
    reported = {} if state.chaos.no_usage else {"usage": usage}
    return {"id": f"c-{mark:x}", "object": "chat.completion", "created": int(time.time()), "model": model,
            "choices": choices, **reported}  # fmt: skip


class Connection(asyncio.Protocol):
    """One keep-alive connection; its requests are answered one after another."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.buffer = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            lower = head.lower()
            at = lower.find(b"\r\ncontent-length:")
            length = int(lower[at + 17 :].partition(b"\r\n")[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                if b"expect: 100-continue" in lower and len(self.buffer) == end + 4:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            method, path, _ = head.partition(b"\r\n")[0].split(b" ", 2)
            self.route(method.decode(), path.decode().partition("?")[0], head, body)

    def route(self, method: str, path: str, head: bytes, body: bytes) -> None:
        state = self.state
        if path.endswith("/chat/completions"):
            self.chat(head, body)
        elif path == "/stats":
            self.send(http(200, json.dumps(state.stats()).encode()))
        elif path == "/chaos":
            for name, value in json.loads(body).items():
                assert hasattr(state.chaos, name), name
                setattr(state.chaos, name, value)
            self.send(http(200, json.dumps(dataclasses.asdict(state.chaos)).encode()))
        elif path == "/reset":
            state.__dict__.update(State(state.chaos).__dict__)
            self.send(http(200, b"{}"))
        elif path.endswith("/models"):
            self.send(http(200, json.dumps({"object": "list", "data": [{"id": "chaos", "object": "model"}]}).encode()))
        else:
            found = state.batches.route(method, path, head, body, state)
            self.send(http(200, found) if found is not None else error(404, f"no {method} {path}"))

    def chat(self, head: bytes, body: bytes) -> None:
        """Decide this request's fate, then carry it out when the latency is over."""
        state, chaos = self.state, self.state.chaos
        mark = int.from_bytes(hashlib.blake2b(body, digest_size=8).digest(), "big")
        state.asked[mark] += 1
        state.in_flight += 1
        state.most_in_flight = max(state.most_in_flight, state.in_flight)
        try:
            request = json.loads(body)
        except ValueError:
            request = None
        fault = self.fault(head, request)
        if fault is not None:
            state.faults[fault] += 1
        if chaos.latency_ms:
            asyncio.get_running_loop().call_later(chaos.latency_ms / 1000, self.respond, request, mark, fault)
        else:
            self.respond(request, mark, fault)

    def fault(self, head: bytes, body: dict[str, Any] | None) -> str | None:
        state, chaos = self.state, self.state.chaos
        if chaos.key and f"authorization: bearer {chaos.key}".encode() not in head.replace(b"A", b"a").replace(
            b"B", b"b"
        ):
            return "bad_key"
        if chaos.refuse:
            return "refused"
        if body is None or not isinstance(body.get("messages"), list):
            return "bad_request"
        if chaos.model and body.get("model") != chaos.model:
            return "wrong_model"
        if chaos.max_chars and sum(len(message["content"]) for message in body["messages"]) > chaos.max_chars:
            return "too_long"
        if 0 <= chaos.window_after < state.asked.total():
            state.window_opened = state.window_opened or time.monotonic()
            if time.monotonic() - state.window_opened < chaos.window_s:
                return "window"
        if chaos.requests_per_minute and not self.within_limit():
            return "rate_429_retry_after"
        draw = state.chance.random()
        for name in ("429", "429_retry_after", "500", "dropped", "cut", "not_json", "wrong_n", "drip"):
            draw -= getattr(chaos, f"rate_{name}")
            if draw < 0:
                return f"rate_{name}"
        return None

    def within_limit(self) -> bool:
        state, per_second, now = self.state, self.state.chaos.requests_per_minute / 60, time.monotonic()
        state.bucket = min(per_second, state.bucket + (now - (state.bucket_at or now - 1)) * per_second)
        state.bucket_at = now
        if state.bucket < 1:
            return False
        state.bucket -= 1
        return True

    def respond(self, body: dict[str, Any] | None, mark: int, fault: str | None) -> None:
        state, chaos = self.state, self.state.chaos
        state.in_flight -= 1
        if fault is None or fault in ("rate_wrong_n", "rate_drip"):
            assert body is not None
            state.answered[mark] += 1
            malformed = bool(chaos.rate_malformed) and mark / 2**64 < chaos.rate_malformed
            state.faults["malformed"] += malformed
            more = 1 if fault == "rate_wrong_n" else 0
            whole = http(200, json.dumps(answer(state, body, mark, malformed=malformed, more=more)).encode())
            if fault == "rate_drip":
                self.drip(whole, 8)
            else:
                self.send(whole)
            return
        match fault:
            case "bad_key":
                self.send(error(401, "Incorrect API key provided", "invalid_api_key"))
            case "refused":
                self.send(error(400, chaos.batch_fail_message, chaos.batch_fail_code))
            case "bad_request":
                self.send(error(400, "the body has no messages"))
            case "wrong_model":
                self.send(error(404, f"The model `{(body or {}).get('model')}` does not exist", "model_not_found"))
            case "too_long":
                self.send(error(400, "This model's maximum context length is 10 tokens", "context_length_exceeded"))
            case "window":
                said = f"Retry-After: {chaos.retry_after:g}\r\n" if chaos.retry_after >= 0 else ""
                self.send(error(429, "Rate limit reached", "rate_limit_exceeded", said))
            case "rate_429":
                self.send(error(429, "Rate limit reached", "rate_limit_exceeded"))
            case "rate_429_retry_after":
                self.send(error(429, "Rate limit reached", "rate_limit_exceeded", "Retry-After: 1\r\n"))
            case "rate_500":
                self.send(error(500, "The server had an error"))
            case "rate_dropped":
                self.transport.abort()
            case "rate_cut":
                self.send(http(200, json.dumps(answer(state, body or {}, mark)).encode())[:-50])
                self.transport.close()
            case "rate_not_json":
                self.send(http(200, b"<html>busy</html>"))

    def drip(self, rest: bytes, pieces: int) -> None:
        if self.transport.is_closing():
            return
        size = -(-len(rest) // pieces)
        self.send(rest[:size])
        if pieces > 1:
            delay = self.state.chaos.drip_s / 8
            asyncio.get_running_loop().call_later(delay, self.drip, rest[size:], pieces - 1)

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


async def serve(
    chaos: Chaos,
    port: int = 0,
    certificate: str | None = None,
    on_ready: Callable[[str], Awaitable[None]] | None = None,
) -> None:
    """Listen until cancelled; `certificate` is a PEM file with its key."""
    state, tls = State(chaos), None
    if certificate:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(state), "127.0.0.1", port, ssl=tls, backlog=4096
    )
    url = f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(url, flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description="An OpenAI-compatible server that misbehaves on request.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate", help="PEM file with certificate and key: serve TLS")
    for option in dataclasses.fields(Chaos):
        flag = "--" + option.name.replace("_", "-")
        if isinstance(option.default, bool):
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(option.default), default=option.default)
    options = vars(parser.parse_args())
    port, certificate = options.pop("port"), options.pop("certificate")
    gc.freeze()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Chaos(**options), port, certificate))


if __name__ == "__main__":
    main()
