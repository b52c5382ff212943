"""An endpoint that is away for a while, and for good: `personahub complete` against a server that comes and goes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from personahub.core.engines.remote.chat import Config

REQUESTS = 400


def start(folder: Path, base_url: str) -> subprocess.Popen[str]:
    lines = [
        {"custom_id": f"{i}", "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": "m", "messages": [{"role": "user", "content": f"number {i}"}]}}
        for i in range(REQUESTS)
    ]  # fmt: skip
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["complete", str(folder / "requests.jsonl"), str(folder / "out.jsonl"), "--base-url", base_url]
    command = [sys.executable, "-m", "personahub", *words, "--concurrency", "4"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "outage_s", [6, pytest.param(600, marks=[pytest.mark.slow, pytest.mark.timeout(900)], id="ten minutes")]
)
def test_a_run_waits_for_its_endpoint_and_goes_on(outage_s: float, chaos: Callable[..., Any], tmp_path: Path) -> None:
    server = chaos(latency_ms=50)
    process = start(tmp_path, server.base_url)
    deadline = time.monotonic() + 60
    while server.stats()["answered"] < 20:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    before = server.stats()["distinct"]
    assert before < REQUESTS
    server.stop()
    time.sleep(outage_s)
    assert process.poll() is None, "it did not wait"
    second = chaos(port=urlsplit(server.url).port)
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    assert f"{server.base_url}: no answer for " in said
    assert "Stopping the run loses nothing" in said
    assert "answers again, after" in said
    assert "Traceback" not in said
    replies = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [reply["custom_id"] for reply in replies] == [str(i) for i in range(REQUESTS)]
    assert all(reply["response"]["status_code"] == 200 for reply in replies)
    assert second.stats()["repeated"] == 0
    assert second.stats()["distinct"] <= REQUESTS - before + 4  # what was in flight is asked again


def test_ten_minutes_are_within_the_default_patience() -> None:
    """A try is due at the latest 72 s (the longest wait and its jitter) after the endpoint is back."""
    assert Config(kind="openai", model="m").max_outage_s >= 600 + 2 * 72
