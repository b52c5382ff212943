"""Engine for OpenAI-compatible Batch APIs.

They cost half and answer within a day.

    engines:
      teacher: {kind: openai_batch, model: gpt-4o-2024-08-06, price: {input: 2.5, output: 10}}

`price` is the price of single requests. Half of it is billed, and `plan` shows half of it.

Requests are collected until none has arrived for `settle_s` or a file is full. They are then uploaded and
submitted as one batch, which is polled until it is done. A batch has a unique name (a hash of its requests
and the time), which is stored with its id in `journal/batches/` and sent along as metadata. After a kill, the same command therefore finds the batch and
waits for it, even if the kill came between its submission and the note of its id. Requests that the provider
did not process are submitted again, a few times. An error that does not depend on the prompt (no credit,
unknown model, invalid parameter) stops the run; the next run sends these requests again.

`concurrency` is the number of requests that wait at the same time. Each takes about 10 KB of memory. If a run
is stopped, its batches continue at the provider, and a message says how to cancel them.
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
from personahub.core.engines.remote.chat import Bodies, ChatConfig, Probes
from personahub.core.engines.remote.endpoint import Endpoint
from personahub.core.engines.remote.pacing import retry_wait
from personahub.core.engines.remote.responses import Retry, one_line, read_completions, status_within
from personahub.core.files import replacing, write_json

_TRIES = 4  # per request, each in another batch
_FINAL = frozenset({"completed", "expired", "cancelled", "failed"})


class Config(ChatConfig):
    """Configuration of the `openai_batch` engine. Rate limits do not apply to batches."""

    kind: str = "openai_batch"
    concurrency: Annotated[int, EXECUTION] = Field(
        default=10_000, gt=0, description="Requests that wait at the same time."
    )
    max_requests: Annotated[int, EXECUTION] = Field(default=50_000, gt=0, description="The provider's limit per file.")
    max_bytes: Annotated[int, EXECUTION] = Field(
        default=200_000_000, gt=0, description="The provider's limit per file."
    )
    settle_s: Annotated[float, EXECUTION] = Field(
        default=5.0, ge=0, description="Submit after this time without a new request."
    )
    poll_s: Annotated[float, EXECUTION] = Field(
        default=30.0, gt=0, description="Time between two status checks of a batch."
    )

    @property
    def billed(self) -> Price | None:
        """Half the price of single requests."""
        return self.price and self.price.halved()


def open_engine(config: Config) -> OpenAIBatchEngine:
    """Open the engine without sending a request.

    Raises:
        EngineUnavailable: the API key is not in the environment.
    """
    return OpenAIBatchEngine(config)


class _Resource(BaseModel):
    """A file or a batch at the provider: the fields that are used."""

    id: str
    metadata: Any = None


class _Page(BaseModel):
    """A page of the account's batches."""

    data: list[_Resource]
    has_more: bool | None = None


class _State(BaseModel):
    """The status of a batch."""

    status: str
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Any = None


M = TypeVar("M", bound=BaseModel)


@dataclass(eq=False)
class _Batch:
    """Requests that are submitted together, by custom id. `rows` has their results once the batch has ended."""

    name: str
    ids: set[str]
    batch_id: str | None = None
    earlier: bool = False  # from an earlier run: the user may have fixed since then what failed in it
    rows: dict[str, dict[str, Any]] | None = None
    answered: bool = False  # at least one of them
    work: asyncio.Task[None] | None = field(default=None, repr=False)


