"""The generation loop: records in, completions out, in the order of the records.

An LLM stage is a pure `prompts(record) -> requests` and a pure `parse(request, completion)`,
which returns a value or raises `Rejected`. The loop does the rest: it keeps `concurrency`
requests in flight over all shards, replays the journal before it asks, asks again with another
seed when a completion does not parse, and keeps what finally failed with its raw text.

    def run(stage):
        stage_map = map_completions(stage, process, stage.input("personas"), records.PROBLEM)

    async def process(stage, shard):
        async for record, results in shard.generate(shard.rows(), prompts, parse, attempts=3):
            for result in results:
                if isinstance(result, Failure):
                    shard.reject(record, result.error, result.raw)
                else:
                    shard.write(...)
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from personahub.core.artifact import Artifact, Usage
from personahub.core.config import EngineConfig, engine_names
from personahub.core.engines import engine_identity, open_engine
from personahub.core.engines.base import Completion, Engine, Request, RequestRefused
from personahub.core.errors import Rejected
from personahub.core.identity import derive_seed
from personahub.core.journal import Journal, request_key
from personahub.core.progress import Progress
from personahub.core.records import Row
from personahub.core.shards import ShardWriter
from personahub.core.stage import Shard, Stage

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """A request that gave nothing usable after all attempts. `raw` is the last completion's text."""

    error: Rejected
    raw: str | None


class Client:
    """An open engine with its identity, its price and a limit on requests in flight."""

    def __init__(self, config: EngineConfig, engine: Engine, identity: Mapping[str, Any]) -> None:
        self.engine = engine
        self.identity = dict(identity)
        self.price = getattr(config, "price", None)
        self._limit = asyncio.Semaphore(config.concurrency)

    async def ask(self, request: Request) -> Completion:
        """Complete one request, waiting for a free place first."""
        async with self._limit:
            completion = await self.engine.complete(request)
        clean = completion.text.encode("utf-8", "replace").decode()  # lone surrogates cannot be stored
        return completion if clean == completion.text else dataclasses.replace(completion, text=clean)

    def cost_usd(self, completion: Completion) -> float:
        """Price of one completion, 0 where the engine names none."""
        if self.price is None:
            return 0.0
        return (completion.prompt_tokens * self.price.input + completion.completion_tokens * self.price.output) / 1e6


