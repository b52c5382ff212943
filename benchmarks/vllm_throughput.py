"""Compare the tokens per second of the `vllm` engine with vLLM's own offline `LLM`, with random weights.

    python benchmarks/vllm_throughput.py

On a machine with a GPU it uses the shape of Qwen2-7B; without one, a tiny shape on vLLM's CPU build, which
only shows that the script works. Weights are random (vLLM's `dummy` loader) and nothing is downloaded,
because speed depends on shapes, not on values. The interpreter needs `vllm` and this repository's light
dependencies; without `vllm` the script says so. Both ways of asking run in separate processes.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SHAPES: dict[str, dict[str, Any]] = {
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152064},
    "tiny": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 2, "vocab_size": 2048},
}  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_model(folder: Path, shape: str) -> Path:
    """Write a Qwen2 folder without weights: its config, and a tokenizer with one token per byte and fillers."""
    import tokenizers
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {symbol: i for i, symbol in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    for name in specials:
        vocabulary[name] = len(vocabulary)
    size = SHAPES[shape]["vocab_size"]
    vocabulary.update({f"w{i}": i for i in range(len(vocabulary), size)})
    plain = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = tokenizers.decoders.ByteLevel()
    plain.add_special_tokens(specials)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE
    )
    tokenizer.save_pretrained(folder)
    config = transformers.Qwen2Config(**SHAPES[shape], max_position_embeddings=4096, tie_word_embeddings=False)
    config.architectures = ["Qwen2ForCausalLM"]
    config.dtype = "bfloat16" if shape == "7b" else "float32"
    config.save_pretrained(folder)
    return folder


def conversation(number: int, length: int) -> list[dict[str, str]]:
    text = f"Problem {number}: " + "how many apples are left when half of them are eaten? " * 99
    return [{"role": "user", "content": text[:length]}]


def ask_engine(model: str, options: argparse.Namespace) -> tuple[int, float]:
    """Return completion tokens and seconds of our engine, with all requests in flight as in a stage."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from personahub.core.engines import Request, Sampling, engine_config, open_engine

    values = {
        "kind": "vllm",
        "model": model,
        "max_model_len": options.prompt + options.tokens + 64,
        "max_num_seqs": options.seqs,
        "tensor_parallel_size": options.tensor_parallel,
        "engine_args": {"load_format": "dummy"},
    }
    sampling = Sampling(max_tokens=options.tokens, extra={"ignore_eos": True})

    async def run() -> tuple[int, float]:
        engine = open_engine(engine_config(values, "engines.e"))
        places = asyncio.Semaphore(engine.concurrency)

        async def ask(number: int):
            async with places:
                messages = tuple(conversation(number, options.prompt))
                return await engine.complete(Request(messages, sampling, number))  # pyright: ignore

        await asyncio.gather(*(ask(-number) for number in range(1, 9)))  # warm-up
        started = time.perf_counter()
        completions = await asyncio.gather(*(ask(number) for number in range(options.requests)))
        seconds = time.perf_counter() - started
        await engine.close()
        return sum(completion.completion_tokens for completion in completions), seconds

    return asyncio.run(run())


def ask_offline(model: str, options: argparse.Namespace) -> tuple[int, float]:
    """Return the same for `LLM.chat`: all requests at once."""
    from vllm import LLM, SamplingParams  # pyright: ignore

    llm = LLM(
        model=model,
        max_model_len=options.prompt + options.tokens + 64,
        max_num_seqs=options.seqs,
        tensor_parallel_size=options.tensor_parallel,
        enable_prefix_caching=True,
        enable_chunked_prefill=bool(device()),  # seeds and chunks do not work together on the CPU build
        load_format="dummy",
    )

    def chat(numbers: range) -> int:
        parameters = [SamplingParams(max_tokens=options.tokens, ignore_eos=True, seed=number) for number in numbers]
        asked = [conversation(number, options.prompt) for number in numbers]
        outputs = llm.chat(asked, parameters, use_tqdm=False)  # pyright: ignore
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    chat(range(1, 9))
    started = time.perf_counter()
    return chat(range(options.requests)), time.perf_counter() - started


WAYS = {"engine": ask_engine, "offline": ask_offline}


def device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, help="default: 7b on a GPU, else tiny")
    parser.add_argument("--requests", type=int, help="default: 2000 on a GPU, else 64")
    parser.add_argument("--prompt", type=int, default=512, help="characters of a prompt, which are tokens here")
    parser.add_argument("--tokens", type=int, help="tokens of each completion; default: 256 on a GPU, else 32")
    parser.add_argument("--seqs", type=int, default=256, help="sequences decoded together")
    parser.add_argument("--tensor-parallel", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/vllm"))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if importlib.util.find_spec("vllm") is None:
        sys.exit(f"vllm is not installed for {sys.executable}: run the script with an interpreter that has it")
    gpu = device()
    options.shape = options.shape or ("7b" if gpu else "tiny")
    options.requests = options.requests or (2000 if gpu else 64)
    options.tokens = options.tokens or (256 if gpu else 32)
    model = str((options.folder / options.shape).resolve())
    if options.way:
        tokens, seconds = WAYS[options.way](model, options)
        (options.folder / "figures.json").write_text(json.dumps({"tokens": tokens, "seconds": seconds}))
        return
    make_model(Path(model), options.shape)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if not gpu:
        environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    print(f"{gpu or f'no GPU, {os.cpu_count()} cores'}, Python {platform.python_version()}; shape {options.shape}, "
          f"{options.requests:,} requests, {options.prompt} tokens in, {options.tokens} out\n")  # fmt: skip
    print("| asked through | completion tokens/s | seconds |\n|---|---|---|", flush=True)
    settings = ["--shape", options.shape, "--requests", options.requests, "--tokens", options.tokens]
    settings += ["--prompt", options.prompt, "--seqs", options.seqs, "--tensor-parallel", options.tensor_parallel]
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--folder", str(options.folder), *map(str, settings)]
        subprocess.run(command, stdout=sys.stderr, env=environment, check=True)  # vLLM writes to its standard output
        figures = json.loads((options.folder / "figures.json").read_text())
        print(f"| {way} | {figures['tokens'] / figures['seconds']:,.0f} | {figures['seconds']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
