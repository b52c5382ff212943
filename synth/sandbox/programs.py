"""Model-written programs, run where they can do no harm. There is no way to run them anywhere else.

    with Sandbox(Limits(timeout_s=10), workers=2) as sandbox:
        for result in sandbox.run(["print(6 * 7)", ...]):       # in order
            result.status, result.output                        # "ok", "42\\n"

A program finds Python's standard library, sympy and mpmath, and no other file: bubblewrap
(https://github.com/containers/bubblewrap) gives it a read-only root of its own without /home, /proc,
/dev or /tmp, as an ordinary user without network. `synth.sandbox.server`, which runs in there, adds
namespaces, limits and a system call filter per program. A program cannot start processes or threads.

The package `bubblewrap` of the system is needed (not the one on PyPI, which is something else), and
a kernel that lets ordinary users make namespaces. Where bubblewrap is not installed, the PyPI package
sandlock takes its place (Linux 6.12 or newer): the same server confines itself with Landlock instead of
getting a root of its own. Programs then have no namespaces: they can tell whether a file exists outside,
and the filter alone keeps them from other processes. Without either, `Sandbox` refuses.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import select
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from personahub.core.config import FrozenModel
from personahub.core.errors import UserError

_SERVER = Path(__file__).with_name("server.py")
_PACKAGES = ("sympy", "mpmath")
_START_S = 60.0  # importing sympy on a busy machine
_GRACE_S = 10.0  # beyond a program's own time, for a guard that does not answer
_LENGTH = struct.Struct(">I")

Status = Literal["ok", "error", "timeout", "output_limit"]


class Limits(FrozenModel):
    """What one program may use."""

    timeout_s: float = Field(default=10.0, gt=0, le=3600, description="Wall seconds.")
    memory_mb: int = Field(default=1024, ge=256, description="Address space; sympy alone takes some 200 MB.")
    output_kb: int = Field(default=64, gt=0, le=16384, description="What it may print.")


@dataclass(frozen=True)
class ProgramResult:
    """How a program ended.

    Attributes:
        status: `ok` (ended with code 0), `error`, `timeout`, or `output_limit`.
        output: what it printed, cut off at the limit.
        detail: the last line it wrote to stderr, such as `ZeroDivisionError: division by zero`.
        seconds: wall time.
    """

    status: Status
    output: str
    detail: str
    seconds: float


class Sandbox:
    """Worker processes that run programs. Use as a context manager, from any thread.

    Args:
        limits: for each program.
        workers: programs at a time.

    Raises:
        UserError: this machine has no sandbox; the message says what to install or allow.
    """

    def __init__(self, limits: Limits | None = None, workers: int = 1) -> None:
        self._limits = limits or Limits()
        self._workers = workers
        self._idle: queue.SimpleQueue[_Server] = queue.SimpleQueue()
        self._servers = [_Server(_command(), self._limits) for _ in range(workers)]
        for server in self._servers:
            self._idle.put(server)
        # Servers die with the thread that started them (see _command), so these threads live on between calls.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="sandbox")
        try:
            self._threads.submit(self._run, "").result()  # where programs cannot run, say so before any other work
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, programs: Iterable[str]) -> Iterator[ProgramResult]:
        """Run programs, read ahead by a bounded number, and yield their results in order."""
        waiting: deque[Future[ProgramResult]] = deque()
        for program in programs:
            waiting.append(self._threads.submit(self._run, program))
            if len(waiting) > 4 * self._workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def close(self) -> None:
        """End all workers; programs that have not started do not run."""
        self._threads.shutdown(cancel_futures=True)
        for server in self._servers:
            server.stop()

    def _run(self, program: str) -> ProgramResult:
        server = self._idle.get()
        try:
            return server.run(program)
        finally:
            self._idle.put(server)


class _Server:
    """One fork-server behind bubblewrap, used by one thread at a time, started when first needed."""

    def __init__(self, command: list[str], limits: Limits) -> None:
        self._command = command
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, program: str) -> ProgramResult:
        if self._process is None or self._process.poll() is not None:
            self._start()
        request = {
            "code": program,
            "timeout_s": self._limits.timeout_s,
            "memory_bytes": self._limits.memory_mb << 20,
            "output_bytes": self._limits.output_kb << 10,
        }
        reply = self._ask(request, self._limits.timeout_s + _GRACE_S)
        if reply is None:  # killed for want of memory or stopped by somebody, most likely, and not by the program
            self._start()
            reply = self._ask(request, self._limits.timeout_s + _GRACE_S)
        if reply is None:
            self.stop()
            return ProgramResult("error", "", "the sandbox was lost twice", self._limits.timeout_s)
        if reply["status"] == "refused":
            raise UserError(_unusable(reply["detail"]))
        return ProgramResult(**reply)

    def stop(self) -> None:
        """Kill and reap; safe to call twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]
            self._process = None

    def _start(self) -> None:
        self.stop()
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(  # noqa: S603  (fixed arguments; the programs travel over the pipe)
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                env={},
                cwd="/",
                start_new_session=True,
            )
            if self._read_reply(time.monotonic() + _START_S) != {"status": "ready"}:
                self.stop()
                errors.seek(0)
                raise UserError(_unusable(errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]))

    def _ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """The reply, or None when the server has ended or does not answer."""
        assert self._process is not None  # noqa: S101
        assert self._process.stdin is not None  # noqa: S101
        body = json.dumps(request).encode()
        data = memoryview(_LENGTH.pack(len(body)) + body)
        try:
            while data:
                data = data[self._process.stdin.write(data) or 0 :]
        except BrokenPipeError:
            return None
        return self._read_reply(time.monotonic() + timeout_s)

    def _read_reply(self, deadline: float) -> dict[str, Any] | None:
        header = self._read(_LENGTH.size, deadline)
        body = self._read(_LENGTH.unpack(header)[0], deadline) if header else b""
        return json.loads(body) if body else None

    def _read(self, size: int, deadline: float) -> bytes:
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        pipe = self._process.stdout.fileno()
        ready = select.poll()  # `select.select` takes no descriptor above 1023, and connections may have those below
        ready.register(pipe, select.POLLIN)
        data = b""
        while len(data) < size:
            if not ready.poll(1000 * max(deadline - time.monotonic(), 0)):
                return b""
            piece = os.read(pipe, size - len(data))
            if not piece:
                return b""
            data += piece
        return data


