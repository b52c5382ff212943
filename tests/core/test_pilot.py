"""`plan --pilot`: a small run of an experiment corrects the forecast of the big one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

SHORT = ["stages.personas.config.methods=[{method: surface, threshold: 0.9}]", "seed=1"]


def personahub(repository: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "personahub", *words], cwd=repository, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def planned(said: str) -> tuple[int, float]:
    """Requests, and tokens in millions, of all stages up to `solutions`."""
    requests, tokens = 0, 0.0
    for name in ("first_personas", "related_personas", "problems", "solutions"):
        cells = next(line for line in said.splitlines() if line.startswith(f"{name} ")).split()
        requests += int(cells[4].replace(",", ""))
        tokens += sum(float(cell[:-1]) * {"k": 1e-3, "M": 1.0}[cell[-1]] for cell in cells[5:7])
    return requests, tokens


def test_forecast_with_a_pilot_is_nearer_to_what_it_takes(tmp_path: Path, repository: Path) -> None:
    def words(command: str, texts: int, new: int) -> list[str]:
        sizes = [f"stages.sources.config.limit={texts}", f"stages.related_personas.config.max_new={new}"]
        return [command, "configs/quickstart.yaml", "--runs", str(tmp_path), *SHORT, *sizes]

    personahub(repository, *words("run", 16, 240), "experiment=pilot", "--only", "solutions")
    full = words("plan", 48, 720)
    blind = planned(personahub(repository, *full))
    said = personahub(repository, *full, "--pilot", str(tmp_path / "pilot"))
    corrected = planned(said)
    assert re.search(r"At the pilot's rate: [\dhms]+ for the \d+ stages", said)
    personahub(repository, *words("run", 48, 720), "--only", "solutions")
    requests, tokens = 0, 0.0
    for manifest in (tmp_path / "quickstart").glob("*/manifest.json"):
        usage = json.loads(manifest.read_text())["usage"]
        requests += usage["requests"]
        tokens += (usage["prompt_tokens"] + usage["completion_tokens"]) / 1e6
    assert abs(corrected[0] / requests - 1) < 0.1
    assert abs(corrected[1] / tokens - 1) < 0.1 < abs(blind[1] / tokens - 1)


def test_folder_without_a_run_is_one_line(tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, "-m", "personahub", "plan", "configs/quickstart.yaml", "--pilot", str(tmp_path)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no finished stage found" in done.stderr
