"""`personahub complete REQUESTS.jsonl OUT.jsonl`: a file of chat requests in, a file of replies out.

Both are in the format of OpenAI's Batch API, one JSON object per line:

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [...], ...}}
    {"id": "...", "custom_id": "a", "response": {"status_code": 200, "request_id": "...", "body": {...}}, "error": null}

A body is sent as it is, apart from what the command line sets. The whole input is checked before
anything is asked. Replies come in the order of the requests; a request that can never be answered
has a null `response` and its `error`, and costs the others nothing.

While it runs, OUT.jsonl.partial/ holds the journal: after a kill the same command goes on from
there. OUT.jsonl appears when it is whole. REQUESTS.jsonl may be a pipe, which is copied into that
folder first, anew each time: replies are kept by what was asked for, not by line.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from personahub.core.artifact import Usage
from personahub.core.engines.base import RequestRefused
from personahub.core.engines.price import usd
from personahub.core.engines.remote.endpoint import Endpoint, EndpointConfig
from personahub.core.engines.remote.responses import Retry, one_line, token_count, wrong_number
from personahub.core.errors import UserError
from personahub.core.executors.progress import Progress
from personahub.core.files import locked, publish
from personahub.core.generation.budget import Budget, Spent, spent_by_engine
from personahub.core.generation.journal import Journal
from personahub.core.generation.window import Job, OrderedWindow, WorkerPool

_PATH = "/chat/completions"
_MOST_FAULTS = 5  # that one message lists
_LEAVE_IT = "leave the file as it is and give the same command again, which keeps what was answered"


@dataclass(frozen=True)
class Asked:
    """One request: its line's number, its id and its body as it will be sent."""

    line: int
    custom_id: str
    body: dict[str, Any]


@dataclass
class Result:
    """What became of a file of requests."""

    replies: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)


def complete_file(source: Path, target: Path, config: EndpointConfig, overrides: Mapping[str, Any]) -> Result:
    """Answer the requests in `source` into `target`.

    Args:
        source: JSON lines in the batch format, a file or a pipe.
        target: must not exist.
        config: the endpoint; `model` may be empty if every body names its own.
        overrides: keys of every body, set over what is there.

    Raises:
        UserError: a malformed line or a `custom_id` that comes twice, with file and line; a target
            that exists; an endpoint that does not answer; a budget that is spent; a source that
            changed while it was read.
    """
    _refuse_existing(target)
    folder = target.with_name(target.name + ".partial")
    with locked(folder / ".lock", f"{folder}: another process is at it; wait for it or stop it"):
        output, journal = folder / "output.jsonl", folder / "journal.jsonl"
        done = False
        try:
            file = _to_read_twice(source, folder)
            rows = check_requests(file, overrides, source)
            _refuse_existing(target)  # it may have been made while the requests were checked
            result = asyncio.run(_complete(file, rows, output, journal, config, overrides, source))
            publish(output, target)
            done = True
        finally:
            if done or not journal.exists():  # else it is needed to go on
                shutil.rmtree(folder)
    return result


def _to_read_twice(source: Path, folder: Path) -> Path:
    """`source`, or a copy of it where it gives its lines only once, as a pipe does."""
    if not source.exists() or source.is_dir() or (source.is_file() and not source.absolute().is_relative_to("/dev")):
        return source
    copy = folder / "requests.jsonl"
    try:
        with source.open("rb") as pipe, copy.open("wb") as file:
            shutil.copyfileobj(pipe, file)
    except OSError as error:
        raise UserError(f"{source}: cannot be copied to {copy}: {error.strerror}") from None
    return copy


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise UserError(f"{target}: is there already; remove it or name another file")


