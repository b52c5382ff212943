"""`kill -9` of the whole process group at random moments, against a real HTTP endpoint.

After each kill the same command is given again. In the end every data artifact has to equal that
of an undisturbed run, record for record, and the endpoint must not have been asked for anything
twice beyond what was in flight at a kill.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from personahub.core.artifact import Artifact, open_artifact

CONCURRENCY = 8
DATA_STAGES = [
    "sources",
    "first_personas",
    "related_personas",
    "good_personas",
    "personas",
    "problems",
    "solutions",
    "verified",
    "math",
    "clean",
    "data",
]


@contextmanager
def endpoint() -> Iterator[str]:
    """The simulated teacher as a server of its own; yields its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "synth.simulated.serve", "--port", str(port), "--latency-ms", "5"]
    server = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                get(f"http://127.0.0.1:{port}/stats")
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.loads(reply.read())


def command(runs: Path, experiment: str, url: str, only: str, *overrides: str) -> list[str]:
    teacher = f"{{kind: openai, model: simulated-teacher, base_url: '{url}/v1', concurrency: {CONCURRENCY}}}"
    words = ["run", "configs/quickstart.yaml", f"experiment={experiment}", f"engines.teacher={teacher}"]
    return [sys.executable, "-m", "personahub", *words, "--only", only, "--runs", str(runs), *overrides]


def storm(
    words: list[str], root: Path, kills: int, generator: random.Random, longest_s: float, done: Callable[[], float]
) -> int:
    """Run `words`, killing its process group after random times, until it ends by itself; the kills dealt.

    `done` tells how much of it is finished. Times are up to `longest_s` at first. A run that is further on than the kills is killed sooner, and one
    that falls behind is let go on for longer: how fast the machine is does not decide how many there are.
    """
    dealt = 0
    while True:
        process = subprocess.Popen(words, cwd=root, start_new_session=True, stdout=subprocess.DEVNULL)
        try:
            wait = generator.uniform(0.5, longest_s) if dealt < kills else None
            code = process.wait(timeout=wait)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            dealt += 1
            longest_s = max(1.0, longest_s * (0.5 if done() > dealt / kills else 1.3))
            continue
        assert code == 0
        return dealt


def share_done(stormy: Path, calm: Path) -> float:
    """Finished stages of a run, as a share of those of another, which is whole."""
    done, every = (len(list(folder.glob("*/manifest.json"))) for folder in (stormy, calm))
    return done / every


def contents(artifact: Artifact) -> dict[str, Any]:
    """All that a disturbed run has to reproduce."""
    manifest = artifact.manifest
    return {
        "rows": list(artifact.rows()),
        "rejected": list(artifact.rejected()),
        "counts": manifest.counts,
        "usage": manifest.usage,
        "shards": manifest.shards,
        "summary": manifest.summary,
        "fingerprint": manifest.fingerprint,
    }


def losses(artifact: Artifact) -> dict[int, float]:
    """Loss by step; steps that were taken again after a kill count as they were taken last."""
    lines = (artifact.path / "metrics.jsonl").read_text().splitlines()
    return {row["step"]: row["train/loss"] for row in map(json.loads, lines)}


def check_data_equal(runs: Path, a: str, b: str, stages: Sequence[str] = DATA_STAGES) -> None:
    for stage in stages:
        calm, stormy = (contents(open_artifact(runs / name / stage)) for name in (a, b))
        for part, value in calm.items():
            assert stormy[part] == value, f"{stage}: {part} differs"
    assert not list((runs / b).rglob(".*.tmp"))


