"""Answer all prompts with one client, as a whole process that `generation_loop.py` starts and measures.

    python benchmarks/generation_clients.py CLIENT URL REQUESTS CONCURRENCY FOLDER

Runs in the environment that has the client installed. The other clients are used as their own documentation
shows. Imports are not timed: seconds and CPU-seconds count from the first prompt to the last written row.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MODEL = "gpt-4o-mini"
PROMPT = "Create a math problem with the following persona: {persona}\n" * 4


def prompts(count: int) -> Iterator[str]:
    return (PROMPT.format(persona=f"harbour pilot number {number}") for number in range(count))


def bare(url: str, count: int, concurrency: int, folder: Path) -> int:
    """Plain aiohttp, the limit: a coroutine per slot, no retries, and only the answers' lines are kept."""
    import aiohttp

    done = 0
    texts = iter(enumerate(prompts(count)))

    async def work(session: aiohttp.ClientSession, output) -> None:
        nonlocal done
        for number, text in texts:
            body = {
                "model": MODEL,
                "messages": [{"role": "user", "content": text}],
                "temperature": 1.0,
                "top_p": 1.0,
                "max_tokens": 512,
                "seed": number,
            }
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                reply = await response.json()
            output.write(json.dumps({"id": number, "answer": reply["choices"][0]["message"]["content"]}) + "\n")
            done += 1

    async def run() -> None:
        with (folder / "bare.jsonl").open("w") as output:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
                await asyncio.gather(*(work(session, output) for _ in range(concurrency)))

    measured(lambda: asyncio.run(run()))
    return done


def personahub_stage(url: str, count: int, concurrency: int, folder: Path) -> int:
    """A stage with everything that stages have: journal, keys, seeds, retries, ordered Parquet shards, manifest."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import pyarrow.parquet  # noqa: F401

    # Imported beforehand, like the other clients' imports.
    import personahub.core.engines.remote.chat  # noqa: F401
    from personahub.core.experiments.experiment import load_experiment
    from personahub.core.experiments.stage_process import run_stage

    name = f"answers-{os.getpid()}"
    config = folder / f"{name}.json"
    stages = {
        "prompts": {"run": "benchmarks.generation_stage", "config": {"count": count}},
        "answers": {
            "run": "benchmarks.generation_stage",
            "inputs": {"prompts": "prompts"},
            "config": {"engine": "server"},
        },
    }
    engine = {"kind": "openai", "model": MODEL, "base_url": f"{url}/v1", "concurrency": concurrency}
    config.write_text(json.dumps({"experiment": name, "engines": {"server": engine}, "stages": stages}))
    made = load_experiment(config, runs=folder).stage("prompts")
    assert made.spec is not None
    run_stage(made.spec, made.path)
    planned = load_experiment(config, runs=folder).stage("answers")
    assert planned.spec is not None
    spec = planned.spec
    return measured(lambda: run_stage(spec, planned.path)).num_rows


def personahub_complete(url: str, count: int, concurrency: int, folder: Path) -> int:
    """The `complete` command on a file in the batch format."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from personahub.commands.cli import main

    source, target = folder / f"requests-{count}.jsonl", folder / f"replies-{os.getpid()}.jsonl"
    with source.open("w") as file:
        for number, text in enumerate(prompts(count)):
            body = {
                "messages": [{"role": "user", "content": text}],
                "temperature": 1.0,
                "max_tokens": 512,
                "seed": number,
            }
            row = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(row) + "\n")
    words = ["complete", str(source), str(target), "--base-url", f"{url}/v1", "--model", MODEL]
    assert measured(lambda: main([*words, "--concurrency", str(concurrency)])) == 0
    with target.open("rb") as file:
        return sum(1 for _ in file)


