"""Runs model-written programs in a sandbox.

The harness never runs them anywhere else.

    with Sandbox(Limits(timeout_s=10), workers=2) as sandbox:
        for result in sandbox.run(["print(6 * 7)", ...]):       # in order
            result.status, result.output                        # "ok", "42\\n"

A program can read Python's standard library, sympy and mpmath, and no other file: bubblewrap
(https://github.com/containers/bubblewrap) gives it a read-only root without /home, /proc, /dev or /tmp, an
unprivileged user and no network. Inside, `synth.sandbox.server` adds namespaces, limits and a system call
filter for each program. A program cannot start processes or threads.

This needs the system package `bubblewrap` (the PyPI package of that name is unrelated) and a kernel that lets
unprivileged users create namespaces. Without bubblewrap, the PyPI package sandlock is used (Linux 6.12 or
newer): the same server confines itself with Landlock instead of getting its own root. Programs then have no
namespaces: they can find out whether a file exists outside, and only the filter keeps them away from other
processes. Without either package, `Sandbox` raises an error.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import shutil
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from personahub.core.config import FrozenModel
from personahub.core.errors import UserError
from personahub.core.executors.killable import KillableProcess

_SERVER = Path(__file__).with_name("server.py")
_PACKAGES = ("sympy", "mpmath")
_START_S = 60.0  # importing sympy on a busy machine
_GRACE_S = 10.0  # beyond a program's own time limit; then the server itself does not respond

Status = Literal["ok", "error", "timeout", "output_limit"]


class Limits(FrozenModel):
    """Limits on one program."""

    timeout_s: float = Field(default=10.0, gt=0, le=3600, description="Wall seconds.")
    memory_mb: int = Field(default=1024, ge=256, description="Address space; sympy alone takes about 200 MB.")
    output_kb: int = Field(default=64, gt=0, le=16384, description="Limit on what it prints.")


@dataclass(frozen=True)
class ProgramResult:
    """The result of one program.

    Attributes:
        status: `ok` (exit code 0), `error`, `timeout`, or `output_limit`.
        output: what it printed, cut off at the limit.
        detail: the last line that it wrote to stderr, such as `ZeroDivisionError: division by zero`.
        seconds: wall time.
    """

    status: Status
    output: str
    detail: str
    seconds: float


class Sandbox:
    """A pool of sandboxed servers that run programs.

    Use it as a context manager, from any thread.

    Args:
        limits: limits on each program.
        workers: number of programs that run at the same time.

    Raises:
        UserError: this machine has no sandbox. The message says what to install or allow.
    """

    def __init__(self, limits: Limits | None = None, workers: int = 1) -> None:
        self._limits = limits or Limits()
        self._workers = workers
        self._idle: queue.SimpleQueue[_Server] = queue.SimpleQueue()
        self._servers = [_Server(_command(), self._limits) for _ in range(workers)]
        for server in self._servers:
            self._idle.put(server)
        # Servers die with the thread that started them (see _command), so these threads outlive each call.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="sandbox")
        try:
            self._threads.submit(self._run, "").result()  # fail before any other work if programs cannot run
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, programs: Iterable[str]) -> Iterator[ProgramResult]:
        """Run programs and yield their results in order, with bounded read-ahead."""
        waiting: deque[Future[ProgramResult]] = deque()
        for program in programs:
            waiting.append(self._threads.submit(self._run, program))
            if len(waiting) > 4 * self._workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def close(self) -> None:
        """End all servers. Programs that have not started yet do not run."""
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
    """A fork-server in a sandbox. Used by one thread at a time and started when first needed."""

    def __init__(self, command: list[str], limits: Limits) -> None:
        self._command = command
        self._limits = limits
        self._process: KillableProcess | None = None

    def run(self, program: str) -> ProgramResult:
        request = {
            "code": program,
            "timeout_s": self._limits.timeout_s,
            "memory_bytes": self._limits.memory_mb << 20,
            "output_bytes": self._limits.output_kb << 10,
        }
        for _ in range(2):  # a lost server was most likely killed for lack of memory or by a user, not by the program
            if self._process is None or not self._process.alive:
                self._process = self._start()
            reply = self._process.receive(self._limits.timeout_s + _GRACE_S) if self._process.send(request) else None
            if reply is not None:
                if reply["status"] == "refused":
                    raise UserError(_unusable(reply["detail"]))
                return ProgramResult(**reply)
            self.stop()
        return ProgramResult("error", "", "the sandbox server was lost twice", self._limits.timeout_s)

    def stop(self) -> None:
        """Kill the server and wait for it. Safe to call twice."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def _start(self) -> KillableProcess:
        self.stop()
        with tempfile.TemporaryFile() as errors:
            process = KillableProcess(self._command, stderr=errors, env={}, cwd="/", start_new_session=True)
            if process.receive(_START_S) != {"status": "ready"}:
                process.stop()
                errors.seek(0)
                raise UserError(_unusable(errors.read().decode("utf-8", "replace").strip().rpartition("\n")[2]))
        return process


def _unusable(reason: str) -> str:
    return (
        f"programs cannot run in the sandbox on this machine ({reason or 'it exited without a message'}). Allow"
        " unprivileged users to create namespaces (sysctl kernel.unprivileged_userns_clone=1,"
        " user.max_user_namespaces > 0, kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp"
        " profile that permits unshare), or verify without PoT samples. Programs never run outside of a sandbox"
    )


def _command() -> list[str]:
    """Returns the command line of a server. The server ends when the *thread* that started it ends."""
    bwrap = shutil.which("bwrap")
    if bwrap is not None:
        return _in_bubblewrap(bwrap)
    if importlib.util.find_spec("sandlock") is not None:
        return _in_sandlock()
    raise UserError(
        "model-written programs run only in a sandbox, and none is installed. Install the system package"
        " `bubblewrap` (apt-get install bubblewrap) or, on Linux 6.12 or newer, the Python package `sandlock`"
        " (pip install sandlock), or verify without PoT samples"
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
    """Programs may read the Python library, the system libraries and the packages. Sandlock is imported earlier."""
    python = os.path.realpath(sys.executable)
    sites = dict.fromkeys(str(Path(location).parent) for location in _locations("sandlock", *_PACKAGES))
    readable = [*_locations(*_PACKAGES), sysconfig.get_path("stdlib"), "/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache"]
    return [python, "-I", "-S", "-X", "utf8", str(_SERVER), os.pathsep.join(sites), *readable]


def _locations(*packages: str) -> list[str]:
    """Returns the folders of the `packages` that are installed."""
    specs = [importlib.util.find_spec(package) for package in packages]
    return [location for spec in specs if spec for location in spec.submodule_search_locations or []]
