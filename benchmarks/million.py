"""Make a million problems from web texts to SFT data, with two kills: rates, memory, disk, and the forecast.

    python -m benchmarks.million --texts TEXTS.jsonl [key=value ...]

The simulated teacher answers instantly, so every second is the harness's own. The whole process group is killed
(SIGKILL) in the middle of `problems` and of `solutions`, and the same command continues. At the end, every stage
is checked shard by shard: each input row is either in the output or rejected.

The seconds of a stage are those of its last process, without the work of a killed one. `forecast` compares the
prediction of `personahub plan --pilot`, after a run on `--pilot-texts` of the texts, with the actual values.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from personahub.core.artifact import Artifact, open_artifact
from tests.local_data import local_data, require_files

CONFIG = Path(__file__).with_name("million.yaml")
KILL_IN = ("problems", "solutions")
ORDER = ("sources", "first_personas", "related_personas", "good_personas", "personas", "problems", "solutions")
STAGES = (*ORDER, "verified", "clean", "data")
UNITS = {"k": 1e3, "M": 1e6, "B": 1e9}


def run(words: list[str], runs: Path, peaks: dict[str, int], kill_in: str | None) -> int:
    """Run and watch the command. Returns its exit code, or -9 if it was killed half-way through `kill_in`."""
    command = [sys.executable, "-m", "personahub", "run", str(CONFIG), "--runs", str(runs), *words]
    process = subprocess.Popen(command, start_new_session=True)
    folder = runs / "million"
    while process.poll() is None:
        time.sleep(0.5)
        watch(process.pid, peaks)
        if kill_in is not None and half_done(folder, kill_in):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return -9
    return process.returncode


def watch(pid: int, peaks: dict[str, int]) -> None:
    """Record the largest resident memory of a process under its stage's name, including worker processes."""
    try:
        for process in psutil.Process(pid).children(recursive=True):
            named = [Path(word).parent.name for word in process.cmdline() if word.endswith("stage.json")]
            for each in [process, *process.children(recursive=True)] if named else []:
                peaks[named[0]] = max(peaks.get(named[0], 0), each.memory_info().rss)
    except psutil.Error:
        return


def half_done(folder: Path, stage: str) -> bool:
    """Return whether half of the stage's shards are written and it is not complete."""
    before = folder / STAGES[STAGES.index(stage) - 1]
    if (folder / stage / "manifest.json").exists() or not (before / "manifest.json").exists():
        return False
    done = len(list((folder / stage).glob("[0-9]*.parquet")))
    return 2 * done >= len(open_artifact(before).shard_names)


