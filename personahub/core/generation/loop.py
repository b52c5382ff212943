"""The generation loop: records in, completions out, in the order of the records.

An LLM stage has a pure `prompts(record) -> requests` and a pure `parse(request, completion)`, which
returns a value or raises `Rejected`. The loop does the rest. It keeps the engines busy over all
shards, replays the journal before it asks, asks again with another seed when a completion does not
parse, and returns what finally failed with its raw text.

Most stages write one record per reply and need `personahub.core.generation.llm_stage` only:

    def run(stage):
        generate_records(stage, stage.input("personas"), records.PROBLEM, prompts, parse, record, attempts=3)

A stage with another shape writes its own `process`. It gets every row with all results, in order:

    def run(stage):
        map_completions(stage, process, stage.input("problems"), records.PROBLEM)

    async def process(stage, shard):
        async for row, results in shard.generate(shard.rows(), prompts, parse, attempts=3):
            failures = [result for result in results if isinstance(result, Failure)]
            ...                                          # shard.write(...) or shard.reject(...)

Records are taken as late as possible, and memory does not grow with their number; see
`personahub.core.generation.window`.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa

from personahub.core.artifact import Artifact, Usage
from personahub.core.config import engine_names
from personahub.core.engines import engine_identity, open_engine
from personahub.core.engines.base import Completion, Engine, EngineConfig, PricedConfig, Request, RequestRefused
from personahub.core.engines.price import Price, usd
from personahub.core.errors import Rejected, UserError
from personahub.core.executors.progress import Progress
from personahub.core.generation.budget import Budget
from personahub.core.generation.journal import Journal, RequestKeys
from personahub.core.generation.window import Job, OrderedWindow, WorkerPool
from personahub.core.identity import derive_seed
from personahub.core.records import Row
from personahub.core.shards import ShardWriter
from personahub.core.stage import Shard, Stage, error_context

T = TypeVar("T")
S = TypeVar("S", str, str | None)


@dataclass(frozen=True)
class Failure:
    """A request without a usable completion after all attempts. `raw` is the last completion's text."""

    error: Rejected
    raw: str | None


