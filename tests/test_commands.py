"""Runs every command of the README and the guides, except for listed ones with a reason.

`RUN` are run here as written, with overrides that shrink them, in one folder and in this order: later ones read
what earlier ones made. Benchmarks are run by tests/test_benchmark_commands.py, what needs a hub, an account, a terminal
or a package index by tests/test_service_commands.py; `ELSEWHERE` names the test that runs the rest. Synopses such as
`personahub show runs/NAME/STAGE [-n 3]` are parsed.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from personahub.commands.cli import parse
from personahub.core.artifact import open_artifact
from tests.test_benchmark_commands import COMMANDS as BENCHMARKS
from tests.test_readme import ROOT, TOOLS, example_template
from tests.test_service_commands import COMMANDS as SERVICES
from tests.written_commands import spelled, synopsis, written

REAL_TEACHER = (
    "experiment=real engines.teacher.kind=openai engines.teacher.model=Qwen/Qwen2.5-7B-Instruct"
    " engines.teacher.base_url=http://127.0.0.1:8000/v1"
)
FEW = "stages.sources.config.limit=3 stages.related_personas.config.max_new=8"
SIMULATED = "kind=simulated engines.{0}.model=simulated-teacher"
PAPER = " ".join(f"engines.{name}.{SIMULATED.format(name)}" for name in ("writer", "author", "solver", "second_solver"))
BRIEF = " ".join(
    f"stages.model_{n}.config.sft.max_steps=2 stages.after_{n}.config.limit=4 stages.after_{n}.config.sampling.max_tokens=8"
    for n in (512, 2048, 8192)
)
HASHING = "{kind: hashing}"
PERSONAS_OF_PAPER = (
    f"{PAPER} {FEW} stages.sources.config.hub=null stages.sources.config.path=my_texts.jsonl"
    " 'stages.personas.config.methods=[{method: surface, threshold: 0.9}]'"
)
# All of the paper's experiment, with a student of a million parameters that `personahub run configs/scaling_small.yaml` made.
WHOLE_PAPER = (
    f"{PERSONAS_OF_PAPER} 'engines.student={{kind: transformers, model: student}}'"
    " stages.held_out.config.held_out=4 stages.math.config.path=math.jsonl"
    " stages.model.config.model.name_or_path=runs/scaling_small/base_model/model stages.model.config.device=cpu"
    " stages.model.execution.launcher=[] stages.model.config.validation=null stages.model.config.sft.max_steps=2"
    " stages.model.config.sft.bf16=false stages.model.config.sft.max_length=256"
    " stages.model.config.sft.gradient_accumulation_steps=1"
    " stages.after.config.limit=4 stages.after.config.sampling.max_tokens=8"
    f" 'stages.pairs.config.embedder={HASHING}' 'stages.similarity.config.embedder={HASHING}'"
    f" 'stages.diversity.config.embedder={HASHING}'"
)

# Command -> what is added to it.
RUN: dict[str, str] = {
    "python -m synth.simulated.serve --port 8000": "",
    f"personahub run configs/quickstart.yaml {REAL_TEACHER}": f"{FEW} engines.teacher.model=simulated-teacher --only data"
    " stages.data.config.test_problems=4",
    "personahub complete requests.jsonl replies.jsonl --base-url http://127.0.0.1:8000/v1 --model my-model"
    " --concurrency 256": "--model simulated-teacher",
    "personahub run configs/quickstart.yaml experiment=web stages.sources.config.path=my_texts.jsonl": f"{FEW} --only verified",
    "personahub run configs/quickstart.yaml experiment=mine stages.sources.config.path=my_texts.jsonl": f"{FEW} --only problems",
    "personahub run configs/quickstart.yaml experiment=geometry stages.problems.config.template=my/geometry.md": f"{FEW} --only problems",
    "personahub run configs/quickstart.yaml experiment=pilot stages.sources.config.limit=16 --only solutions": FEW,
    "personahub plan configs/quickstart.yaml --pilot runs/pilot": "",
    "personahub plan configs/paper_math_7b.yaml": "",
    "personahub run configs/paper_math_7b.yaml experiment=paper_pilot stages.sources.config.limit=300"
    " stages.held_out.config.held_out=100 --only data": f"{PERSONAS_OF_PAPER} stages.held_out.config.held_out=4"
    " stages.math.config.path=math.jsonl",
    "personahub plan configs/paper_math_7b.yaml --pilot runs/paper_pilot": "",
    "personahub run configs/paper_math_7b.yaml --only personas": PERSONAS_OF_PAPER,
    "personahub plan configs/paper_math_7b.yaml stages.sources.config.limit=143000000"
    " stages.related_personas.config.max_new=1000000000": "",
    "personahub show runs/paper_math_7b/personas -n 5": "",
    "personahub show runs/paper_math_7b/good_personas --rejected": "",
    "personahub run configs/personas.yaml stages.sources.config.path=my_texts.jsonl": FEW,
    "personahub personas sample runs/personas/personas -n 5 --out five.jsonl": "",
    "python -m benchmarks.persona_quality --run runs/personas": "PERSONAS.jsonl",
    "personahub run configs/personas.yaml stages.sources.config.path=documents.jsonl": f"{FEW} experiment=documents --only personas",
    "personahub run configs/usecases.yaml": "stages.sources.config.limit=3",
    "personahub run configs/similarity.yaml": "stages.pairs.config.pairs_per_level=5",
    "personahub run configs/similarity.yaml stages.personas.config.path=PERSONAS.jsonl": "experiment=figure_10"
    " stages.pairs.config.levels=[0.2] stages.pairs.config.tolerance=0.2 stages.pairs.config.pairs_per_level=3",
    "personahub run configs/scaling_small.yaml": f"{FEW} {BRIEF} stages.data.config.test_problems=4 stages.math.config.path=null",
    "personahub run configs/paper_math_7b.yaml --only data --only similarity --only diversity": WHOLE_PAPER,
    "personahub run configs/paper_math_7b.yaml --only model": WHOLE_PAPER,
    "personahub run configs/paper_math_7b.yaml": WHOLE_PAPER,
    "personahub plan evaluation.yaml": "",
    "personahub run evaluation.yaml stages.a.config.limit=200": " ".join(
        f"engines.{name}.{SIMULATED.format(name)}" for name in ("mine", "theirs")
    )
    + " stages.math.config.path=math.jsonl stages.gsm8k.config.path=gsm8k.jsonl",
    "personahub show runs/evaluation/a -n 3": "",
    "personahub diff A B": "",
    "personahub push ARTIFACT --dry-run FOLDER": "",
    "personahub forget ID --experiment runs/NAME": "",
    "personahub cache stats": "",
    "personahub cache prune": "",
    "personahub wandb sync --dry-run": "",
    "personahub wandb sync": "",
}  # fmt: skip

# Replacements for the words in capitals; an ID is that of a web text.
FILLED = {
    "A": "runs/web/problems",
    "B": "runs/mine/problems",
    "ARTIFACT": "runs/web/problems",
    "FOLDER": "upload",
    "runs/NAME": "runs/web",
}

ELSEWHERE = {
    "python -m pytest my/test_recipe.py": "tests/test_use_case_page.py",
    "personahub run recipes.yaml": "tests/test_use_case_page.py",
    "personahub show runs/recipes/recipes -n 3": "tests/test_use_case_page.py",
    "make quickstart": "tests/test_wandb.py",
    "make ablation": "tests/test_wandb.py",
    "make notebooks": "tests/test_notebooks.py",
    "personahub run configs/ablation_persona.yaml --only after-persona-0": "tests/test_wandb.py",
    "personahub run configs/ablation_persona.yaml tracking.wandb=offline tracking.project=persona-hub": "tests/test_wandb.py",
    "python docs/make_prompts.py": "tests/synth/test_prompts.py",
    "python docs/make_persona_prompts.py": "tests/test_persona_prompts_page.py",
    "python -m personahub.core.experiments.stage_process runs/<experiment>/<stage>/stage.json": "tests/test_kills.py",
    "python tests/vllm_server.py install": "tests/test_benchmark_commands.py",
    "python -m pytest -m slow -s tests/eval/test_vllm.py": "tests/eval/test_vllm.py",
    "pytest -m slow tests/train/test_distributed.py": "tests/train/test_distributed.py",
    "PERSONAHUB_VLLM=FOLDER python -m pytest -s -m slow tests/personahub/test_personas_vllm.py":
        "tests/personahub/test_personas_vllm.py",
}  # fmt: skip

NOT_RUN = {"make test": "it is what runs this"}

WRITTEN = written()
OURS = {spelled(shlex.split(each)) for each in (*RUN, *BENCHMARKS, *SERVICES, *ELSEWHERE, *NOT_RUN)}


def test_every_command_is_run_or_has_a_reason_not_to_be() -> None:
    tools = {spelled(words) for words in TOOLS}
    unknown = {each for each in WRITTEN - OURS - tools if not synopsis(each)}
    assert not unknown, "add it to RUN in tests/test_commands.py"
    assert not OURS - WRITTEN, "no page has it any more"
    assert all((ROOT / file).is_file() for file in ELSEWHERE.values())


@pytest.mark.parametrize("command", sorted(each for each in WRITTEN if synopsis(each)))
def test_synopses_name_what_there_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command.replace("[", "").replace("]", ""))
    deep = 3 if words[1] == "personas" and len(words) > 2 else 2
    with pytest.raises(SystemExit) as ended:
        parse([*words[1:deep], "--help"])
    assert ended.value.code == 0
    reported = capsys.readouterr().out
    assert all(word in reported for word in words if word.startswith("-"))


@pytest.mark.parametrize("command", NOT_RUN, ids=str)
def test_what_is_not_run_is_there(command: str) -> None:
    done = subprocess.run(["make", "-n", *command.split(" ")[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are typed: the checkout's configs, and files under the names that the pages use."""
    folder = tmp_path_factory.mktemp("typed")
    for name in ("configs", "benchmarks", "eval", "synth", "train", "personahub", "tests"):
        (folder / name).symlink_to(ROOT / name)
    texts = (ROOT / "configs/data/walks_of_life.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:6]
    for name in ("my_texts", "documents"):
        (folder / f"{name}.jsonl").write_text("".join(texts), encoding="utf-8")
    personas = (ROOT / "configs/data/personas.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:40]
    (folder / "PERSONAS.jsonl").write_text("".join(personas), encoding="utf-8")
    (folder / "my").mkdir()
    (folder / "my" / "geometry.md").write_text(example_template(), encoding="utf-8")
    body = {"model": "simulated-teacher", "messages": [{"role": "user", "content": "Solve. What is 2 + 2?"}]}
    request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    (folder / "requests.jsonl").write_text(json.dumps(request) + "\n")
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (folder / "evaluation.yaml").write_text(page.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    problems = [{"problem": f"What is {n} + 1?", "solution": f"It is $\\boxed{{{n + 1}}}$."} for n in range(3)]
    questions = [{"question": f"What is {n} + 1?", "answer": f"One more.\n#### {n + 1}"} for n in range(3)]
    tasks = [{"task": f"What is {n} + 1?", "key": str(n + 1)} for n in range(3)]
    for name, rows in (("math", problems), ("gsm8k", questions), ("exam", tasks)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    """The simulated teacher, served by the pages' command at a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    words = "python -m synth.simulated.serve --port 8000".replace("8000", str(free)).split(" ")
    server = subprocess.Popen([sys.executable, *words[1:]], cwd=folder, stdout=subprocess.DEVNULL)
    for _ in range(120):
        time.sleep(0.5)
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{free}/v1/models", timeout=5).close()
        except OSError:
            continue
        break
    else:
        server.kill()
        pytest.fail("the simulated teacher does not answer")
    yield free
    server.terminate()
    server.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("command", RUN, ids=str)
def test_it_runs(command: str, folder: Path, port: int) -> None:
    if "simulated.serve" in command:
        return  # `port` has started it, and it answers
    added = shlex.split(RUN[command])
    words = shlex.split(command.replace("8000", str(port)))
    if "ID" in words:
        first = next(open_artifact(folder / "runs/web/sources").rows(["id"]))["id"]
        words = [str(first) if word == "ID" else word for word in words]
    words = [FILLED.get(word, word) for word in words]
    program = ["-m", "personahub"] if words[0] == "personahub" else []
    called = [sys.executable, *program, *words[1:], *added]
    done = subprocess.run(called, cwd=folder, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout or done.stderr