def test_data_survives_kills(tmp_path: Path, repository: Path) -> None:
    small = (
        "seed=3",
        "stages.sources.config.limit=24",
        "stages.first_personas.config.modes=[read]",
        "stages.related_personas.config.max_new=100",
        "stages.data.config.test_problems=30",
    )
    with endpoint() as url:
        calm = command(tmp_path, "calm", url, "data", *small)
        assert subprocess.run(calm, cwd=repository, stdout=subprocess.DEVNULL).returncode == 0
        asked = get(f"{url}/stats")
        assert asked["repeated"] == 0
        words = command(tmp_path, "stormy", url, "data", *small)
        done = partial(share_done, tmp_path / "stormy", tmp_path / "calm")
        kills = storm(words, repository, 6, random.Random(11), 6.0, done)
        assert kills >= 3
        after = get(f"{url}/stats")
    check_data_equal(tmp_path, "calm", "stormy")
    assert after["distinct"] == asked["distinct"]
    assert after["requests"] - 2 * asked["requests"] <= kills * CONCURRENCY


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_loop_survives_twenty_kills(tmp_path: Path, repository: Path) -> None:
    small = (
        "seed=5",
        "stages.sources.config.limit=32",
        "stages.related_personas.config.max_new=400",
        "stages.data.config.test_problems=60",
        "stages.model.config.sft.max_steps=160",
        "stages.model.config.sft.warmup_steps=20",
        "stages.model.config.sft.logging_steps=10",
        "stages.model.config.sft.save_steps=20",
        "stages.after.config.limit=60",
        "stages.before.config.limit=60",
    )
    with endpoint() as url:
        calm = command(tmp_path, "calm", url, "report", *small)
        assert subprocess.run(calm, cwd=repository, stdout=subprocess.DEVNULL).returncode == 0
        asked = get(f"{url}/stats")
        words = command(tmp_path, "stormy", url, "report", *small)
        done = partial(share_done, tmp_path / "stormy", tmp_path / "calm")
        kills = storm(words, repository, 20, random.Random(5), 12.0, done)
        after = get(f"{url}/stats")
    assert kills == 20, f"the run was over after {kills} kills"
    check_data_equal(tmp_path, "calm", "stormy")
    assert after["distinct"] == asked["distinct"]
    assert after["requests"] - 2 * asked["requests"] <= kills * CONCURRENCY

    similarity = [contents(open_artifact(tmp_path / name / "similarity")) for name in ("calm", "stormy")]
    assert similarity[0] == similarity[1]
    calm_losses, stormy_losses = (losses(open_artifact(tmp_path / name / "model")) for name in ("calm", "stormy"))
    assert len(calm_losses) == 16
    assert stormy_losses == pytest.approx(calm_losses, rel=0.02)
    graded = [open_artifact(tmp_path / name / "after") for name in ("calm", "stormy")]
    assert [row["id"] for row in graded[0].rows()] == [row["id"] for row in graded[1].rows()]
    summaries = [json.loads((tmp_path / name / "report" / "summary.json").read_text()) for name in ("calm", "stormy")]
    counts = [
        [
            (stage["stage"], stage["rows_in"], stage["rows_out"], stage["rejected"], stage["requests"])
            for stage in summary["stages"]
        ]
        for summary in summaries
    ]
    assert counts[0] == counts[1]
    assert not list((tmp_path / "stormy").rglob(".*.tmp"))


def test_an_interrupt_ends_in_one_line_and_the_same_command_goes_on(tmp_path: Path, repository: Path) -> None:
    """Ctrl-C reaches the whole process group, a stage that is still importing included."""
    words = [sys.executable, "-m", "personahub", "run", "configs/quickstart.yaml", "--runs", str(tmp_path)]
    words += ["--only", "good_personas"]
    interrupted = 0
    for begun, wait in (
        ("sources", 0.0),
        ("first_personas", 0.1),
        ("related_personas", 0.3),
        ("good_personas", 0.6),
        ("", 0),
    ):
        process = subprocess.Popen(
            words, cwd=repository, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if begun:
            while not (tmp_path / "quickstart" / begun / "stage.json").exists() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(wait)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
        assert "Traceback" not in said or "Exception ignored" in said  # Python's own word on a callback
        if process.returncode == 130:
            interrupted += "stopped; nothing is lost. To resume: personahub run" in said
            assert "stopped" in said
        else:
            assert process.returncode == 0, said
    assert interrupted
    assert open_artifact(tmp_path / "quickstart" / "good_personas").num_rows
