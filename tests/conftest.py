"""Fixtures shared by all tests."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Folder of the real data sets (MATH, GSM8K, web text, personas); skips where it is missing."""
    spec = importlib.util.spec_from_file_location("local_data", REPOSITORY / "tests" / "local_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder: Path = module.local_data()
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}: set PERSONAHUB_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def vllm(repository: Path) -> ModuleType:
    """tests/vllm_server.py; skips if the server is not installed and no folder for it is set."""
    spec = importlib.util.spec_from_file_location("vllm_server", repository / "tests" / "vllm_server.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["vllm_server"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not module.is_installed() and "PERSONAHUB_VLLM" not in os.environ:
        pytest.skip("no vLLM server: run `python tests/vllm_server.py install`, or name a folder in PERSONAHUB_VLLM")
    module.install()
    return module


class ChaosServer:
    """A running `tests/chaos_server.py`; `options` are fields of its `Chaos`."""

    def __init__(self, certificate: Path | None = None, **options: Any) -> None:
        command = [sys.executable, str(REPOSITORY / "tests" / "chaos_server.py")]
        if certificate is not None:
            command += ["--certificate", str(certificate)]
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            command += [flag] if value is True else [flag, str(value)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self.base_url = f"{self.url}/v1"

    def stats(self) -> dict[str, Any]:
        """Returns the requests so far."""
        with urllib.request.urlopen(f"{self.url}/stats", timeout=10) as reply:
            return json.loads(reply.read())

    def change(self, *, anew: bool = True, **options: Any) -> None:
        """Behave differently from now on; `anew`: forget what was asked and the batches."""
        for path, content in (("chaos", options), ("reset", {})) if anew else (("chaos", options),):
            urllib.request.urlopen(f"{self.url}/{path}", data=json.dumps(content).encode(), timeout=10).close()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def chaos() -> Iterator[Callable[..., ChaosServer]]:
    """Starts chaos servers, which end with the test."""
    servers: list[ChaosServer] = []

    def start(**options: Any) -> ChaosServer:
        servers.append(ChaosServer(**options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
