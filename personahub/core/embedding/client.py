"""Client for an OpenAI-compatible `/embeddings` endpoint. Used by `embedding.embed`."""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

import numpy as np

from personahub.core.engines.remote.address import read_key
from personahub.core.engines.remote.pacing import retry_wait
from personahub.core.engines.remote.responses import classify_error, one_line, retry_after
from personahub.core.errors import UserError

if TYPE_CHECKING:
    from personahub.core.embedding.config import EmbedderConfig

_TEXTS_PER_REQUEST = 256
_TIMEOUT_S = 120.0
_REPORTED_WAIT_S = 4.0  # shorter waits are not printed


def request_embeddings(texts: list[str], config: EmbedderConfig, report: Callable[[int], object]) -> np.ndarray:
    """Requests embeddings: float32 [len(texts), dimensions], as sent by the server.

    Raises:
        UserError: the key is missing, the server cannot be reached or refuses, or the reply has the wrong shape.
    """
    headers = {"Content-Type": "application/json", **_authorization(config)}
    firsts = range(0, len(texts), _TEXTS_PER_REQUEST)
    blocks: dict[int, np.ndarray] = {}
    with ThreadPoolExecutor(config.requests) as pool:
        futures = {
            pool.submit(_request_block, texts[first : first + _TEXTS_PER_REQUEST], config, headers): first
            for first in firsts
        }
        try:
            for future in as_completed(futures):
                blocks[futures[future]] = future.result()
                report(len(future.result()))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    sizes = sorted({block.shape[1] for block in blocks.values()})
    if len(sizes) > 1:
        raise UserError(f"{config.base_url}: the server returned vectors of different lengths: {sizes}")
    return np.concatenate([blocks[first] for first in firsts]) if blocks else np.empty((0, 0), np.float32)


def _authorization(config: EmbedderConfig) -> dict[str, str]:
    key = read_key(config.api_key_env, config.base_url)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _request_block(texts: list[str], config: EmbedderConfig, headers: dict[str, str]) -> np.ndarray:
    body: dict[str, Any] = {
        "model": config.model,
        "input": [text or " " for text in texts],  # OpenAI refuses the empty string
        "encoding_format": "base64",  # a quarter of the bytes of decimal numbers
    }
    if config.dimensions:
        body["dimensions"] = config.dimensions
    url = f"{config.base_url}/embeddings"
    reply = _post(url, json.dumps(body).encode(), headers, config.max_retry_s)
    try:
        items = sorted(json.loads(reply)["data"], key=lambda item: item["index"])
        vectors = np.stack([_vector(item["embedding"]) for item in items])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{url}: the reply has no embeddings: {_hide_key(one_line(reply, 200), headers)}") from None
    if vectors.shape != (len(texts), config.dimensions or vectors.shape[-1]):
        asked = f"{len(texts)} vectors" + (f" of {config.dimensions} dimensions" if config.dimensions else "")
        raise UserError(f"{url}: asked for {asked}, got an array of shape {vectors.shape}")
    return vectors


def _hide_key(text: str, headers: dict[str, str]) -> str:
    """Masks the key in a reply of the server, which may repeat it."""
    key = headers.get("Authorization", "").removeprefix("Bearer ")
    return text.replace(key, "***") if key else text


def _vector(value: Any) -> np.ndarray:
    """Decodes one vector. Servers without base64 support send a list of numbers."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
    return np.asarray(value, np.float32)


def _post(url: str, body: bytes, headers: dict[str, str], max_retry_s: float) -> bytes:
    """Sends a POST request. Retries lost connections, 429 and 5xx for up to `max_retry_s` seconds."""
    started, tries = time.monotonic(), 0
    while True:
        asked_wait = None
        try:
            request = urllib.request.Request(url, body, headers)  # noqa: S310 - the user's own endpoint
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
                return response.read()
        except urllib.error.HTTPError as error:
            reply_headers: Any = error.headers  # a case-insensitive mapping, although it is not declared as one
            reply = error.read()
            kind, problem = classify_error(error.code, reply_headers, reply)
            problem = _hide_key(problem, headers)
            if kind not in ("retry", "throttled"):
                raise UserError(f"{url}: HTTP {error.code}: {problem}") from None
            asked_wait = retry_after(reply_headers, reply)
        except (OSError, http.client.HTTPException) as error:
            problem = one_line(str(error)) or type(error).__name__
        tries += 1
        pause = retry_wait(tries, asked_wait)
        if time.monotonic() + pause - started > max_retry_s:
            raise UserError(f"{url}: no embeddings within {max_retry_s:g} s: {problem}") from None
        if pause >= _REPORTED_WAIT_S:
            print(f"{url}: {problem}; retrying in {pause:.0f} s, for up to {max_retry_s:g} s", file=sys.stderr)
        time.sleep(pause)
