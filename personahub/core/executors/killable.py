"""A child process that answers requests over pipes and has a deadline.

    process = KillableProcess([sys.executable, "-m", "my_package.child"], env={}, stderr=subprocess.DEVNULL)
    if process.send({"question": 1}):
        answer = process.receive(timeout_s=5)        # None: too late, or the process has ended
    process.stop()

Requests and answers are frames: a 4-byte length and JSON. No signal handler, alarm or event loop is involved,
so this works from any thread.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, BinaryIO

HEADER = struct.Struct(">I")
_SLICE_S = 0.5
_PIECE_BYTES = 1 << 16


def frame(value: Any) -> bytes:
    """`value` as one frame. The JSON is ASCII, because a model may write lone surrogates."""
    body = json.dumps(value).encode()
    return HEADER.pack(len(body)) + body


def read_frame(stream: BinaryIO) -> Any | None:
    """Return the value of the next frame, or None at the end of the stream. For the child's side of the pipes."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    body = stream.read(size)
    return json.loads(body) if len(body) == size else None


class KillableProcess:
    """A child process and its pipes, used by one thread at a time.

    The arguments are those of `subprocess.Popen`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stderr: int | IO[bytes],
        cwd: str | None = None,
        start_new_session: bool = False,
    ) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - callers pass fixed commands
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            env=env,
            cwd=cwd,
            start_new_session=start_new_session,
        )
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._buffer = b""

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def exit_code(self, timeout_s: float) -> int:
        """Wait for the process to end; kill it when the time is up."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def send(self, value: Any) -> bool:
        """Write one frame. Returns False if the process has ended."""
        view = memoryview(frame(value))
        try:
            while view:
                view = view[self._requests.write(view) or 0 :]
        except (BrokenPipeError, ValueError):  # ValueError: another thread has called `stop`
            return False
        return True

    def receive(self, timeout_s: float) -> Any | None:
        """Read one frame. Returns None if the time is up or the process has ended."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()  # `select.select` accepts no descriptor above 1023
        poll.register(self._replies, select.POLLIN | select.POLLHUP)
        while True:
            if len(self._buffer) >= HEADER.size:
                end = HEADER.size + HEADER.unpack_from(self._buffer)[0]
                if len(self._buffer) >= end:
                    body, self._buffer = self._buffer[HEADER.size : end], self._buffer[end:]
                    return json.loads(body)
            before = time.monotonic()
            if before >= deadline:
                return None
            wait_s = min(_SLICE_S, deadline - before)
            if not poll.poll(wait_s * 1000):
                # Much longer than requested: this process was suspended (Ctrl-Z), and most likely the child too.
                suspended_s = time.monotonic() - before - wait_s
                deadline += suspended_s if suspended_s > 1 else 0
                continue
            piece = os.read(self._replies.fileno(), _PIECE_BYTES)
            if not piece:
                return None
            self._buffer += piece

    def stop(self) -> None:
        """Kill the process and wait for it. Safe to call twice."""
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._replies.close()
