"""Answer a file of chat requests in OpenAI's batch format.

A stopped or killed command can be resumed.

    personahub complete requests.jsonl replies.jsonl --base-url http://127.0.0.1:8000/v1 --model my-model

Requests and replies are in the format of OpenAI's Batch API, one JSON object per line:

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [...], ...}}
    {"id": "...", "custom_id": "a", "response": {"status_code": 200, "body": {...}}, "error": null}

The whole input is checked before the first request is sent. A body is sent unchanged, except for
the values that the command line sets. Replies are in the order of the requests. A request that
cannot be answered gets a null `response` and an `error`, and does not affect the others.

OUT.jsonl appears once it is complete. Until then OUT.jsonl.partial/ holds the journal: after a kill,
the same command continues from there. REQUESTS.jsonl may be a pipe, which is first copied to that
folder. Replies are stored by the content of the request, not by its line.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from personahub.commands.batch_requests import CHANGED, BatchRequest, check_requests, copy_if_pipe, read_requests
from personahub.commands.model_options import ModelOptions
from personahub.core.artifact import Usage
from personahub.core.engines.base import RequestRefused, Sampling
from personahub.core.engines.price import usd
from personahub.core.engines.remote.endpoint import Endpoint, EndpointConfig
from personahub.core.engines.remote.responses import Retry, count_usage, one_line, parse_json, wrong_number
from personahub.core.errors import UserError
from personahub.core.executors.progress import Progress
from personahub.core.files import locked, publish
from personahub.core.generation.budget import Budget, Spent, spent_by_engine
from personahub.core.generation.journal import Journal
from personahub.core.generation.window import Job, OrderedWindow, WorkerPool

_ENDPOINT = ModelOptions(
    EndpointConfig,
    exclude=("kind", "model", "price.as_of"),
    descriptions={"max_cost_usd": "Stop before more than this is spent; needs both prices"},
)
_SAMPLING = ModelOptions(Sampling, defaults=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `personahub complete`."""
    parser.add_argument("source", type=Path, metavar="REQUESTS.jsonl", help="File or pipe of requests")
    parser.add_argument("target", type=Path, metavar="OUT.jsonl", help="File of replies; must not exist")
    _ENDPOINT.add_to(parser, required=("base_url",))
    body = parser.add_argument_group("request body", "These options set a value in the body of every request.")
    body.add_argument("--model", help="Model to use")
    body.add_argument("--n", type=int, metavar="N", help="Number of completions of each request")
    _SAMPLING.add_to(body)


def run(options: argparse.Namespace) -> int:
    """Answer the requests and print the counts."""
    given = _ENDPOINT.given(options)
    if "max_cost_usd" in given and "price" not in given:
        raise UserError("--max-cost-usd needs a price: set --price-input and --price-output")
    config = _ENDPOINT.build(EndpointConfig, options, kind="openai", model=options.model or "")
    overrides = {name: value for name in ("model", "n") if (value := getattr(options, name)) is not None}
    overrides |= _SAMPLING.build(Sampling, options).model_dump(mode="json", exclude_unset=True)
    result = complete_file(options.source, options.target, config, overrides)
    print(describe(options.target, result))
    return 1 if result.errors and not result.replies else 0


@dataclass
class Result:
    """Counts of a finished file."""

    replies: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)


def complete_file(source: Path, target: Path, config: EndpointConfig, overrides: Mapping[str, Any]) -> Result:
    """Answer the requests in `source` and write the replies to `target`.

    Args:
        source: a file or a pipe in the batch format.
        target: must not exist.
        config: the endpoint; `model` may be empty if every body names one.
        overrides: values to set in every body.

    Raises:
        UserError: a line is malformed or repeats a `custom_id`, the target exists, the endpoint does not answer, the
            budget is spent, or the source changed while it was read.
    """
    _refuse_existing(target)
    folder = target.with_name(target.name + ".partial")
    with locked(folder / ".lock", f"{folder}: another process is using it; wait for it or stop it"):
        output, journal = folder / "output.jsonl", folder / "journal.jsonl"
        done = False
        try:
            file = copy_if_pipe(source, folder)
            rows = check_requests(file, overrides, source)
            _refuse_existing(target)  # it may have been created while the requests were checked
            result = asyncio.run(_complete(file, rows, output, journal, config, overrides, source))
            publish(output, target)
            done = True
        finally:
            if done or not journal.exists():  # otherwise it is needed to resume
                shutil.rmtree(folder)
    return result


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise UserError(f"{target}: exists already; delete it or choose another name")