class Client:
    """An open engine with its worker pool, identity, price and budget."""

    def __init__(
        self, name: str, engine: Engine, keys: RequestKeys, price: Price | None, budget: Budget | None, pool: WorkerPool
    ) -> None:
        self.name = name
        self.engine = engine
        self.keys = keys
        self.price = price
        self.budget = budget
        self.pool = pool

    async def ask(self, requests: Sequence[Request]) -> list[Completion]:
        """Complete requests that differ only in their sample index and seed.

        Raises:
            BudgetSpentError: the requests might exceed the budget.
            RequestRefused, EngineUnavailable: see `Engine`.
        """
        with nullcontext() if self.budget is None else self.budget.reserve(len(requests)):
            if len(requests) == 1:
                return [_storable(await self.engine.complete(requests[0]))]
            completions = await self.engine.complete_samples(requests)
            return [_storable(completion) for completion in completions]

    def pay(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Add the tokens of an answer or a failed request to the budget. Return their cost, or 0 without a price."""
        cost = usd(self.price, prompt_tokens, completion_tokens)
        if self.budget is not None:
            self.budget.spend(cost)
        return cost


def _storable(completion: Completion) -> Completion:
    """Replace lone surrogates, which cannot be written to a file.

    Raises:
        UserError: the engine returned something else.
    """
    if not isinstance(completion, Completion):
        raise UserError(f"the engine returned {type(completion).__name__}, not a Completion")
    if completion.text.isascii() and completion.model.isascii():
        return completion
    text, model = _clean(completion.text), _clean(completion.model)
    if (text, model) == (completion.text, completion.model):
        return completion
    return dataclasses.replace(completion, text=text, model=model)


def _clean(text: S) -> S:
    return text.encode("utf-8", "replace").decode() if isinstance(text, str) else text


@dataclass
class _Tally:
    """Requests to one engine and their tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class CompletionShard(Shard):
    """A shard whose output is made from completions."""

    def __init__(
        self,
        source: Any,
        writer: ShardWriter,
        journal: Journal,
        clients: Mapping[str, Client],
        moved: asyncio.Event,
        bar: Progress,
    ) -> None:
        super().__init__(source, writer, bar.update)
        self._journal = journal
        self._clients = clients
        self._moved = moved
        self._bar = bar
        self._tallies = {name: _Tally() for name in clients}

    async def generate(
        self,
        records: Iterable[Row],
        prompts: Callable[[Row], Sequence[Request]],
        parse: Callable[[Request, Completion], T],
        attempts: int = 3,
    ) -> AsyncIterator[tuple[Row, list[T | Failure]]]:
        """Yield every record with one result per request, in the order of the records.

        Args:
            records: rows with an `id`, taken lazily.
            prompts: returns the requests for a record. Their `engine` names an engine of the experiment.
            parse: returns the value of a completion or raises `Rejected`. Then the request is sent again with
                another seed, unless it is greedy and the answer would be the same.
            attempts: how often a request is sent at most.
        """

        def jobs(record: Row) -> list[Job[T | Failure]]:
            requests = prompts(record)
            return [
                Job(
                    self._clients[requests[positions[0]].engine].pool,
                    positions,
                    partial(self._answer, record, [requests[i] for i in positions], parse, attempts),
                )
                for positions in self._group_samples(requests)
            ]

        window: OrderedWindow[Row, T | Failure] = OrderedWindow((c.pool for c in self._clients.values()), self._moved)
        async for record, results in window.run(records, jobs):
            self.current_id = record.get("id")
            yield record, results
            self.current_id = None

    def usage(self) -> Usage:
        """Return requests, tokens and cost. Includes replayed completions and unusable replies."""
        tallies = self._tallies.items()
        return Usage(
            requests=sum(tally.requests for _, tally in tallies),
            prompt_tokens=sum(tally.prompt_tokens for _, tally in tallies),
            completion_tokens=sum(tally.completion_tokens for _, tally in tallies),
            cost_usd=sum(usd(self._clients[n].price, t.prompt_tokens, t.completion_tokens) for n, t in tallies),
        )

    def _group_samples(self, requests: Sequence[Request]) -> list[list[int]]:
        """Group the positions of requests sent as one. These are samples of a prompt, if the engine merges them."""
        groups: list[list[int]] = []
        for position, request in enumerate(requests):
            first = requests[groups[-1][0]] if groups else None
            if (
                first is not None
                and self._clients[request.engine].engine.merges_samples
                and (request.engine, request.messages, request.sampling, request.json_schema)
                == (first.engine, first.messages, first.sampling, first.json_schema)
            ):
                groups[-1].append(position)
            else:
                groups.append([position])
        return groups

    async def _answer(
        self, record: Row, requests: Sequence[Request], parse: Callable[[Request, Completion], T], attempts: int
    ) -> list[T | Failure]:
        try:
            completions = await self._complete(record, requests)
        except RequestRefused as refused:
            return [Failure(Rejected(refused.reason, refused.detail), _clean(refused.raw))] * len(requests)
        pairs = zip(requests, completions, strict=True)
        with error_context(self, record.get("id")):
            return [await self._parse(record, request, completion, parse, attempts) for request, completion in pairs]

    async def _parse(
        self,
        record: Row,
        request: Request,
        completion: Completion,
        parse: Callable[[Request, Completion], T],
        attempts: int,
    ) -> T | Failure:
        """Return the value of the completion or of another attempt."""
        last_attempt = attempts if request.sampling.temperature > 0 else 1
        while True:
            try:
                return parse(request, completion)
            except Rejected as error:
                attempt = request.attempt + 1
                if attempt >= last_attempt:
                    return Failure(error, completion.text)
            request = dataclasses.replace(request, seed=derive_seed(request.seed, "attempt", attempt), attempt=attempt)
            try:
                (completion,) = await self._complete(record, [request])
            except RequestRefused as refused:
                return Failure(Rejected(refused.reason, refused.detail), _clean(refused.raw) or completion.text)

    async def _complete(self, record: Row, requests: Sequence[Request]) -> list[Completion]:
        """Return completions from the journal or, if they are not there, from the engine."""
        client = self._clients[requests[0].engine]
        keys = [client.keys(request) for request in requests]
        entries = [self._journal.get(key) for key in keys]
        if None not in entries:
            completions = [_from_entry(entry) for entry in entries if entry is not None]
        elif any(entries):  # a torn journal has lost some of the samples
            return [(await self._complete(record, [request]))[0] for request in requests]
        else:
            completions = await self._ask(client, keys, requests)
        tally = self._tallies[client.name]
        for request, completion in zip(requests, completions, strict=True):
            wasted = completion.wasted
            tally.requests += 1
            tally.prompt_tokens += completion.prompt_tokens + wasted[0]
            tally.completion_tokens += completion.completion_tokens + wasted[1]
            if completion.truth is not None:
                self.writer.truth(record["id"], request.sample, request.attempt, completion.truth)
        return completions

    async def _ask(self, client: Client, keys: Sequence[str], requests: Sequence[Request]) -> list[Completion]:
        try:
            completions = await client.ask(requests)
        except RequestRefused as refused:
            if refused.wasted != (0, 0):
                self._record_waste(client, keys[0], refused)
            raise
        for key, completion in zip(keys, completions, strict=True):
            self._journal.append(key, _to_entry(client.name, completion))
            prompt, answer = completion.wasted
            cost = client.pay(completion.prompt_tokens + prompt, completion.completion_tokens + answer)
            self._bar.update(0, completion.prompt_tokens + completion.completion_tokens, cost)
        return completions

    def _record_waste(self, client: Client, key: str, refused: RequestRefused) -> None:
        """Add the cost of a refused request to the journal, the budget and the usage."""
        self._journal.append(key, {"engine": client.name, "refused": refused.reason, "wasted": refused.wasted})
        client.pay(*refused.wasted)
        tally = self._tallies[client.name]
        tally.prompt_tokens += refused.wasted[0]
        tally.completion_tokens += refused.wasted[1]


def _to_entry(engine: str, completion: Completion) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "engine": engine,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "model": completion.model,
    }
    if completion.truth is not None:
        entry["truth"] = completion.truth
    if completion.logprobs is not None:
        entry["logprobs"] = completion.logprobs
    if completion.wasted != (0, 0):
        entry["wasted"] = completion.wasted
    return entry