class CompletionShard(Shard):
    """A shard whose output is made from completions."""

    def __init__(
        self,
        source: Any,
        writer: ShardWriter,
        journal: Journal,
        clients: Mapping[str, Client],
        scope: Any,
        bar: Progress,
    ) -> None:
        super().__init__(source, writer, bar.update)
        self._journal = journal
        self._clients = clients
        self._scope = scope
        self._bar = bar

    async def generate(
        self,
        records: Iterable[Row],
        prompts: Callable[[Row], Sequence[Request]],
        parse: Callable[[Request, Completion], T],
        attempts: int = 3,
    ) -> AsyncIterator[tuple[Row, list[T | Failure]]]:
        """Yield every record with one result per request, in the order of the records.

        Args:
            records: rows with an `id`; taken lazily.
            prompts: the record's requests. Their `engine` names an engine of the experiment.
            parse: value of a completion, or raises `Rejected`; then the request is asked again
                with another seed, unless it is greedy and would only repeat itself.
            attempts: how often one request is asked at the most.
        """
        window = 4 * max(client.engine.concurrency for client in self._clients.values())
        pending: deque[tuple[Row, asyncio.Task]] = deque()
        try:
            for record in records:
                pending.append(
                    (record, asyncio.create_task(self._answer_all(record, prompts(record), parse, attempts)))
                )
                if len(pending) >= window:
                    done, task = pending.popleft()
                    yield done, await task
            while pending:
                done, task = pending.popleft()
                yield done, await task
        finally:
            for _, task in pending:
                task.cancel()
            await asyncio.gather(*(task for _, task in pending), return_exceptions=True)

    async def _answer_all(
        self, record: Row, requests: Sequence[Request], parse: Callable[[Request, Completion], T], attempts: int
    ) -> list[T | Failure]:
        answers = (self._answer(record, request, parse, attempts) for request in requests)
        if len(requests) == 1:
            return [await next(answers)]
        return list(await asyncio.gather(*answers))

    async def _answer(
        self, record: Row, request: Request, parse: Callable[[Request, Completion], T], attempts: int
    ) -> T | Failure:
        last_attempt = attempts if request.sampling.temperature > 0 else 1
        for attempt in range(1, last_attempt + 1):
            try:
                completion = await self._complete(record, request)
            except RequestRefused as refused:
                return Failure(Rejected(refused.reason, refused.detail), None)
            try:
                return parse(request, completion)
            except Rejected as error:
                if attempt == last_attempt:
                    return Failure(error, completion.text)
            request = dataclasses.replace(request, seed=derive_seed(request.seed, "attempt", attempt), attempt=attempt)
        raise ValueError(f"attempts must be at least 1, not {attempts}")

    async def _complete(self, record: Row, request: Request) -> Completion:
        client = self._clients[request.engine]
        key = request_key(request, [self._scope, client.identity])
        completion = self._journal.get(key)
        replayed = completion is not None
        if completion is None:
            completion = await client.ask(request)
            self._journal.append(key, completion)
        usage = Usage(
            requests=1,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            cost_usd=client.cost_usd(completion),
        )
        self.writer.usage = self.writer.usage.plus(usage)
        if not replayed:
            self._bar.update(0, usage.prompt_tokens + usage.completion_tokens, usage.cost_usd)
        if completion.truth is not None:
            self.writer.truth(record["id"], request.sample, request.attempt, completion.truth)
        return completion


def map_completions(
    stage: Stage[Any],
    process: Callable[[Stage[Any], CompletionShard], Awaitable[None]],
    source: Artifact,
    schema: pa.Schema,
    models: Mapping[str, Artifact] | None = None,
) -> None:
    """Make one output shard from each input shard with an async `process`; finished shards stay.

    Args:
        stage: the running stage; every engine that its config names is opened.
        process: reads `shard.rows()`, iterates `shard.generate(...)`, writes or rejects.
        source: the artifact mapped over.
        schema: of the output records.
        models: engine name -> artifact with a `model/` folder that this engine shall load.
    """
    asyncio.run(_map_completions(stage, process, source, schema, models or {}))


async def _map_completions(
    stage: Stage[Any], process: Any, source: Artifact, schema: pa.Schema, models: Mapping[str, Artifact]
) -> None:
    pending = stage.pending(source)
    if not pending:
        return
    done = source.num_rows - sum(source.manifest.shards[name] for name in pending)
    places = asyncio.Semaphore(stage.spec.execution.shards_in_flight)
    scope = [stage.spec.module, stage.spec.version]
    clients: dict[str, Client] = {}

    async def one_shard(name: str) -> None:
        async with places:
            journal = Journal(stage.path / "journal" / f"{name}.jsonl")
            try:
                with stage.writer(name, schema) as writer:
                    shard_file = source.path / f"{name}.parquet"
                    await process(stage, CompletionShard(shard_file, writer, journal, clients, scope, bar))
            finally:
                journal.close()

    try:
        for name in engine_names(stage.config):
            clients[name] = _open_client(stage.engines[name], models.get(name))
        with stage.progress(source.num_rows, done=done) as bar:
            await _all_or_first_error([asyncio.create_task(one_shard(name)) for name in pending])
    finally:
        for client in clients.values():
            await client.engine.close()


async def _all_or_first_error(tasks: list[asyncio.Task]) -> None:
    """Wait for all; on the first error cancel the rest, wait for them to clean up, and raise it."""
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _open_client(config: EngineConfig, model: Artifact | None) -> Client:
    identity = engine_identity(config)
    if model is not None:
        config = config.model_copy(update={"model": str(model.path / "model")})
        identity["model"] = model.fingerprint
    return Client(config, open_engine(config), identity)
