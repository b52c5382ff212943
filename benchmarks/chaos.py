"""Deal random faults to a run and check that nothing is lost, duplicated or damaged.

    python -m benchmarks.chaos --faults 100

The quickstart runs up to its training data against the simulated teacher behind real HTTP. While it runs, a random
fault hits it; no kind of fault repeats before all kinds had their turn. Then the same command is started again,
until it ends normally. Every artifact must then equal that of an undisturbed run, record for record, including
rejected ones and counts, and the endpoint must not have been asked again for more than the requests in flight.
Rounds repeat until all faults are dealt.

| fault | action |
|---|---|
| kill_group | SIGKILL to the command and its stage |
| kill_stage | SIGKILL to the stage only: the command must report it and end |
| kill_command | SIGKILL to the command only: its stage continues, and a second command must wait its turn |
| interrupt | SIGINT to both, as Ctrl-C does |
| terminate | SIGTERM to the command |
| second_run | the same command again at the same time: it must refuse |
| full_disk | no file may grow beyond some kilobytes: one line of error, nothing half-written |
| pause | SIGSTOP to both and all their children, SIGCONT one or six seconds later, as Ctrl-Z and `fg` do; the run goes on |
| outage | the endpoint hangs for some seconds; the run goes on |
| torn_journal | SIGKILL, then the last bytes of a journal are cut off, as a power failure would |
| bad_journal | SIGKILL, then bytes in the middle of a journal are overwritten: named with its line, which is then removed |
| litter | SIGKILL, then files with temporary names and garbage are left around |
| bad_shard | SIGKILL, then bytes of a finished shard are overwritten: named when read, rebuilt by --redo |
| bad_manifest | SIGKILL, then a manifest is cut in half: named, rebuilt by --redo |
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import itertools
import os
import random
import re
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from personahub.core.artifact import MANIFEST
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
    """One disturbed run: the command, its folder, and the stages to rebuild."""

    def __init__(self, words: list[str], folder: Path, dice: random.Random) -> None:
        self.words = words
        self.folder = folder
        self.dice = dice
        self.redo: list[str] = []
        self.spoiled = 0  # completions lost from journals, or never written, beyond those of a killed run

    def start(self, limit_bytes: int | None = None) -> subprocess.Popen[str]:
        def limit() -> None:
            if limit_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

        redo = [word for stage in self.redo for word in ("--redo", stage)]
        return subprocess.Popen(
            [*self.words, *redo], cwd=ROOT, start_new_session=True, text=True, preexec_fn=limit,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait_for_end(self, process: subprocess.Popen[str], seconds: float | None, *codes: int) -> str | None:
        """Return the output, or None if the run did not end in time with 0, one of `codes`, or damage that it names.

        Damage is repaired as the message says: a stage is added to the stages to rebuild, or a journal's line is
        removed.
        """
        try:
            _, output = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
        if process.returncode == 0:
            self.redo.clear()
        elif line := re.search(r"error: .*?: (\S+):(\d+): damaged journal line", output):
            subprocess.run(["sed", "-i", f"{line[2]}d", str(ROOT / line[1])], check=True)
        elif process.returncode == 2 and "--redo" in output:
            damaged = [stage for stage in DATA_STAGES if f"/{stage}/" in output or f"--redo {stage}" in output]
            assert damaged, f"damage without a name: {output}"
            self.redo = sorted({*self.redo, *damaged}, key=DATA_STAGES.index)
        else:
            assert process.returncode in codes, f"ended with {process.returncode}: {output}"
        assert "Traceback" not in output or "Exception ignored" in output, (
            output
        )  # Python's own message about a callback
        return output

    def kill(self, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(ProcessLookupError):  # it may have ended on its own
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def stage_of(self, process: subprocess.Popen[str]) -> psutil.Process | None:
        try:
            children = psutil.Process(process.pid).children()
            return children[0] if children else None
        except psutil.Error:
            return None

    def open_journals(self) -> list[Path]:
        """Return the incomplete stages that already contain something."""
        found = sorted(self.folder.glob("*/journal/*.jsonl"))
        return [file for file in found if file.stat().st_size > 100 and not (file.parents[1] / MANIFEST).exists()]


Fault = Callable[[Storm, subprocess.Popen[str]], bool | None]  # True: the run goes on


def kill_group(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)


def kill_stage(storm: Storm, process: subprocess.Popen[str]) -> None:
    stage = storm.stage_of(process)
    if stage is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            stage.kill()
    output = storm.wait_for_end(process, 250, 1)
    assert output is not None, "the command does not see that its stage was killed"
    assert process.returncode != 1 or "killed by signal 9" in output, output


def kill_command(storm: Storm, process: subprocess.Popen[str]) -> None:
    stage = storm.stage_of(process)
    process.kill()
    process.communicate()
    if stage is not None:
        second = storm.start()
        output = storm.wait_for_end(second, 250, 2)
        assert output is not None
        assert second.returncode != 2 or "in progress" in output or "--redo" in output or "journal" in output, output
        psutil.wait_procs([stage], timeout=250)


def interrupt(storm: Storm, process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)
    # Before Python has started, which may take a moment on a busy machine, the signal itself ends the process.
    assert storm.wait_for_end(process, 120, 130, -signal.SIGINT) is not None, "an interrupt does not end the run"


def terminate(storm: Storm, process: subprocess.Popen[str]) -> None:
    process.terminate()
    assert storm.wait_for_end(process, 120, 130, -signal.SIGTERM) is not None, "SIGTERM does not end the run"


def second_run(storm: Storm, process: subprocess.Popen[str]) -> None:
    other = storm.start()
    output = other.communicate(timeout=250)[1]
    assert process.poll() is not None or (other.returncode == 2 and "in progress" in output) or "--redo" in output, (
        output
    )
    storm.kill(process)


def full_disk(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    limited = storm.start(limit_bytes=storm.dice.randrange(2_000, 60_000))
    storm.spoiled += CONCURRENCY  # a second run ends with requests in flight
    if storm.wait_for_end(limited, 250, 1, 2) is None:
        storm.kill(limited)
        raise AssertionError("a full disk hangs the run")


def pause(storm: Storm, process: subprocess.Popen[str]) -> bool:
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(storm.dice.choice((1, 6)))  # longer than the check of an answer may take
    os.killpg(process.pid, signal.SIGCONT)
    return True


def outage(storm: Storm, _: subprocess.Popen[str]) -> bool:
    (server,) = [
        child
        for child in psutil.Process().children()
        if any("synth.simulated.serve" in word for word in child.cmdline())
    ]
    server.suspend()
    time.sleep(storm.dice.uniform(1, 4))
    server.resume()
    return True


def torn_journal(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    if journals := storm.open_journals():
        file = storm.dice.choice(journals)
        os.truncate(file, file.stat().st_size - storm.dice.randrange(1, 60))
        storm.spoiled += 1


def bad_journal(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    if journals := storm.open_journals():
        file = storm.dice.choice(journals)
        with file.open("r+b") as stream:
            stream.seek(file.stat().st_size // 2)
            stream.write(b"\xff" * 20)  # never valid text; bytes that form another valid text could not be detected
        storm.spoiled += 2  # the end of a line may be among them


def litter(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    for stage in storm.folder.glob("*/"):
        if not (stage / MANIFEST).exists():  # the current stage: its own process died while writing
            (stage / f".00000.parquet.{storm.dice.getrandbits(64):x}.tmp").write_bytes(b"PAR1" + os.urandom(64))


def bad_shard(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    files = sorted(file for file in storm.folder.glob("*/[0-9]*.parquet") if (file.parent / MANIFEST).exists())
    if files:
        file = storm.dice.choice(files)
        with file.open("r+b") as stream:
            stream.seek(max(4, file.stat().st_size // 3))
            stream.write(os.urandom(40))
        storm.redo = sorted({*storm.redo, file.parent.name}, key=DATA_STAGES.index)


def bad_manifest(storm: Storm, process: subprocess.Popen[str]) -> None:
    storm.kill(process)
    files = sorted(storm.folder.glob(f"*/{MANIFEST}"))
    if files:
        file = storm.dice.choice(files)
        os.truncate(file, file.stat().st_size // 2)


FAULTS: tuple[Fault, ...] = (
    kill_group, kill_stage, kill_command, interrupt, terminate, second_run, full_disk, pause, outage, torn_journal,
    bad_journal, litter, bad_shard, bad_manifest,
)  # fmt: skip


def dealer(dice: random.Random) -> Iterator[Fault]:
    """Yield faults forever: all kinds in a random order, then all again in another order."""
    while True:
        yield from dice.sample(FAULTS, len(FAULTS))


def one_round(
    runs: Path, number: int, dice: random.Random, faults: collections.deque[Fault], until: str
) -> collections.Counter[str]:
    """Compare a disturbed run with an undisturbed one. Returns the dealt faults, which are taken from `faults`."""
    dealt: collections.Counter[str] = collections.Counter()
    words = (*SMALL, f"seed={number}")
    with endpoint() as url:
        calm, stormy = f"calm{number}", f"stormy{number}"
        subprocess.run(command_line(runs, calm, url, until, *words), cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        asked = get(f"{url}/stats")
        storm = Storm(command_line(runs, stormy, url, until, *words), runs / stormy, dice)
        process = storm.start()
        while True:
            patience = dice.uniform(0.3, LONGEST_S) if faults else None
            if storm.wait_for_end(process, patience) is not None:
                if process.returncode == 0:
                    break
                process = storm.start()
                continue
            fault = faults.popleft()
            goes_on = fault(storm, process)
            dealt[fault.__name__] += 1
            if not goes_on:
                process = storm.start()
        after = get(f"{url}/stats")
    check_data_equal(runs, calm, stormy, DATA_STAGES[: DATA_STAGES.index(until) + 1])
    assert after["distinct"] == asked["distinct"], "the disturbed run asked other requests"
    again = after["requests"] - 2 * asked["requests"]
    assert again <= CONCURRENCY * dealt.total() + storm.spoiled, f"{again} requests were asked again"
    print(f"round {number}: {dealt.total()} faults, {again} requests asked again, artifacts equal", flush=True)
    return dealt


def main() -> None:
    """Deal the faults and print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--until", choices=DATA_STAGES, default="data", help="the last stage (default: data)")
    options = parser.parse_args()
    dice = random.Random(options.seed)
    faults = collections.deque(itertools.islice(dealer(dice), options.faults))
    dealt: collections.Counter[str] = collections.Counter()
    started, number = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        while faults:
            number += 1
            dealt += one_round(Path(folder), number, dice, faults, options.until)
    print(
        f"\n{dealt.total()} faults in {number} rounds, {time.monotonic() - started:.0f} s: nothing lost or duplicated\n"
    )
    print("| fault | times |\n|---|---|")
    for name, times in sorted(dealt.items()):
        print(f"| {name} | {times} |")


if __name__ == "__main__":
    main()
