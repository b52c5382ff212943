"""OpenAI's Batch API, or another server's: half the price, answers within a day.

    engines:
      teacher: {kind: openai_batch, model: gpt-4o-2024-08-06, price: {input: 2.5, output: 10}}

`price` is that of single requests; what is billed, and what `plan` shows, is half of it.

Requests are collected until none has come for `settle_s` or a file is full, then uploaded and
submitted as one batch, which is polled until it is done. A batch is known by a hash of its
requests, which is kept with its id in `journal/batches/` and sent along as metadata: after a kill
the same command finds it again and waits for it, even if the kill fell between its submission and
the note of its id. Requests that the provider did not get to are submitted again, a few times.
What would be refused whatever the prompt (no credit, an unknown model, a parameter) stops the run,
and is asked anew by the next one.

`concurrency` is the number of requests that wait at once, each of which takes some 10 KB of memory.
A run that is stopped leaves its batches to go on at the provider and says how to cancel them.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import aiohttp
import yarl
from pydantic import BaseModel, Field, ValidationError

from personahub.core.config import EXECUTION
from personahub.core.engines.base import Completion, Engine, EngineUnavailable, Request, RequestRefused
from personahub.core.engines.price import Price
from personahub.core.engines.remote.chat import Bodies, Probes
from personahub.core.engines.remote.endpoint import Endpoint, EndpointConfig
from personahub.core.engines.remote.pacing import retry_wait
from personahub.core.engines.remote.responses import Retry, one_line, read_completions, status_within
from personahub.core.files import replacing, write_json

_TRIES = 4  # of one request, each in another batch
_OVER = frozenset({"completed", "expired", "cancelled", "failed"})


class Config(EndpointConfig):
    """See `EndpointConfig`; rate limits do not apply to batches."""

    kind: str = "openai_batch"
    concurrency: Annotated[int, EXECUTION] = Field(default=10_000, gt=0, description="Requests that wait at once.")
    max_requests: Annotated[int, EXECUTION] = Field(default=50_000, gt=0, description="The provider's limit per file.")
    max_bytes: Annotated[int, EXECUTION] = Field(
        default=200_000_000, gt=0, description="The provider's limit per file."
    )
    settle_s: Annotated[float, EXECUTION] = Field(default=5.0, ge=0, description="Without a new request: submit.")
    poll_s: Annotated[float, EXECUTION] = Field(default=30.0, gt=0, description="Between two looks at a batch.")

    @property
    def billed(self) -> Price | None:
        """Half the price of single requests."""
        return self.price and self.price.halved()


def open_engine(config: Config) -> OpenAIBatchEngine:
    """Open without asking anything yet.

    Raises:
        EngineUnavailable: the key is not in the environment.
    """
    return OpenAIBatchEngine(config)


class _Named(BaseModel):
    """A file or a batch at the provider, as far as it is read."""

    id: str
    metadata: Any = None


class _Page(BaseModel):
    """Batches of the account."""

    data: list[_Named]
    has_more: bool | None = None


class _State(BaseModel):
    """How far a batch is."""

    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Any = None


M = TypeVar("M", bound=BaseModel)


@dataclass(eq=False)
class _Batch:
    """Requests submitted together, by custom id. `rows` holds what came of them once it is over."""

    name: str
    ids: set[str]
    batch_id: str | None = None
    earlier: bool = False  # another run's, whose user may have mended since what failed in it
    rows: dict[str, dict[str, Any]] | None = None
    answered: bool = False  # any of them
    work: asyncio.Task[None] | None = field(default=None, repr=False)


class OpenAIBatchEngine(Engine[Config]):
    """See the module docstring."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._endpoint = Endpoint(config)
        self._bodies = Bodies(config)
        self._probes = Probes(self._endpoint, self._bodies)
        self._answered = False  # any request, in this run
        self._folder: Path | None = None
        self._collected: dict[str, bytes] = {}  # lines by custom id
        self._batch_of: dict[str, _Batch] = {}  # the latest of each custom id
        self._collector: asyncio.Task[None] | None = None

    def keep_state_in(self, folder: Path) -> None:
        """Keep notes of batches below `folder`, and go on with those that an earlier run left there."""
        self._folder = folder / "batches"
        notes = []
        for file in self._folder.glob("*.requests"):
            note = file.with_suffix(".json")
            known = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
            if known.get("base_url", self.config.base_url) != self.config.base_url:
                continue  # another provider's, which this one knows nothing of
            notes.append((known.get("submitted", 0.0), file, known.get("batch_id")))
        for _, file, batch_id in sorted(notes, key=lambda note: note[0]):
            with file.open("rb") as lines:
                ids = {json.loads(line)["custom_id"] for line in lines}
            batch = _Batch(file.stem, ids, batch_id, earlier=True)
            self._batch_of.update(dict.fromkeys(batch.ids, batch))

    async def complete(self, request: Request) -> Completion:
        """Answer one request with a batch; see `personahub.core.engines.base.Engine`."""
        body = self._bodies.body(request)
        whole = body + f"{request.sample} {request.attempt}".encode()
        custom_id = hashlib.blake2b(whole, digest_size=16).hexdigest()
        wasted, said = (0, 0), ""
        for _ in range(_TRIES):
            batch = await self._collect(custom_id, body)
            if batch.work is None:
                batch.work = asyncio.create_task(self._see_through(batch))
            await asyncio.shield(batch.work)
            if self._batch_of.get(custom_id) is batch:  # else somebody with the same request was first
                del self._batch_of[custom_id]  # a batch is held in memory until all that was asked of it is read
            try:
                (completion,) = await self._read(batch, custom_id, request)
            except EngineUnavailable as failure:
                if not batch.earlier:
                    raise
                said = str(failure)
            except Retry as failure:
                paid = failure.paid or (0, 0)
                wasted = (wasted[0] + paid[0], wasted[1] + paid[1])
                said = failure.detail
            else:
                return completion.after_waste(wasted) if wasted != (0, 0) else completion
        if not self._answered:
            raise EngineUnavailable(f"{self.config.base_url}: nothing was answered, {_TRIES} batches in a row: {said}")
        raise RequestRefused("server_error", f"in {_TRIES} batches: {said}", wasted)

    async def close(self) -> None:
        running = {batch for batch in self._batch_of.values() if batch.batch_id and batch.work and batch.rows is None}
        for task in [self._collector, *(batch.work for batch in running)]:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for batch in running:
            print(
                f"{batch.batch_id} goes on at {self.config.base_url}; the same command fetches it. "
                f"To cancel it: POST {self.config.base_url}/batches/{batch.batch_id}/cancel",
                file=sys.stderr,
            )
        await self._endpoint.close()

    async def _collect(self, custom_id: str, body: bytes) -> _Batch:
        """The batch that holds a request: an earlier run's, or the next one, once that is made up."""
        line = b'{"custom_id": "%s", "method": "POST", "url": "/v1/chat/completions", "body": %s}\n'
        while (batch := self._batch_of.get(custom_id)) is None:
            if custom_id not in self._collected:
                self._collected[custom_id] = line % (custom_id.encode(), body)
            if self._collector is None or self._collector.done():
                self._collector = asyncio.create_task(self._make_batch())
            await asyncio.shield(self._collector)
        return batch

    async def _make_batch(self) -> None:
        """Wait until requests stop coming, then take as many as a file may hold."""
        count = 0
        while count != len(self._collected) < self.config.max_requests:
            count = len(self._collected)
            await asyncio.sleep(self.config.settle_s)
        size, lines = 0, {}
        for custom_id, line in self._collected.items():
            size += len(line)
            if len(lines) == self.config.max_requests or (lines and size > self.config.max_bytes):
                break
            lines[custom_id] = line
        for custom_id in lines:
            del self._collected[custom_id]
        name = hashlib.blake2b(b"".join(lines.values()) + str(time.time_ns()).encode(), digest_size=12).hexdigest()
        batch = _Batch(name, set(lines))
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._folder / f"{name}.requests") as temporary:
                temporary.write_bytes(b"".join(lines.values()))
        self._batch_of.update(dict.fromkeys(batch.ids, batch))
        batch.work = asyncio.create_task(self._see_through(batch, b"".join(lines.values())))

    async def _see_through(self, batch: _Batch, content: bytes | None = None) -> None:
        """Submit the batch unless that was done, wait for its end and fetch what came of it."""
        if batch.batch_id is None:
            batch.batch_id = await self._find(batch.name) if content is None else None
            if batch.batch_id is None:
                if content is None:
                    assert self._folder is not None  # noqa: S101
                    content = (self._folder / f"{batch.name}.requests").read_bytes()
                batch.batch_id = await self._submit(batch.name, content)
            self._note(batch)
        wait = min(1.0, self.config.poll_s)
        path = f"batches/{batch.batch_id}"
        while (state := self._parse(_State, path, await self._call("GET", path))).status not in _OVER:
            await asyncio.sleep(wait)
            wait = min(self.config.poll_s, 1.5 * wait)
        if state.status in ("failed", "cancelled") and not state.output_file_id:
            self._forget(batch)
            said = self._endpoint.blank(one_line(json.dumps(state.errors or {})))
            raise EngineUnavailable(
                f"{self.config.base_url}: {batch.batch_id} {state.status}: {said}. Run again to submit it anew"
            )
        rows: dict[str, dict[str, Any]] = {}
        for file_id in (state.output_file_id, state.error_file_id):
            if file_id:
                rows |= await self._rows(f"files/{file_id}/content")
        batch.answered = any(_is_answer(row) for row in rows.values())
        self._answered |= batch.answered
        batch.rows = rows

    async def _rows(self, path: str) -> dict[str, dict[str, Any]]:
        """The rows of an output file by custom id."""
        rows = {}
        for line in (await self._call("GET", path)).splitlines():
            if line.strip():
                try:
                    row = json.loads(line)
                    rows[row["custom_id"]] = row
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise self._unreadable(path, line) from None
        return rows

    def _parse(self, shape: type[M], path: str, reply: bytes) -> M:
        """A reply of the Batch API.

        Raises:
            EngineUnavailable: it is none, but the login page of a proxy, for example.
        """
        try:
            return shape.model_validate_json(reply)
        except ValidationError:
            raise self._unreadable(path, reply) from None

    def _unreadable(self, path: str, reply: bytes) -> EngineUnavailable:
        where, said = f"{self.config.base_url}/{path}", self._endpoint.blank(one_line(reply))
        return EngineUnavailable(
            f"{where}: not what the Batch API answers: {said}. Check base_url; run again to resume"
        )

    async def _submit(self, name: str, content: bytes) -> str:
        def form() -> aiohttp.FormData:
            data = aiohttp.FormData()
            data.add_field("purpose", "batch")
            data.add_field("file", content, filename=f"{name}.jsonl", content_type="application/jsonl")
            return data

        uploaded = self._parse(_Named, "files", await self._call("POST", "files", form))
        order = {
            "input_file_id": uploaded.id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"personahub": name},
        }
        body = json.dumps(order).encode()
        # A try that broke off may have been heard: look before the next one.
        made = await self._call("POST", "batches", lambda: body, before_again=lambda: self._find(name))
        return made if isinstance(made, str) else self._parse(_Named, "batches", made).id

    async def _find(self, name: str) -> str | None:
        """The id of the batch that was submitted under this name."""
        after = ""
        while True:
            path = f"batches?limit=100{after}"
            page = self._parse(_Page, path, await self._call("GET", path))
            for batch in page.data:
                if isinstance(batch.metadata, dict) and batch.metadata.get("personahub") == name:
                    return batch.id
            if not page.has_more or not page.data:
                return None
            after = f"&after={page.data[-1].id}"

    async def _call(
        self,
        method: str,
        path: str,
        data: Callable[[], Any] | None = None,
        before_again: Callable[[], Any] | None = None,
    ) -> Any:
        """The body of a successful reply, or what `before_again` finds before another try.

        Raises:
            EngineUnavailable: out of patience, or it can never succeed.
        """
        url = yarl.URL(f"{self.config.base_url}/{path}")
        started, reply = time.monotonic(), b""
        for tries in itertools.count(1):
            try:
                status, headers, reply = await self._endpoint.post(data() if data else None, url, method)
                failure = None if status == 200 else await self._endpoint.explain(status, headers, reply)
            except Retry as broken_off:
                failure = broken_off
            if failure is None:
                return reply
            if not isinstance(failure, Retry):
                raise EngineUnavailable(str(failure)) from None
            wait = retry_wait(tries, failure.wait_s)
            if time.monotonic() - started + wait > self.config.max_outage_s:
                raise EngineUnavailable(f"{failure.detail}. Run again later to resume") from None
            await asyncio.sleep(wait)
            if before_again is not None and (found := await before_again()) is not None:
                return found

    async def _read(self, batch: _Batch, custom_id: str, request: Request) -> list[Completion]:
        """What came of one request.

        Raises:
            Retry: nothing, but it may in another batch.
            RequestRefused: it can never be answered.
            EngineUnavailable: no request can.
        """
        assert batch.rows is not None  # noqa: S101
        row = batch.rows.get(custom_id)
        if row is None:
            raise Retry(f"{batch.batch_id} ended without it")
        response = row.get("response")
        if not isinstance(response, dict):
            raise Retry(self._endpoint.blank(one_line(json.dumps(row.get("error")))))
        body, status = json.dumps(response.get("body")).encode(), response.get("status_code")
        if status == 200:
            try:
                return read_completions(body, self.config.model, len(request.messages_json))
            except (Retry, RequestRefused, EngineUnavailable) as failure:
                status = status_within(body)
                if status == 200:
                    raise self._endpoint.blanked(failure) from None
        status = status if isinstance(status, int) else 500

        async def accepts() -> bool:  # then it is the prompt that was refused
            return batch.answered or (not batch.earlier and await self._probes.accepts(request))

        raise await self._endpoint.explain(status, {}, body, accepts)

    def _note(self, batch: _Batch) -> None:
        if self._folder is not None:
            note = {"batch_id": batch.batch_id, "base_url": self.config.base_url, "submitted": time.time()}
            write_json(self._folder / f"{batch.name}.json", note)

    def _forget(self, batch: _Batch) -> None:
        """The next run shall not find this batch."""
        if self._folder is not None:
            for suffix in (".json", ".requests"):
                (self._folder / f"{batch.name}{suffix}").unlink(missing_ok=True)


def _is_answer(row: dict[str, Any]) -> bool:
    response = row.get("response")
    body = response.get("body") if isinstance(response, dict) and response.get("status_code") == 200 else None
    return isinstance(body, dict) and bool(body.get("choices"))