def check_requests(file: Path, overrides: Mapping[str, Any], source: Path) -> int:
    """The number of requests in a file, which `source` names in messages.

    Raises:
        UserError: the first faults, with file and line.
    """
    faults: list[str] = []
    seen: set[int] = set()
    rows = 0
    for number, line in _lines(file):
        try:
            asked = read_request(number, line, overrides)
        except ValueError as error:
            faults.append(f"{source}:{number}: {error}")
        else:
            mark = hash(asked.custom_id)
            if mark in seen and (first := _line_of(file, asked.custom_id)) != number:
                faults.append(f"{source}:{number}: custom_id {asked.custom_id!r} is that of line {first} as well")
            seen.add(mark)
            rows += 1
        if len(faults) == _MOST_FAULTS:
            break
    if faults:
        raise UserError("\n       ".join(faults))
    return rows


def read_request(number: int, line: bytes, overrides: Mapping[str, Any]) -> Asked:
    """One line of the input.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError("a request is a JSON object with custom_id, method, url and body")  # noqa: TRY004
    custom_id, body = row.get("custom_id"), row.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise ValueError("custom_id is missing or is no text")
    if row.get("method", "POST") != "POST" or not str(row.get("url", _PATH)).endswith(_PATH):
        raise ValueError(f"only POST to /v1{_PATH} is done here, not {row.get('method')} {row.get('url')}")
    if not isinstance(body, dict):
        raise ValueError("body is missing or is no object")  # noqa: TRY004
    body = {**body, **overrides}
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise ValueError("body.messages is missing, empty or no list")
    if not isinstance(body.get("model"), str):
        raise ValueError("body.model is missing: name one with --model")  # noqa: TRY004
    if body.get("stream"):
        raise ValueError("body.stream: replies are files, they cannot be streamed")
    if not isinstance(body.get("n", 1), int) or body.get("n", 1) < 1:
        raise ValueError("body.n is a positive number")
    for name in ("max_tokens", "max_completion_tokens"):
        if not isinstance(body.get(name) or 0, int):
            raise ValueError(f"body.{name} is a whole number")  # noqa: TRY004
    return Asked(number, custom_id, body)


def _checked_requests(file: Path, overrides: Mapping[str, Any], source: Path) -> Iterator[Asked]:
    for number, line in _lines(file):
        try:
            asked = read_request(number, line, overrides)
        except ValueError as error:
            raise UserError(f"{source}:{number}: is not as it was when it was checked ({error}): {_LEAVE_IT}") from None
        yield asked


def _lines(source: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with source.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line
    except OSError as error:
        raise UserError(f"{source}: cannot be read: {error.strerror}") from None


def _line_of(source: Path, custom_id: str) -> int:
    """Number of the first line with this id."""
    return next(number for number, line in _lines(source) if _custom_id(line) == custom_id)


def _custom_id(line: bytes) -> Any:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row.get("custom_id") if isinstance(row, dict) else None


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
    # Half of the workers may be waiting for another try; the endpoint keeps to `concurrency`.
    pool = WorkerPool(2 * config.concurrency, moved)
    limit = config.max_cost_usd
    budget = Budget("--max-cost-usd", limit, config.billed, earlier) if limit else None
    try:
        with Progress("complete", rows, "requests") as bar, output.open("w", encoding="utf-8") as file:
            work = partial(_reply, endpoint, journal, budget, bar)
            requests = _checked_requests(requests_file, overrides, source)
            window: OrderedWindow[Asked, dict[str, Any]] = OrderedWindow([pool], moved)
            result, answered, prompt_tokens, completion_tokens = Result(), 0, 0, 0
            async for asked, (entry,) in window.run(requests, lambda asked: [Job(pool, [0], partial(work, asked))]):
                file.write(json.dumps(_output(asked, entry)) + "\n")
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
        raise UserError(f"{source}: had {rows:,} requests when it was checked and has {answered:,}: {_LEAVE_IT}")
    result.usage = Usage(
        requests=result.replies,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=usd(config.billed, prompt_tokens, completion_tokens),
    )
    return result


def _output(asked: Asked, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the output."""
    response = error = None
    if "reply" in entry:
        response = {"status_code": 200, "request_id": entry["reply"].get("id"), "body": entry["reply"]}
    else:
        error = {"code": entry["refused"], "message": entry["detail"]}
    return {"id": f"line-{asked.line}", "custom_id": asked.custom_id, "response": response, "error": error}