def _unusable(reason: str) -> str:
    return (
        f"programs cannot run in the sandbox here ({reason or 'it ended without a word'}): allow ordinary users to make"
        " namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces > 0,"
        " kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp profile that lets unshare pass),"
        " or verify without PoT samples. They never run outside of a sandbox"
    )


def _command() -> list[str]:
    """The command line of a server, which ends when the *thread* that started it does."""
    bwrap = shutil.which("bwrap")
    if bwrap is not None:
        return _in_bubblewrap(bwrap)
    if importlib.util.find_spec("sandlock") is not None:
        return _in_sandlock()
    raise UserError(
        "model-written programs run in a sandbox only, and there is none: install your system's package `bubblewrap`"
        " (apt-get install bubblewrap) or, on Linux 6.12 or newer, the Python package `sandlock` (pip install"
        " sandlock), or verify without PoT samples"
    )


def _in_bubblewrap(bwrap: str) -> list[str]:
    python = os.path.realpath(sys.executable)
    command = [bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    command += ["--uid", "65534", "--gid", "65534", "--hostname", "sandbox"]
    for source in dict.fromkeys(["/usr", sysconfig.get_path("stdlib"), python]):
        command += ["--ro-bind", source, source]
    for folder in ("/lib", "/lib64", "/lib32"):
        if os.path.islink(folder):  # noqa: PTH114  (Path.readlink would make the target absolute)
            command += ["--symlink", os.readlink(folder), folder]  # noqa: PTH115
        elif Path(folder).is_dir():
            command += ["--ro-bind", folder, folder]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for location in _locations(*_PACKAGES):
        command += ["--ro-bind", location, f"/packages/{Path(location).name}"]
    command += ["--ro-bind", str(_SERVER), "/sandbox_server.py", "--remount-ro", "/", "--chdir", "/"]
    return [*command, python, "-I", "-S", "-X", "utf8", "/sandbox_server.py", "/packages"]


def _in_sandlock() -> list[str]:
    """What may be read is the library of Python, that of the system and the packages; sandlock's are read before."""
    python = os.path.realpath(sys.executable)
    sites = dict.fromkeys(str(Path(location).parent) for location in _locations("sandlock", *_PACKAGES))
    readable = [*_locations(*_PACKAGES), sysconfig.get_path("stdlib"), "/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache"]
    return [python, "-I", "-S", "-X", "utf8", str(_SERVER), os.pathsep.join(sites), *readable]


def _locations(*packages: str) -> list[str]:
    """Folders of those `packages` that are installed."""
    specs = [importlib.util.find_spec(package) for package in packages]
    return [location for spec in specs if spec for location in spec.submodule_search_locations or []]
