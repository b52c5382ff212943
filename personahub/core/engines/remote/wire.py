"""Fast POST requests to one URL, by aiohttp's connections without its session.

For every call, `ClientSession` builds a request, a response, a payload, a writer, two timers and, before
Python 3.12, a task. That is more work than everything else that happens to a completion. `Wire` builds the
request head once and leaves connecting (TLS, name lookup, keep-alive) and parsing (chunks, compression,
broken framing) to aiohttp. Use the session for an endpoint behind a proxy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType

import aiohttp
import yarl
from aiohttp.client_reqrep import ClientRequest
from aiohttp.http_exceptions import HttpProcessingError

_START = 65_536  # bytes that are kept of a body that is too large


class ReplyTooLarge(Exception):
    """The body of a reply exceeds the limit. `start` is its beginning."""

    def __init__(self, status: int, headers: Mapping[str, str], start: bytes) -> None:
        super().__init__("the body of the reply is too large")
        self.status = status
        self.headers = headers
        self.start = start


async def read_body(stream: aiohttp.StreamReader, limit: int, status: int, headers: Mapping[str, str]) -> bytes:
    """Read a body to its end. The limit counts decompressed bytes.

    Raises:
        ReplyTooLarge: the body has more than `limit` bytes. The rest of it is not read.
    """
    parts: list[bytes] = []
    size = 0
    while part := await stream.readany():
        parts.append(part)
        size += len(part)
        if size > limit:
            raise ReplyTooLarge(status, headers, b"".join(parts)[:_START])
    return parts[0] if len(parts) == 1 else b"".join(parts)


class Wire:
    """Sends POST requests to one URL.

    Args:
        session: provides the connector and the headers. Its owner closes it.
        url: the URL of all requests.
        timeout: `total` covers one request from its first byte to the last byte of its reply.
    """

    def __init__(self, session: aiohttp.ClientSession, url: yarl.URL, timeout: aiohttp.ClientTimeout) -> None:
        assert session.connector is not None  # noqa: S101
        self._connector = session.connector
        self._timeout = timeout
        self._deadline = Deadline(timeout.total or 0)
        # Represents all requests when a connection is looked up, and provides their common head.
        headers = {**session.headers, "Content-Type": "application/json"}
        self._request = ClientRequest("POST", url, headers=headers, loop=asyncio.get_running_loop(), session=session)
        self._request.headers.pop("Content-Length", None)
        lines = [f"POST {url.raw_path_qs} HTTP/1.1", *(f"{k}: {v}" for k, v in self._request.headers.items())]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode()

    async def post(self, body: bytes, limit: int) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request and return the status, headers and body of its reply.

        Raises:
            ReplyTooLarge: the body has more than `limit` bytes.
            aiohttp.ClientError: no connection, or no complete reply.
            TimeoutError: no complete reply in time.
        """
        with self._deadline:
            try:
                connection = await self._connector.connect(self._request, [], self._timeout)
            except TimeoutError:
                raise aiohttp.ConnectionTimeoutError(f"no connection to {self._request.url.host} in time") from None
            try:
                protocol = connection.protocol
                assert protocol is not None  # noqa: S101
                assert protocol.transport is not None  # noqa: S101
                protocol.set_response_params(read_until_eof=True)
                protocol.transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
                while True:
                    message, payload = await protocol.read()
                    if message.code >= 200:
                        break
                reply = await read_body(payload, limit, message.code, message.headers)
            except HttpProcessingError as error:
                connection.close()
                raise aiohttp.ClientPayloadError(f"not HTTP: {error.message}") from None
            except BaseException:
                connection.close()
                raise
            connection.release()  # aiohttp decides from the headers whether it stays open
            return message.code, message.headers, reply


class Deadline:
    """One timeout for many tasks, with a single timer.

    Use it as a context manager around a task's request.

    Args:
        seconds: after this time a task is interrupted with `TimeoutError`.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task, float] = {}  # in order, because all have the same timeout
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        loop = asyncio.get_running_loop()
        self._ends[task] = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._interrupt)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        in_time = self._ends.pop(task, None) is not None
        if not in_time and kind is asyncio.CancelledError and task.uncancel() == 0:
            raise TimeoutError from error

    def _interrupt(self) -> None:
        loop = asyncio.get_running_loop()
        while self._ends:
            task, end = next(iter(self._ends.items()))
            if end > loop.time():
                self._timer = loop.call_at(end, self._interrupt)
                return
            del self._ends[task]
            task.cancel()
        self._timer = None