async def _reply(
    endpoint: Endpoint, journal: Journal, budget: Budget | None, bar: Progress, asked: Asked
) -> list[dict[str, Any]]:
    """The journal's entry of one request, made if there is none yet."""
    body = json.dumps(asked.body).encode()
    whole = json.dumps([asked.custom_id, endpoint.config.base_url]).encode() + body
    key = hashlib.blake2b(whole, digest_size=16).hexdigest()
    entry = journal.get(key)
    if entry is None:
        if budget is None:
            entry = await _ask(endpoint, asked, body)
        else:
            with budget.reserve():
                entry = await _ask(endpoint, asked, body)
                budget.spend(_cost(endpoint.config, entry))
        journal.append(key, entry)
        bar.update(0, entry["prompt_tokens"] + entry["completion_tokens"], _cost(endpoint.config, entry))
    return [entry]


def _cost(config: EndpointConfig, entry: Mapping[str, Any]) -> float:
    prompt, completion = entry["wasted"]
    return usd(config.billed, entry["prompt_tokens"] + prompt, entry["completion_tokens"] + completion)


async def _ask(endpoint: Endpoint, asked: Asked, body: bytes) -> dict[str, Any]:
    n = asked.body.get("n", 1)
    most = asked.body.get("max_completion_tokens") or asked.body.get("max_tokens") or 512
    tokens = partial(_tokens, len(body))
    try:
        reply, wasted = await endpoint.ask(body, partial(_read, n, tokens), tokens, n * most, _always)
    except RequestRefused as refused:
        spent = {"prompt_tokens": 0, "completion_tokens": 0, "wasted": refused.wasted}
        return {"engine": "", "refused": refused.reason, "detail": refused.detail, **spent}
    prompt, completion = tokens(reply)
    return {"engine": "", "reply": reply, "prompt_tokens": prompt, "completion_tokens": completion, "wasted": wasted}


async def _always() -> bool:
    """Rows differ in their parameters: what one is refused for says nothing about the others."""
    return True


def _read(n: int, tokens: Callable[[Mapping[str, Any]], tuple[int, int]], body: bytes) -> dict[str, Any]:
    """A reply with `n` choices, which are nobody's business here.

    Raises:
        Retry: it is none.
        EngineUnavailable: the server ignores n.
    """
    try:
        reply = json.loads(body)
        choices = len([choice["message"].items() for choice in reply["choices"]])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Retry(f"a reply that is not one chat completion: {one_line(body)}", paid=tokens({})) from None
    if choices != n:
        raise wrong_number(choices, n, body, tokens(reply), "ask without n, and for more rows")
    return reply


def _tokens(characters: int, reply: Mapping[str, Any]) -> tuple[int, int]:
    """Prompt and completion tokens as the server reports them, or estimated: of a body of `characters`, and of a reply."""
    usage = reply.get("usage")
    reported = usage if isinstance(usage, dict) else {}
    written = sum(_characters(choice["message"]) for choice in reply.get("choices", ()))
    return (
        token_count(reported.get("prompt_tokens"), characters),
        token_count(reported.get("completion_tokens"), written),
    )


def _characters(message: Mapping[str, Any]) -> int:
    """Of all that a model wrote: its text, its reasoning, its calls of tools."""
    parts = [value for name, value in message.items() if name != "role" and value]
    return sum(len(part if isinstance(part, str) else json.dumps(part)) for part in parts)


def describe(target: Path, result: Result) -> str:
    """One line about what was done."""
    parts = [f"{target}: {result.replies:,} replies"]
    if result.errors:
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in result.errors.most_common())
        parts.append(f"{sum(result.errors.values()):,} errors ({reasons})")
    usage = result.usage
    parts.append(f"{usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out")
    if usage.cost_usd:
        parts.append(f"${usage.cost_usd:.4g}")
    return ", ".join(parts)
