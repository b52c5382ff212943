"""The HTTP engine on the wire: framing, proxies, certificates, n, log-probabilities."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import Completion, EngineUnavailable, Message, Request, Sampling


def reply(text: str) -> web.Response:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return web.json_response({"model": "m", "choices": [choice]})


def request(text: str = "hello", seed: int = 1, **sampling) -> Request:
    return Request((Message(role="user", content=text),), Sampling(**sampling), seed)


async def compressed(http: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_compression(web.ContentCoding.gzip)
    response.enable_chunked_encoding()
    await response.prepare(http)
    body = reply("é" * 200_000).body
    assert isinstance(body, bytes)
    for begin in range(0, len(body), 10_000):
        await response.write(body[begin : begin + 10_000])
    await response.write_eof()
    return response


async def closing(_http: web.Request) -> web.StreamResponse:
    response = reply("é" * 200_000)
    response.force_close()
    return response


@pytest.mark.parametrize("respond", [compressed, closing])
def test_replies_come_in_any_framing(respond):
    async def run() -> list[Completion]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", respond)
        async with TestServer(app) as server:
            values = {"kind": "openai", "model": "m", "base_url": str(server.make_url("/v1")), "concurrency": 2}
            engine = open_engine(engine_config(values, "engines.e"))
            try:
                return await asyncio.gather(*(engine.complete(request(str(i))) for i in range(6)))
            finally:
                await engine.close()

    assert [outcome.text for outcome in asyncio.run(run())] == ["é" * 200_000] * 6


@pytest.mark.parametrize("spelling", ["{url}", "{host}"])
def test_a_proxy_of_the_environment_is_used(spelling: str, monkeypatch):
    async def run() -> Completion:
        async def respond(http: web.Request) -> web.Response:
            assert http.headers["Host"] == "model.example"
            return reply("fine")

        app = web.Application()
        app.router.add_post("/v1/chat/completions", respond)
        async with TestServer(app) as server:
            url = str(server.make_url("/")).rstrip("/")
            monkeypatch.setenv("http_proxy", spelling.format(url=url, host=url.removeprefix("http://")))
            values = {"kind": "openai", "model": "m", "base_url": "http://model.example/v1", "api_key_env": None}
            engine = open_engine(engine_config(values, "engines.e"))
            try:
                return await engine.complete(request())
            finally:
                await engine.close()

    assert asyncio.run(run()).text == "fine"


@pytest.mark.parametrize(
    "proxy",
    ["socks5://u:hunter2@127.0.0.1:1080", "http://", "http://127.0.0.1:99999", "u:hunter2@", "http://[::1", "ftp://a"],
)
def test_a_proxy_that_cannot_be_asked_is_one_line_without_its_password(proxy: str, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    values = {"kind": "openai", "model": "m", "base_url": "http://model.example/v1", "api_key_env": None}

    async def run() -> None:
        engine = open_engine(engine_config(values, "engines.e"))
        try:
            await engine.complete(request())
        finally:
            await engine.close()

    started = time.monotonic()
    with pytest.raises(EngineUnavailable, match="http_proxy, needed for http://model") as caught:
        asyncio.run(run())
    assert "hunter2" not in str(caught.value)
    assert time.monotonic() - started < 5


def test_samples_of_a_prompt_are_one_request(chaos):
    """Where the engine merges them; the prompt's tokens are counted once, and rejected samples are asked for alone."""
    server = chaos(reply_chars=40, rate_malformed=0.0)
    values = {"kind": "openai", "model": "m", "base_url": server.base_url, "use_n": True}

    async def run() -> list[Completion]:
        engine = open_engine(engine_config(values, "engines.e"))
        try:
            return await engine.complete_samples([Request(request().messages, Sampling(), seed) for seed in range(4)])
        finally:
            await engine.close()

    completions = asyncio.run(run())
    assert server.stats()["requests"] == 1
    assert len({completion.text for completion in completions}) == 4
    assert [c.prompt_tokens for c in completions] == [1, 0, 0, 0]
    assert sum(c.completion_tokens for c in completions) == 40
    server.change(ignore_n=True)
    with pytest.raises(EngineUnavailable, match="this server ignores n; set use_n: false"):
        asyncio.run(run())


def test_log_probabilities_come_when_asked_for(chaos):
    server = chaos()

    async def run(**extra) -> Completion:
        engine = open_engine(engine_config({"kind": "openai", "model": "m", "base_url": server.base_url}, "e"))
        try:
            return await engine.complete(request(extra=extra))
        finally:
            await engine.close()

    assert asyncio.run(run()).logprobs is None
    assert asyncio.run(run(logprobs=True)).logprobs == [("reply", -0.5)]


ASK = """
import asyncio, sys
from personahub.core.engines import Request, Sampling, engine_config, open_engine
async def ask():
    engine = open_engine(engine_config({"kind": "openai", "model": "m", "base_url": sys.argv[1], "api_key_env": None}, "e"))
    try:
        await engine.complete(Request(({"role": "user", "content": "hi"},), Sampling(), 1))
    except Exception as error:
        print(type(error).__name__, error)
    await engine.close()
asyncio.run(ask())
"""


CERTIFICATE_CONFIG = """
[ca]
default_ca = here
[here]
new_certs_dir = .
database = index
serial = serial
default_md = sha256
policy = any
x509_extensions = server
[any]
commonName = supplied
[server]
subjectAltName = IP:127.0.0.1
basicConstraints = critical,CA:true
"""


def expired_certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 of the year 2020, with its key."""
    (folder / "ca.cnf").write_text(CERTIFICATE_CONFIG)
    (folder / "index").touch()
    (folder / "serial").write_text("01")
    for command in (
        "req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=127.0.0.1",
        "ca -config ca.cnf -batch -notext -selfsign -keyfile key.pem -in request.pem -out only.pem "
        "-startdate 20200101000000Z -enddate 20210101000000Z",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    whole = folder / "server.pem"
    whole.write_bytes((folder / "only.pem").read_bytes() + (folder / "key.pem").read_bytes())
    return whole


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
@pytest.mark.parametrize(("trusted", "said"), [(True, "certificate has expired"), (False, "self-signed certificate")])
def test_a_bad_certificate_is_named(chaos, tmp_path, repository, trusted, said):
    pem = expired_certificate(tmp_path)
    server = chaos(certificate=pem)
    environment = {**os.environ, **({"SSL_CERT_FILE": str(pem)} if trusted else {})}
    asked = subprocess.run(
        [sys.executable, "-c", ASK, server.base_url], cwd=repository, env=environment, capture_output=True, text=True
    )
    assert asked.stdout.startswith(f"EngineUnavailable {server.base_url}: no secure connection: {said}"), asked
    assert "the server's certificate" in asked.stdout
