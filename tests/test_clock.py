"""A clock that jumps by days, forwards and backwards, in all processes of a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import open_artifact

JUMPING = """
import time
_real, _begun = time.time, time.monotonic()
def _jumping():
    return _real() + (86_400, -86_400, 3_600)[int((time.monotonic() - _begun) / 0.2) % 3]
time.time = _jumping
time.time_ns = lambda: int(_jumping() * 1e9)
"""


def personahub(folder: Path, *words: str, jumping: bool) -> subprocess.CompletedProcess[str]:
    """Returns the command with `time.time` unchanged or replaced, also in child processes."""
    environment = dict(os.environ)
    if jumping:
        (folder / "clock").mkdir(exist_ok=True)
        (folder / "clock" / "sitecustomize.py").write_text(JUMPING)
        path = [str(folder / "clock"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(path)
    command = [sys.executable, "-m", "personahub", *words]
    root = Path(__file__).parents[1]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=250)


def test_rate_limits_and_retries_go_by_another_clock(chaos: Callable[..., Any], tmp_path: Path) -> None:
    server = chaos(latency_ms=20, rate_500=0.1, window_after=20, window_s=1, retry_after=0.5)
    rows = [
        {"custom_id": f"{i}", "method": "POST", "url": "/v1/chat/completions", "body": {
            "model": "m", "messages": [{"role": "user", "content": f"number {i}"}]}}
        for i in range(80)
    ]  # fmt: skip
    (tmp_path / "requests.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["complete", str(tmp_path / "requests.jsonl"), str(tmp_path / "out.jsonl"), "--base-url", server.base_url]
    started = time.monotonic()
    result = personahub(tmp_path, *words, "--concurrency", "8", "--rpm", "2400", jumping=True)
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - started < 60
    replies = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [reply["custom_id"] for reply in replies] == [row["custom_id"] for row in rows]


@pytest.mark.slow
def test_records_do_not_depend_on_the_clock(tmp_path: Path) -> None:
    words = ["run", "configs/quickstart.yaml", "--only", "good_personas", "stages.sources.config.limit=16"]
    words += ["stages.related_personas.config.max_new=40", "stages.good_personas.execution.executor=process"]
    for name, jumping in (("calm", False), ("jumping", True)):
        result = personahub(tmp_path, *words, "--runs", str(tmp_path / name), jumping=jumping)
        assert result.returncode == 0, result.stderr
    for stage in ("sources", "first_personas", "related_personas", "good_personas"):
        calm, shifted = (open_artifact(tmp_path / name / "quickstart" / stage) for name in ("calm", "jumping"))
        assert list(calm.rows()) == list(shifted.rows())
        assert shifted.manifest.seconds >= 0