def pilot(texts: int) -> list[str]:
    """Scale a run to `texts` texts; 300 of 1,895 give 31,000 of 200,000 personas and 800 of 5,000 test problems."""
    sizes = {"sources.config.limit": texts, "related_personas.config.max_new": texts * 310 // 3}
    sizes["data.config.test_problems"] = max(1, texts * 8 // 3)
    return ["experiment=million_pilot", *(f"stages.{key}={size}" for key, size in sizes.items())]


def forecast(words: list[str], runs: Path, texts: int) -> dict[str, float]:
    """Return requests, tokens, GB of disk and minutes from the output of `personahub plan` after a pilot."""
    command = [sys.executable, "-m", "personahub"]
    where = ["--runs", str(runs), *words]
    subprocess.run([*command, "run", str(CONFIG), *where, *pilot(texts)], check=True)
    plan = [*command, "plan", str(CONFIG), *where, "--pilot", str(runs / "million_pilot")]
    output = subprocess.run(plan, capture_output=True, text=True, check=True).stdout
    found = re.search(r"([\d,]+) requests, ([\d.]+)([kMB]?) tokens.*?([\d.]+) GB of disk", output)
    time_ = re.search(r"pilot's rate: (?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", output)
    assert found is not None, output
    assert time_ is not None, output
    hours, minutes, seconds = (float(part or 0) for part in time_.groups())
    return {
        "requests": float(found[1].replace(",", "")),
        "tokens": float(found[2]) * UNITS.get(found[3], 1),
        "GB of disk": float(found[4]),
        "minutes": 60 * hours + minutes + seconds / 60,
    }


def check_books(artifact: Artifact) -> None:
    """Check that no record is lost or duplicated: rows in = rows out + rejected, and every id occurs once."""
    counts = artifact.manifest.counts
    ids = [row["id"] for row in artifact.rows(["id"])]
    assert len(ids) == len(set(ids)) == counts.rows_out, f"{artifact.path}: ids are lost or duplicated"
    if artifact.name in ("good_personas", "personas", "verified", "clean", "solutions"):
        assert counts.rows_in == counts.rows_out + sum(counts.rejected.values()), (
            f"{artifact.path}: rows in, out and rejected do not add up"
        )


def main() -> None:
    """Run, kill, continue, check, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=Path, default=local_data() / "webtext" / "documents.jsonl", help="web texts")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--pilot-texts", type=int, default=300)
    parser.add_argument("--runs", type=Path, help="keep the run here (default: a temporary folder)")
    options = parser.parse_args()
    require_files(options.texts)
    words = [f"stages.sources.config.path={options.texts}", *options.overrides]
    with tempfile.TemporaryDirectory() as temporary:
        runs = options.runs or Path(temporary)
        expected = forecast(words, runs, options.pilot_texts)
        peaks: dict[str, int] = {}
        started = time.monotonic()
        for stage in (*KILL_IN, None):
            code = run(words, runs, peaks, stage)
            assert code == (-9 if stage else 0), f"ended with {code}"
        minutes = (time.monotonic() - started) / 60
        artifacts = [open_artifact(runs / "million" / stage) for stage in STAGES]
        for artifact in artifacts:
            check_books(artifact)
        report(artifacts, peaks, minutes)
        compare(expected, artifacts, runs / "million", minutes)


def report(artifacts: list[Artifact], peaks: dict[str, int], minutes: float) -> None:
    """Print the table of docs/scale.md."""
    print(f"\n{minutes:.1f} minutes, killed in {' and '.join(KILL_IN)}; no record lost or duplicated\n")
    print(
        "| stage | rows in | rows out | rejected | s | rows out/s | CPU ms a row | disk bytes a row | peak MB |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for artifact in artifacts:
        manifest: Any = artifact.manifest
        rejected = sum(manifest.counts.rejected.values())
        again = " (killed)" if artifact.name in KILL_IN else ""
        rate = f"{artifact.num_rows / manifest.seconds:,.0f}" if not again else ""
        cells = [artifact.name + again, f"{manifest.counts.rows_in:,}", f"{artifact.num_rows:,}", f"{rejected:,}"]
        cells += [f"{manifest.seconds:.0f}", rate]
        rows = max(manifest.counts.rows_in, artifact.num_rows)  # as `Work` in personahub.core.forecast counts them
        size = sum(file.stat().st_size for file in artifact.path.rglob("*") if file.is_file())
        cells += ["" if again else f"{1e3 * manifest.cpu_seconds / rows:.3f}", f"{size / rows:.0f}"]
        cells += [f"{max(peaks.get(artifact.name, 0), manifest.peak_bytes) / 1e6:.0f}"]
        print(f"| {' | '.join(cells)} |")


def compare(expected: dict[str, float], artifacts: list[Artifact], folder: Path, minutes: float) -> None:
    """Print forecast and actual values."""
    usage = [artifact.manifest.usage for artifact in artifacts]
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    taken = {
        "requests": float(sum(each.requests for each in usage)),
        "tokens": float(sum(each.prompt_tokens + each.completion_tokens for each in usage)),
        "GB of disk": size / 1e9,
        "minutes": minutes,
    }
    print("\n| | forecast | actual | forecast / actual |\n|---|---|---|---|")
    for name, value in expected.items():
        print(f"| {name} | {value:,.1f} | {taken[name]:,.1f} | {value / taken[name]:.2f} |")


if __name__ == "__main__":
    main()