def _from_entry(entry: dict[str, Any]) -> Completion:
    entry.pop("engine")
    if "logprobs" in entry:
        entry["logprobs"] = [(token, logprob) for token, logprob in entry["logprobs"]]
    if "wasted" in entry:
        entry["wasted"] = tuple(entry["wasted"])
    return Completion(**entry)


def map_completions(
    stage: Stage[Any],
    process: Callable[[Stage[Any], CompletionShard], Awaitable[None]],
    source: Artifact,
    schema: pa.Schema,
    models: Mapping[str, Artifact] | None = None,
) -> None:
    """Make one output shard from each input shard with an async `process`.

    Keeps finished shards.

    Args:
        stage: the running stage; every engine that its config names is opened.
        process: reads `shard.rows()`, iterates `shard.generate(...)`, and writes or rejects.
        source: the artifact to map over.
        schema: of the output records.
        models: by engine name, an artifact with a `model/` folder that the engine should load.
    """
    pa.set_memory_pool(pa.system_memory_pool())  # the tables are small, and Arrow's own pool would keep 30 MB
    asyncio.run(_map_completions(stage, process, source, schema, models or {}))


async def _map_completions(
    stage: Stage[Any], process: Any, source: Artifact, schema: pa.Schema, models: Mapping[str, Artifact]
) -> None:
    pending = stage.pending(source)
    if not pending:
        return
    done = source.num_rows - sum(source.manifest.shards[name] for name in pending)
    slots = asyncio.Semaphore(stage.spec.execution.shards_in_flight)
    moved = asyncio.Event()
    clients: dict[str, Client] = {}
    journals: list[Journal] = []

    async def make_shard(name: str) -> None:
        async with slots:
            journal = Journal(stage.path / "journal" / f"{name}.jsonl")
            journals.append(journal)
            with stage.writer(name, schema) as writer:
                shard = CompletionShard(source.path / f"{name}.parquet", writer, journal, clients, moved, bar)
                with error_context(shard):
                    await process(stage, shard)
                writer.usage = shard.usage()
                journal.flush()  # before the shard is published
            journals.remove(journal)  # first, so that a journal that fails to close is not closed again
            journal.close()

    try:
        for name in engine_names(stage.config):
            clients[name] = _open_client(stage, name, models.get(name), moved)
        with stage.progress(source.num_rows, done=done) as bar:
            await _all_or_first_error([asyncio.create_task(make_shard(name)) for name in pending])
    finally:
        for client in clients.values():
            await client.pool.close()
            await client.engine.close()
        for journal in journals:  # only now, because running requests may still write to them
            journal.close()


async def _all_or_first_error(tasks: list[asyncio.Task]) -> None:
    """Wait for all tasks. On the first error, cancel the others, wait for them to clean up, and raise it."""
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _open_client(stage: Stage[Any], name: str, model: Artifact | None, moved: asyncio.Event) -> Client:
    config: EngineConfig = stage.engines[name]
    identity = engine_identity(config)
    if model is not None:
        config = config.model_copy(update={"model": str(model.path / "model")})
        identity["model"] = model.fingerprint
    keys = RequestKeys([[stage.spec.module, stage.spec.version], identity])
    price = budget = None
    if isinstance(config, PricedConfig):
        price, limit = config.billed, config.max_cost_usd
        budget = None if limit is None else Budget.of_experiment(stage.path.parent, name, limit, price)
    engine = open_engine(config)
    engine.keep_state_in(stage.path / "journal")
    return Client(name, engine, keys, price, budget, WorkerPool(engine.concurrency, moved))
