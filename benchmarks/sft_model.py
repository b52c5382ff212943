"""Qwen2-shaped models with random weights, and tokens of given lengths, for the training benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from train.data.chat_format import CHATML_TEMPLATE, IGNORED
from train.planning.memory import ModelShape, known_shape

SEVEN_B = known_shape("Qwen/Qwen2-7B")
assert SEVEN_B is not None
SHAPES: dict[str, ModelShape] = {
    "tiny": ModelShape(2_048, 256, 1_024, 4, 4, 2, tied_embeddings=True),
    "small": ModelShape(8_192, 512, 2_048, 8, 8, 4, tied_embeddings=False),
    "7b": SEVEN_B,
}

_SEVEN_B_BYTES = 75_000_000_000  # LoRA on bf16 weights; other rows report themselves if they do not fit


def check_device(shape: str) -> None:
    """Exit with one line if the 7B shape lacks a GPU that holds it."""
    import torch

    size = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    if shape == "7b" and size < _SEVEN_B_BYTES:
        there = f"one of {size / 1e9:.0f} GB" if size else "none"
        sys.exit(f"--shape 7b needs a CUDA GPU of {_SEVEN_B_BYTES / 1e9:.0f} GB or more; this machine has {there}")


def make_model(folder: Path, shape: str, weights: bool) -> Path:
    """Write a Qwen2 folder: config, a tokenizer with a token per byte and fillers, and optionally random bf16 weights."""
    import tokenizers
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    given = SHAPES[shape]
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}
    for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        vocabulary[name] = len(vocabulary)
    vocabulary.update({f"w{i}": i for i in range(len(vocabulary), given.vocab_size)})
    plain = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHATML_TEMPLATE
    ).save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=given.vocab_size,
        hidden_size=given.hidden_size,
        intermediate_size=given.intermediate_size,
        num_hidden_layers=given.num_layers,
        num_attention_heads=given.num_heads,
        num_key_value_heads=given.num_kv_heads,
        tie_word_embeddings=given.tied_embeddings,
        max_position_embeddings=4096,
    )
    if weights:
        # bf16 and on the device if there is one: 15 GB in seconds for the 7B shape
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.device(device):
            torch.set_default_dtype(torch.bfloat16)
            try:
                model = Qwen2ForCausalLM(config)
            finally:
                torch.set_default_dtype(torch.float32)
        model.save_pretrained(folder)
        del model
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    else:
        config.save_pretrained(folder)
    return folder


def make_tokens(lengths: Sequence[int], vocab_size: int, seed: int = 0, prompt_share: float = 0.2) -> Any:
    """Make a data set of random tokens; the first part of each example is the prompt and has no loss."""
    from datasets import Dataset

    rng = np.random.default_rng(seed)
    rows = [rng.integers(300, vocab_size, size=length).tolist() for length in lengths]
    labels = [
        [IGNORED] * max(1, int(prompt_share * len(row))) + row[max(1, int(prompt_share * len(row))) :] for row in rows
    ]
    return Dataset.from_dict({"input_ids": rows, "labels": labels})


def solution_lengths(count: int, longest: int, seed: int = 0) -> list[int]:
    """Draw tokens per example like the paper's data: log-normal, mean about 700, cut at `longest`.

    700 is the assumption of `personahub plan` for prompt and solution together. A log-normal with sigma 0.5
    is close to the lengths of GPT-4-class solutions (half below 620, one in forty above 1,650).
    """
    rng = np.random.default_rng(seed)
    mean = 700 * longest / 2048
    drawn = rng.lognormal(np.log(mean) - 0.125, 0.5, size=count)
    return [int(length) for length in np.clip(drawn, 16, longest)]