class OpenAIBatchEngine(Engine[Config]):
    """Collects requests into batches; see the module docstring."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._endpoint = Endpoint(config)
        self._bodies = Bodies(config)
        self._probes = Probes(self._endpoint, self._bodies)
        self._answered = False  # whether this run has got any answer
        self._folder: Path | None = None
        self._collected: dict[str, bytes] = {}  # lines by custom id
        self._batch_of: dict[str, _Batch] = {}  # the latest batch of each custom id
        self._collector: asyncio.Task[None] | None = None

    def keep_state_in(self, folder: Path) -> None:
        """Keep notes on batches in `folder`. Continue the batches that an earlier run noted there."""
        self._folder = folder / "batches"
        notes = []
        for file in self._folder.glob("*.requests"):
            note = file.with_suffix(".json")
            known = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
            if known.get("base_url", self.config.base_url) != self.config.base_url:
                continue  # from another provider
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
        wasted, reason = (0, 0), ""
        for _ in range(_TRIES):
            batch = await self._collect(custom_id, body)
            if batch.work is None:
                batch.work = asyncio.create_task(self._run_batch(batch))
            await asyncio.shield(batch.work)
            if self._batch_of.get(custom_id) is batch:  # otherwise another task with the same request was faster
                del self._batch_of[custom_id]  # a batch stays in memory until all its results are read
            try:
                (completion,) = await self._parse_result(batch, custom_id, request)
            except EngineUnavailable as failure:
                if not batch.earlier:
                    raise
                reason = str(failure)
            except Retry as failure:
                paid = failure.paid or (0, 0)
                wasted = (wasted[0] + paid[0], wasted[1] + paid[1])
                reason = failure.detail
            else:
                return completion.after_waste(wasted) if wasted != (0, 0) else completion
        if not self._answered:
            raise EngineUnavailable(f"{self.config.base_url}: no request was answered in {_TRIES} batches: {reason}")
        raise RequestRefused("server_error", f"in {_TRIES} batches: {reason}", wasted)

    async def close(self) -> None:
        running = {batch for batch in self._batch_of.values() if batch.batch_id and batch.work and batch.rows is None}
        for task in [self._collector, *(batch.work for batch in running)]:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for batch in running:
            print(
                f"{batch.batch_id} continues at {self.config.base_url}; run the same command again to fetch it. "
                f"To cancel it: POST {self.config.base_url}/batches/{batch.batch_id}/cancel",
                file=sys.stderr,
            )
        await self._endpoint.close()

    async def _collect(self, custom_id: str, body: bytes) -> _Batch:
        """Return the batch of a request. It is an earlier one, or the next one after its submission."""
        line = b'{"custom_id": "%s", "method": "POST", "url": "/v1/chat/completions", "body": %s}\n'
        while (batch := self._batch_of.get(custom_id)) is None:
            if custom_id not in self._collected:
                self._collected[custom_id] = line % (custom_id.encode(), body)
            if self._collector is None or self._collector.done():
                self._collector = asyncio.create_task(self._make_batch())
            await asyncio.shield(self._collector)
        return batch

    async def _make_batch(self) -> None:
        """Wait until no more requests arrive, then fill a batch up to the file limit."""
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
        batch.work = asyncio.create_task(self._run_batch(batch, b"".join(lines.values())))

    async def _run_batch(self, batch: _Batch, content: bytes | None = None) -> None:
        """Submit the batch unless it was submitted, wait for its end, fetch the results."""
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
        while (state := self._parse(_State, path, await self._call("GET", path))).status not in _FINAL:
            await asyncio.sleep(wait)
            wait = min(self.config.poll_s, 1.5 * wait)
        if state.status in ("failed", "cancelled") and not state.output_file_id:
            self._forget(batch)
            errors = self._endpoint.redact(one_line(json.dumps(state.errors or {})))
            raise EngineUnavailable(
                f"{self.config.base_url}: {batch.batch_id} {state.status}: {errors}. Run again to resubmit its requests"
            )
        rows: dict[str, dict[str, Any]] = {}
        for file_id in (state.output_file_id, state.error_file_id):
            if file_id:
                rows |= await self._rows(f"files/{file_id}/content", len(batch.ids))
        batch.answered = any(_is_answer(row) for row in rows.values())
        self._answered |= batch.answered
        batch.rows = rows

    async def _rows(self, path: str, count: int) -> dict[str, dict[str, Any]]:
        """Fetch the rows of an output file, by custom id."""
        rows = {}
        for line in (await self._call("GET", path, replies=count)).splitlines():
            if line.strip():
                try:
                    row = json.loads(line)
                    rows[row["custom_id"]] = row
                except (ValueError, KeyError, TypeError, RecursionError):
                    raise self._unreadable(path, line) from None
        return rows

    def _parse(self, shape: type[M], path: str, reply: bytes) -> M:
        """Parse a reply of the Batch API.

        Raises:
            EngineUnavailable: the reply is something else, such as the login page of a proxy.
        """
        try:
            return shape.model_validate_json(reply)
        except ValidationError:
            raise self._unreadable(path, reply) from None

    def _unreadable(self, path: str, reply: bytes) -> EngineUnavailable:
        url, text = f"{self.config.base_url}/{path}", self._endpoint.redact(one_line(reply))
        return EngineUnavailable(f"{url}: not a reply of the Batch API: {text}. Check base_url; run again to resume")

    async def _submit(self, name: str, content: bytes) -> str:
        def form() -> aiohttp.FormData:
            data = aiohttp.FormData()
            data.add_field("purpose", "batch")
            data.add_field("file", content, filename=f"{name}.jsonl", content_type="application/jsonl")
            return data

        uploaded = self._parse(_Resource, "files", await self._call("POST", "files", form))
        order = {
            "input_file_id": uploaded.id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"personahub": name},
        }
        body = json.dumps(order).encode()
        # A try whose connection was lost may have succeeded: look for the batch before the next try.
        created = await self._call("POST", "batches", lambda: body, before_retry=lambda: self._find(name))
        return created if isinstance(created, str) else self._parse(_Resource, "batches", created).id

    async def _find(self, name: str) -> str | None:
        """Find the id of the batch that was submitted under this name."""
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
        before_retry: Callable[[], Any] | None = None,
        replies: int = 1,
    ) -> Any:
        """Return the body of a successful reply, or what `before_retry` finds.

        Raises:
            EngineUnavailable: the call failed for `max_outage_s`, or it can never succeed.
        """
        url = yarl.URL(f"{self.config.base_url}/{path}")
        started, reply = time.monotonic(), b""
        for tries in itertools.count(1):
            try:
                status, headers, reply = await self._endpoint.post(data() if data else None, url, method, replies)
                failure = None if status == 200 else await self._endpoint.explain(status, headers, reply)
            except (Retry, RequestRefused) as error:
                failure = error
            if failure is None:
                return reply
            if not isinstance(failure, Retry):
                raise EngineUnavailable(str(failure)) from None
            wait = retry_wait(tries, failure.wait_s)
            if time.monotonic() - started + wait > self.config.max_outage_s:
                raise EngineUnavailable(f"{failure.detail}. Run again later to resume") from None
            await asyncio.sleep(wait)
            if before_retry is not None and (found := await before_retry()) is not None:
                return found

    async def _parse_result(self, batch: _Batch, custom_id: str, request: Request) -> list[Completion]:
        """Parse the result of one request.

        Raises:
            Retry: there is no result, but another batch may give one.
            RequestRefused: the request can never be answered.
            EngineUnavailable: no request can be answered.
        """
        assert batch.rows is not None  # noqa: S101
        row = batch.rows.get(custom_id)
        if row is None:
            raise Retry(f"{batch.batch_id} ended without a result for this request")
        response = row.get("response")
        if not isinstance(response, dict):
            raise Retry(self._endpoint.redact(one_line(json.dumps(row.get("error")))))
        body, status = json.dumps(response.get("body")).encode(), response.get("status_code")
        if len(body) > self.config.max_reply_bytes:
            raise RequestRefused("reply_too_large", f"the reply has {len(body):,} bytes; see max_reply_bytes")
        if status == 200:
            try:
                return read_completions(
                    body, self.config.model, len(request.messages_json), note=self._endpoint.note_once
                )
            except (Retry, RequestRefused, EngineUnavailable) as failure:
                status = status_within(body)
                if status == 200:
                    raise self._endpoint.redacted(failure) from None
        status = status if isinstance(status, int) else 500

        async def accepts() -> bool:  # if so, the prompt was refused and not the parameters
            return batch.answered or (not batch.earlier and await self._probes.accepts(request))

        raise await self._endpoint.explain(status, {}, body, accepts)

    def _note(self, batch: _Batch) -> None:
        if self._folder is not None:
            note = {"batch_id": batch.batch_id, "base_url": self.config.base_url, "submitted": time.time()}
            write_json(self._folder / f"{batch.name}.json", note)

    def _forget(self, batch: _Batch) -> None:
        """Delete the notes on this batch, so that the next run does not find it."""
        if self._folder is not None:
            for suffix in (".json", ".requests"):
                (self._folder / f"{batch.name}{suffix}").unlink(missing_ok=True)


def _is_answer(row: dict[str, Any]) -> bool:
    response = row.get("response")
    body = response.get("body") if isinstance(response, dict) and response.get("status_code") == 200 else None
    return isinstance(body, dict) and bool(body.get("choices"))
