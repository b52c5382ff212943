"""Random faults, one after another, and whether anything was lost, doubled or damaged by them.

    python -m benchmarks.chaos --faults 100

The quickstart up to its training data runs against the simulated teacher behind real HTTP. While it runs it is
hit by a fault drawn at random; then the same command is given again, until it ends by itself. Every artifact then
has to equal that of an undisturbed run, record for record, rejected ones and counts included, and the endpoint
must not have been asked again for more than what was in flight. Rounds follow until all faults are dealt.

| fault | what is done |
|---|---|
| kill_group | SIGKILL to the command and its stage |
| kill_stage | SIGKILL to the stage alone: the command has to say so and end |
| kill_command | SIGKILL to the command alone: its stage goes on, and a second command has to wait its turn |
| interrupt | SIGINT to both, as Ctrl-C does |
| terminate | SIGTERM to the command |
| second_run | the same command again meanwhile: it has to refuse |
| full_disk | no file may grow beyond some kilobytes: one line of error, nothing half-written |
| torn_journal | SIGKILL, then the last bytes of a journal are cut off, as a power failure would |
| litter | SIGKILL, then files with temporary names and garbage lie about |
| bad_shard | SIGKILL, then bytes of a finished shard are overwritten: named when read, made again by --redo |
| bad_manifest | SIGKILL, then a manifest is cut in half: named, made again by --redo |
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.test_kills import CONCURRENCY, DATA_STAGES, check_data_equal, endpoint, get
from tests.test_kills import command as command_line

ROOT = Path(__file__).parents[1]
SMALL = (
    "stages.sources.config.limit=24",
    "stages.first_personas.config.modes=[read]",
    "stages.related_personas.config.max_new=100",
    "stages.data.config.test_problems=30",
    "stages.personas.config.methods=[{method: surface, threshold: 0.9}]",
)
LONGEST_S = 2.5


class Storm:
    """One disturbed run: the command, its folder, and the stages that have to be made again."""

    def __init__(self, words: list[str], folder: Path, dice: random.Random) -> None:
        self.words = words
        self.folder = folder
        self.dice = dice
        self.redo: list[str] = []

    def start(self, limit_bytes: int | None = None) -> subprocess.Popen[str]:
        def limit() -> None:
            if limit_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        redo = [word for stage in self.redo for word in ("--redo", stage)]
        return subprocess.Popen(
            [*self.words, *redo], cwd=ROOT, start_new_session=True, text=True, preexec_fn=limit,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def ended(self, process: subprocess.Popen[str], seconds: float | None) -> bool:
        """Whether it ended by itself within the time; an error that names a damaged stage is put on the list."""
        try:
            _, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        if process.returncode == 0:
            self.redo.clear()
        elif process.returncode == 2 and "--redo" in said:
            damaged = [stage for stage in DATA_STAGES if f"/{stage}/" in said or f"--redo {stage}" in said]
            assert damaged, f"damage without a name: {said}"
            self.redo = sorted({*self.redo, *damaged}, key=DATA_STAGES.index)
        else:
            raise AssertionError(f"ended with {process.returncode}: {said}")
        return True

    def kill(self, process: subprocess.Popen[str]) -> None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def stage_of(self, process: subprocess.Popen[str]) -> psutil.Process | None:
        try:
            children = psutil.Process(process.pid).children()
            return children[0] if children else None
        except psutil.Error:
            return None


def kill_group(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)


def kill_stage(storm: Storm, process: subprocess.Popen[str]) -> None:
    stage = storm.stage_of(process)
    if stage is not None:
        stage.kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode in (0, 1), said
    assert process.returncode == 0 or "killed by signal 9" in said, said


def kill_command(storm: Storm, process: subprocess.Popen[str]) -> None:
    stage = storm.stage_of(process)
    process.kill()
    process.communicate()
    if stage is not None:
        second = storm.start()
        _, said = second.communicate(timeout=120)
        assert second.returncode in (0, 2), said
        assert second.returncode == 0 or "under way" in said or "--redo" in said, said
        psutil.wait_procs([stage], timeout=120)


def interrupt(_: Storm, process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode in (0, 130), said
    assert "Traceback" not in said or "Exception ignored" in said, said


def terminate(_: Storm, process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=60)


def second_run(storm: Storm, process: subprocess.Popen[str]) -> None:
    other = storm.start()
    _, said = other.communicate(timeout=120)
    assert process.poll() is not None or (other.returncode == 2 and "under way" in said), said
    storm.kill(process)


def full_disk(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    limited = storm.start(limit_bytes=storm.dice.randrange(2_000, 60_000))
    try:
        _, said = limited.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        storm.kill(limited)
        raise AssertionError("a full disk hangs the run") from None
    assert limited.returncode in (0, 1, 2), said
    assert "Traceback" not in said, said


def torn_journal(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    journals = [file for file in storm.folder.glob("*/journal/*.jsonl") if file.stat().st_size > 100]
    if journals:
        file = storm.dice.choice(sorted(journals))
        if not (file.parent.parent / "manifest.json").exists():
            os.truncate(file, file.stat().st_size - storm.dice.randrange(1, 60))


def litter(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    for stage in storm.folder.glob("*/"):
        if not (stage / "manifest.json").exists():  # the stage in work: its own process died while writing
            (stage / f".00000.parquet.{storm.dice.getrandbits(64):x}.tmp").write_bytes(b"PAR1" + os.urandom(64))


def bad_shard(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    files = sorted(file for file in storm.folder.glob("*/[0-9]*.parquet") if (file.parent / "manifest.json").exists())
    if files:
        file = storm.dice.choice(files)
        with file.open("r+b") as stream:
            stream.seek(max(4, file.stat().st_size // 3))
            stream.write(os.urandom(40))
        storm.redo = sorted({*storm.redo, file.parent.name}, key=DATA_STAGES.index)


def bad_manifest(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    files = sorted(storm.folder.glob("*/manifest.json"))
    if files:
        file = storm.dice.choice(files)
        os.truncate(file, file.stat().st_size // 2)


FAULTS: tuple[Callable[[Storm, subprocess.Popen[str]], None], ...] = (
    kill_group, kill_stage, kill_command, interrupt, terminate, second_run, full_disk, torn_journal, litter,
    bad_shard, bad_manifest,
)  # fmt: skip


def one_round(runs: Path, number: int, dice: random.Random, left: int) -> collections.Counter[str]:
    """An undisturbed run and a disturbed one, compared; the faults that were dealt."""
    dealt: collections.Counter[str] = collections.Counter()
    words = (*SMALL, f"seed={number}")
    with endpoint() as url:
        calm, stormy = f"calm{number}", f"stormy{number}"
        subprocess.run(command_line(runs, calm, url, "data", *words), cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        asked = get(f"{url}/stats")
        storm = Storm(command_line(runs, stormy, url, "data", *words), runs / stormy, dice)
        while True:
            process = storm.start()
            patience = dice.uniform(0.3, LONGEST_S) if dealt.total() < left else None
            if storm.ended(process, patience):
                if process.returncode == 0:
                    break
                continue
            fault = dice.choice(FAULTS)
            fault(storm, process)
            dealt[fault.__name__] += 1
        after = get(f"{url}/stats")
    check_data_equal(runs, calm, stormy)
    assert after["distinct"] == asked["distinct"], "other requests than those of the undisturbed run"
    again = after["requests"] - 2 * asked["requests"]
    # a torn journal gives up its last line besides what was in flight
    assert again <= (CONCURRENCY + 1) * dealt.total(), f"{again} requests were asked again"
    print(f"round {number}: {dealt.total()} faults, {again} requests asked again, artifacts equal", flush=True)
    return dealt


def main() -> None:
    """Deal the faults and print what became of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    dealt: collections.Counter[str] = collections.Counter()
    started, number = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        while dealt.total() < options.faults:
            number += 1
            dealt += one_round(Path(folder), number, dice, options.faults - dealt.total())
    print(f"\n{dealt.total()} faults in {number} rounds, {time.monotonic() - started:.0f} s: nothing lost or doubled\n")
    print("| fault | times |\n|---|---|")
    for name, times in sorted(dealt.items()):
        print(f"| {name} | {times} |")


if __name__ == "__main__":
    main()
