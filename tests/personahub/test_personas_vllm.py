"""Personas from 200 web pages through a real vLLM server: both stages, structured and plain, counts that add up.

The model is tiny and random. Held to a JSON schema it fills the fields with debris, so quality rejects most
of it; unheld it says nothing that parses. What is shown is that every reply is asked for, read, counted and
kept, and that lineage goes back to the page.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from personahub.core.artifact import Artifact

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAGES = 200


@pytest.fixture(scope="module")
def pages(test_data: Path) -> Path:
    return test_data / "webtext" / "documents.jsonl"


@pytest.fixture(scope="module")
def model(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of 1.3M parameters whose tokenizer has learnt the pages' words."""
    import tokenizers
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("model")
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=4096,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((json.loads(line)["text"] for line in pages.open(encoding="utf-8")), trainer)
    template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=4096,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
    )
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def server(vllm: ModuleType, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    # Seeds and prompts in chunks do not go together on the CPU build; a random model would write spaces for ever.
    options = ["--no-enable-chunked-prefill", "--max-model-len", "4096", "--max-num-batched-tokens", "4096"]
    options += ["--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}']
    with vllm.serve(model, tmp_path_factory.mktemp("vllm") / "server.log", more=options) as running:
        print(f"vLLM answers after {running.started_in_s:.0f} s")
        yield running


def stages(pages: Path) -> dict[str, Any]:
    sampling = {"temperature": 1.0, "max_tokens": 1024}
    structured = {"engine": "tiny", "form": "structured", "max_chars": 24, "sampling": sampling, "attempts": 3}
    plain = {"engine": "tiny", "modes": ["read"], "sampling": {**sampling, "max_tokens": 64}, "attempts": 1}
    return {
        "sources": {"run": "personahub.sources", "config": {"path": str(pages), "limit": PAGES, "max_chars": 1500}},
        "plain": {"run": "personahub.text_to_persona", "inputs": {"documents": "sources"}, "config": plain},
        "first": {
            "run": "personahub.text_to_persona",
            "inputs": {"documents": "sources"},
            "config": {**structured, "modes_per_text": 1, "personas_per_text": 1},
        },
        "related": {
            "run": "personahub.persona_to_persona",
            "inputs": {"personas": "first"},
            "config": {**structured, "hops": 6, "breadth": 1, "max_new": 240},
        },
        "good": {"run": "personahub.quality", "inputs": {"personas": "related"}},
        "personas": {
            "run": "personahub.dedup",
            "inputs": {"personas": "related"},
            "config": {"methods": [{"method": "surface"}]},
        },
        "report": {"run": "eval.report", "inputs": "all"},
    }


def say(name: str, artifact: Artifact) -> None:
    counts, usage = artifact.manifest.counts, artifact.manifest.usage
    print(
        f"{name}: {counts.rows_in} -> {counts.rows_out}, rejected {counts.rejected}; {usage.requests} requests, "
        f"{usage.prompt_tokens} + {usage.completion_tokens} tokens, {artifact.manifest.seconds:.0f} s"
    )
    for row in itertools.islice(artifact.rejected(), 1):
        print(f"  {row['reason']}: {row['raw'] or row['record']!r:.1500}")


def test_200_pages_through_a_real_server(server: Any, pages: Path, run: Any) -> None:
    engine = {
        "kind": "openai",
        "model": "tiny",
        "base_url": server.base_url,
        "concurrency": 32,
        "max_retry_s": 30,
        "max_outage_s": 30,
    }
    started = time.monotonic()
    artifacts = run(stages(pages), {"tiny": engine}, "vllm")
    print(f"all stages in {time.monotonic() - started:.0f} s")
    for name, artifact in artifacts.items():
        say(name, artifact)

    first, related, plain = artifacts["first"], artifacts["related"], artifacts["plain"]
    documents = {row["id"] for row in artifacts["sources"].rows()}
    assert len(documents) == PAGES
    failed = {row["id"] for row in first.rejected() if row["reason"] != "unsupported_demographic"}
    answered = {row["document_id"] for row in first.rows()}
    assert answered | failed == documents
    assert not answered & failed
    assert len(answered) > PAGES / 4
    assert first.num_rows == len(answered)
    assert all(json.loads(row["profile"]) and row["model"] == "tiny" for row in first.rows())

    rows = {row["id"]: row for row in related.rows()}
    assert {row["hop"] for row in rows.values()} == set(range(7))
    for row in rows.values():
        assert row["document_id"] in documents
        if row["hop"]:
            assert rows[row["parent_id"]]["hop"] == row["hop"] - 1
    growth = related.manifest.summary["growth"]
    assert sum(hop["personas"] for hop in growth) == related.num_rows

    good, counts = artifacts["good"], artifacts["good"].manifest.counts
    assert counts.rows_in == related.num_rows == good.num_rows + sum(counts.rejected.values())
    kept = artifacts["personas"].manifest.counts
    assert kept.rows_in == kept.rows_out + sum(kept.rejected.values())

    assert plain.num_rows + len(list(plain.rejected())) >= PAGES  # debris, each with its text and reason
    assert all(row["raw"] is not None for row in plain.rejected())
    requests = sum(artifact.manifest.usage.requests for artifact in artifacts.values())
    assert sum(count for reason, count in server.finished().items() if reason != "abort") == requests
    assert "related" in (artifacts["report"].path / "index.html").read_text(encoding="utf-8")