async def _complete(
    requests_file: Path,
    rows: int,
    output: Path,
    journal_file: Path,
    config: EndpointConfig,
    overrides: Mapping[str, Any],
    source: Path,
) -> Result:
    earlier = spent_by_engine(journal_file).get("", Spent()) if journal_file.exists() else Spent()
    journal = Journal(journal_file)
    endpoint = Endpoint(config)
    moved = asyncio.Event()
    # Half of the workers may be waiting to retry; the endpoint itself limits requests to `concurrency`.
    pool = WorkerPool(2 * config.concurrency, moved)
    limit = config.max_cost_usd
    budget = Budget("--max-cost-usd", limit, config.billed, earlier) if limit else None
    try:
        with Progress("complete", rows, "requests") as bar, output.open("w", encoding="utf-8") as file:
            work = partial(_journaled_reply, endpoint, journal, budget, bar)
            requests = read_requests(requests_file, overrides, source)
            window: OrderedWindow[BatchRequest, dict[str, Any]] = OrderedWindow([pool], moved)
            result, answered, prompt_tokens, completion_tokens = Result(), 0, 0, 0
            async for request, (entry,) in window.run(
                requests, lambda request: [Job(pool, [0], partial(work, request))]
            ):
                file.write(json.dumps(_output_line(request, entry)) + "\n")
                result.replies += "reply" in entry
                result.errors.update([entry["refused"]] if "refused" in entry else [])
                prompt_tokens += entry["prompt_tokens"] + entry["wasted"][0]
                completion_tokens += entry["completion_tokens"] + entry["wasted"][1]
                answered += 1
                bar.update(1)
    finally:
        await pool.close()
        await endpoint.close()
        journal.close()
    if answered != rows:
        raise UserError(f"{source}: had {rows:,} requests when it was checked and now has {answered:,}: {CHANGED}")
    result.usage = Usage(
        requests=result.replies,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=usd(config.billed, prompt_tokens, completion_tokens),
    )
    return result


def _output_line(request: BatchRequest, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return one line of the output, as a JSON object."""
    response = error = None
    if "reply" in entry:
        response = {"status_code": 200, "request_id": entry["reply"].get("id"), "body": entry["reply"]}
    else:
        error = {"code": entry["refused"], "message": entry["detail"]}
    return {"id": f"line-{request.line}", "custom_id": request.custom_id, "response": response, "error": error}


async def _journaled_reply(
    endpoint: Endpoint, journal: Journal, budget: Budget | None, bar: Progress, request: BatchRequest
) -> list[dict[str, Any]]:
    """Return the journal's entry for one request; sends the request if there is no entry yet."""
    body = json.dumps(request.body).encode()
    whole = json.dumps([request.custom_id, endpoint.config.base_url]).encode() + body
    key = hashlib.blake2b(whole, digest_size=16).hexdigest()
    entry = journal.get(key)
    if entry is None:
        if budget is None:
            entry = await _send(endpoint, request, body)
        else:
            with budget.reserve():
                entry = await _send(endpoint, request, body)
                budget.spend(_cost(endpoint.config, entry))
        journal.append(key, entry)
        bar.update(0, entry["prompt_tokens"] + entry["completion_tokens"], _cost(endpoint.config, entry))
    return [entry]


def _cost(config: EndpointConfig, entry: Mapping[str, Any]) -> float:
    prompt, completion = entry["wasted"]
    return usd(config.billed, entry["prompt_tokens"] + prompt, entry["completion_tokens"] + completion)


async def _send(endpoint: Endpoint, request: BatchRequest, body: bytes) -> dict[str, Any]:
    n = request.body.get("n", 1)
    max_tokens = request.body.get("max_completion_tokens") or request.body.get("max_tokens") or 512
    tokens = partial(_count_tokens, len(body))
    try:
        reply, wasted = await endpoint.ask(body, partial(_parse_reply, n, tokens), tokens, n * max_tokens, _always)
    except RequestRefused as refused:
        spent = {"prompt_tokens": 0, "completion_tokens": 0, "wasted": refused.wasted}
        return {"engine": "", "refused": refused.reason, "detail": refused.detail, **spent}
    prompt, completion = tokens(reply)
    return {"engine": "", "reply": reply, "prompt_tokens": prompt, "completion_tokens": completion, "wasted": wasted}


async def _always() -> bool:
    """Never stop: requests differ, so a refusal of one does not apply to the others."""
    return True


def _parse_reply(n: int, tokens: Callable[[Mapping[str, Any]], tuple[int, int]], body: bytes) -> dict[str, Any]:
    """Parse a reply and check that it has `n` choices.

    Raises:
        Retry: the body is not a chat completion.
        EngineUnavailable: the server ignores `n`.
    """
    try:
        reply = parse_json(body)
        choices = len([choice["message"].items() for choice in reply["choices"]])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Retry(f"the reply is not a chat completion: {one_line(body)}", paid=tokens({})) from None
    if choices != n:
        raise wrong_number(choices, n, body, tokens(reply), "leave out n and write more requests")
    return reply


def _count_tokens(characters: int, reply: Mapping[str, Any]) -> tuple[int, int]:
    """Return prompt and completion tokens. If the server does not report them, estimates them from the lengths."""
    written = sum(_count_characters(choice["message"]) for choice in reply.get("choices", ()))
    return count_usage(reply, characters, written)


def _count_characters(message: Mapping[str, Any]) -> int:
    """Return the length of everything the model wrote: text, reasoning and tool calls."""
    parts = [value for name, value in message.items() if name != "role" and value]
    return sum(len(part if isinstance(part, str) else json.dumps(part)) for part in parts)


def describe(target: Path, result: Result) -> str:
    """Summarize the result in one line."""
    parts = [f"{target}: {result.replies:,} replies"]
    if result.errors:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in result.errors.most_common())
        parts.append(f"{sum(result.errors.values()):,} errors ({reasons})")
    usage = result.usage
    parts.append(f"{usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out")
    if usage.cost_usd:
        parts.append(f"${usage.cost_usd:.4g}")
    return ", ".join(parts)