def openai_sdk(url: str, count: int, concurrency: int, folder: Path) -> int:
    """The official SDK's async client behind a semaphore, with its default retries."""
    import openai  # pyright: ignore[reportMissingImports]

    done = 0

    async def run() -> None:
        limits = openai.DEFAULT_CONNECTION_LIMITS
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
        texts = iter(enumerate(prompts(count)))
        assert (limits.max_connections or concurrency) >= concurrency

        async def work(output) -> None:
            nonlocal done
            for number, text in texts:
                reply = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": text}], max_tokens=512, seed=number
                )
                output.write(json.dumps({"id": number, "answer": reply.choices[0].message.content}) + "\n")
                done += 1

        with (folder / "openai.jsonl").open("w") as output:
            await asyncio.gather(*(work(output) for _ in range(concurrency)))

    measured(lambda: asyncio.run(run()))
    return done


def curator(url: str, count: int, concurrency: int, folder: Path) -> int:
    """bespokelabs-curator's `LLM` with its openai backend, and limits too high to matter."""
    os.environ.update(CURATOR_VIEWER="0", TELEMETRY_ENABLED="0", OPENAI_API_KEY="none", HF_HUB_OFFLINE="1")
    os.environ["CURATOR_CACHE_DIR"] = str(folder / f"curator-{os.getpid()}")
    # Its token counts need a file from the network; litellm, one of its dependencies, has a copy.
    copies = Path(sys.prefix).glob("lib/*/site-packages/litellm/litellm_core_utils/tokenizers")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(next(copies))
    from bespokelabs import curator  # pyright: ignore[reportMissingImports]

    class Problems(curator.LLM):
        def prompt(self, row):
            return row["prompt"]

        def parse(self, row, response):
            return {"prompt": row["prompt"], "answer": response}

    llm = Problems(
        model_name=MODEL,
        backend="openai",
        generation_params={"max_tokens": 512},
        backend_params={
            "base_url": f"{url}/v1",
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "max_concurrent_requests": concurrency,
        },
    )
    made = measured(lambda: llm([{"prompt": text} for text in prompts(count)]))
    return len(getattr(made, "dataset", made))


def distilabel(url: str, count: int, concurrency: int, folder: Path) -> int:
    """distilabel's `TextGeneration` with `OpenAILLM`, with batches as wide as the concurrency."""
    from distilabel.models import OpenAILLM  # pyright: ignore[reportMissingImports]
    from distilabel.pipeline import Pipeline  # pyright: ignore[reportMissingImports]
    from distilabel.steps import LoadDataFromDicts  # pyright: ignore[reportMissingImports]
    from distilabel.steps.tasks import TextGeneration  # pyright: ignore[reportMissingImports]

    with Pipeline(name="bench", cache_dir=folder / f"distilabel-{os.getpid()}") as pipeline:
        load = LoadDataFromDicts(data=[{"instruction": text} for text in prompts(count)], batch_size=concurrency)
        llm = OpenAILLM(model=MODEL, base_url=f"{url}/v1", api_key="none", generation_kwargs={"max_new_tokens": 512})
        load >> TextGeneration(llm=llm, input_batch_size=concurrency)  # pyright: ignore[reportUnusedExpression]
    made = measured(lambda: pipeline.run(use_cache=False))
    return sum(1 for row in made["default"]["train"] if row["generation"])


def measured(work):
    """Run `work`; print seconds, CPU-seconds including child processes, and peak MB as the last line of output."""
    seconds, cpu = time.perf_counter(), used()
    value = work()
    seconds, cpu = time.perf_counter() - seconds, used() - cpu
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    FIGURES.update(seconds=seconds, cpu=cpu, peak_mb=peak)
    return value


def used() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


FIGURES: dict[str, float] = {}
CLIENTS = {
    client.__name__: client for client in (bare, personahub_stage, personahub_complete, openai_sdk, curator, distilabel)
}

if __name__ == "__main__":
    name, url, count, concurrency, folder = sys.argv[1:]
    rows = CLIENTS[name](url, int(count), int(concurrency), Path(folder))
    print(json.dumps({**FIGURES, "rows": rows}))
