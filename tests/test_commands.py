"""Every command of the README and of the guides is run, or stands in a short list that says why not.

`RUN` are run here as written, with overrides that shrink them, in one folder and in this order: later ones read
what earlier ones made. `ELSEWHERE` names the test that runs the rest, `NOT_RUN` what they need. Those of `NOT_RUN` are
parsed or planned all the same, and so are synopses such as `personahub show runs/NAME/STAGE [-n 3]`.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from personahub.cli import _parser
from personahub.core.artifact import open_artifact
from tests.test_readme import EXPERIMENTS, PAGES, ROOT, TOOLS, commands, example_template

PROGRAMS = ("personahub", "python", "make", "pip", "accelerate")
GENERATED = ("LOG.md", "configuration.md")

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
    "personahub run configs/paper_math_7b.yaml --only personas": f"{PAPER} {FEW} stages.sources.config.hub=null"
    " stages.sources.config.path=my_texts.jsonl 'stages.personas.config.methods=[{method: surface, threshold: 0.9}]'",
    "personahub plan configs/paper_math_7b.yaml stages.sources.config.limit=143000000"
    " stages.related_personas.config.max_new=1000000000": "",
    "personahub show runs/paper_math_7b/personas -n 5": "",
    "personahub show runs/paper_math_7b/good_personas --rejected": "",
    "personahub run configs/personas.yaml stages.sources.config.path=my_texts.jsonl": FEW,
    "personahub personas sample runs/personas/personas -n 5 --out five.jsonl": "",
    "personahub run configs/personas.yaml stages.sources.config.path=documents.jsonl": f"{FEW} experiment=documents --only personas",
    "personahub run configs/usecases.yaml": "stages.sources.config.limit=3",
    "personahub run configs/similarity.yaml": "stages.pairs.config.pairs_per_level=5",
    "personahub run configs/similarity.yaml stages.personas.config.path=PERSONAS.jsonl": "experiment=figure_10"
    " stages.pairs.config.levels=[0.2] stages.pairs.config.tolerance=0.2 stages.pairs.config.pairs_per_level=3",
    "personahub run configs/scaling_small.yaml": f"{FEW} {BRIEF} stages.data.config.test_problems=4 stages.math.config.path=null",
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
    "python -m synth.prompt_page": "",
    "python benchmarks/ablation_power.py --repetitions 500": "--repetitions 3 --seeds 3",
}  # fmt: skip

# What stands for the words in capitals; an ID is that of a web text.
FILLED = {
    "A": "runs/web/problems",
    "B": "runs/mine/problems",
    "ARTIFACT": "runs/web/problems",
    "FOLDER": "upload",
    "runs/NAME": "runs/web",
}

ELSEWHERE = {
    "make quickstart": "tests/test_wandb.py",
    "make ablation": "tests/test_wandb.py",
    "make notebooks": "tests/test_notebooks.py",
    "personahub run configs/ablation_persona.yaml --only after-persona-0": "tests/test_wandb.py",
    "personahub run configs/ablation_persona.yaml tracking.wandb=offline tracking.project=persona-hub": "tests/test_wandb.py",
    "python -m personahub.prompt_page": "tests/personahub/test_prompt_page.py",
    "python -m personahub.core.worker runs/<experiment>/<stage>/stage.json": "tests/test_kills.py",
}

NOT_RUN = {
    "make test": "this is it",
    "make audit": "the network",
    "make lint": "part of `make test`, before the tests",
    "personahub run configs/paper_math_7b.yaml": "an account and eight GPUs for hours",
    "personahub run configs/paper_math_7b.yaml --only model": "the weights of Qwen2-7B and GPUs",
    "personahub personas import hf://datasets/argilla/FinePersonas-v0.1@COMMIT/data/train-00000.parquet p.parquet"
    " --release finepersonas --limit 100000": "the hub",
    "accelerate config": "asks questions",
    "python docs/wandb_workspace.py TEAM ablation_persona": "an account; tests/test_wandb.py builds what it would save",
    "pip install 'persona-hub-harness[ray]'": "the network",
    "python tests/vllm_server.py install": "the network, 2.5 GB",
    "python -m pytest -m slow -s tests/eval/test_vllm.py": "that server",
    "python benchmarks/eval_cross_check.py --math MATH/test.jsonl --folder /tmp/graders --limit 500": "peers' packages",
    "python benchmarks/answer_checker.py": "peers' packages",
    "python benchmarks/answer_checker.py --math MATH/test.jsonl": "peers' packages",
    "python benchmarks/generation_loop.py": "minutes and peers' packages",
    "python benchmarks/generation_loop.py --long 200000": "minutes and peers' packages",
    "python benchmarks/vllm_throughput.py": "a GPU",
}
BENCHMARK = re.compile(r"python -m benchmarks\.\w+( .*)?")  # minutes to hours each; `make bench` runs them


def written() -> set[str]:
    """Commands of fenced blocks and of inline code, in one spelling."""
    found = set()
    for page in PAGES:
        if page.name in GENERATED:
            continue
        found |= {_spelled(words) for program in PROGRAMS for words in commands(page, program)}
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for code in re.findall(r"`([^`\n]+)`", prose):
            if code.split(" ")[0] in PROGRAMS and " " in code:
                found.add(_spelled(shlex.split(code, comments=True)))
    return found


def _spelled(words: list[str]) -> str:
    return shlex.join(words).replace("'<experiment>'", "<experiment>") if "[" in " ".join(words) else " ".join(words)


def synopsis(command: str) -> bool:
    """Whether it names a subcommand or its options, and is nothing to be typed."""
    words = command.split(" ")
    if words[0] != "personahub":
        return False
    placeholders = ("[", "CONFIG", "URL", "NAME/STAGE", "IN.jsonl OUT", "IN OUT")
    return len(words) == 2 or words[1:] == ["personas", "import"] or any(each in command for each in placeholders)


WRITTEN = written()
KNOWN = {_spelled(shlex.split(each)) for each in (*RUN, *ELSEWHERE, *NOT_RUN)} | {_spelled(words) for words in TOOLS}


def test_every_command_is_run_or_has_a_reason_not_to_be() -> None:
    unknown = {each for each in WRITTEN - KNOWN if not synopsis(each) and not BENCHMARK.fullmatch(each)}
    assert not unknown, "add it to RUN in tests/test_commands.py"
    assert not {_spelled(shlex.split(each)) for each in (*RUN, *ELSEWHERE, *NOT_RUN)} - WRITTEN, (
        "no page has it any more"
    )
    assert all((ROOT / file).is_file() for file in ELSEWHERE.values())


@pytest.mark.parametrize("command", sorted(each for each in WRITTEN if synopsis(each)))
def test_synopses_name_what_there_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command.replace("[", "").replace("]", ""))
    deep = 3 if words[1] == "personas" and len(words) > 2 else 2
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args([*words[1:deep], "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(word in told for word in words if word.startswith("-"))


@pytest.mark.parametrize("command", NOT_RUN, ids=str)
def test_what_is_not_run_is_there(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "personahub":
        assert words in EXPERIMENTS or _parser().parse_args(words[1:])  # the experiments are planned by test_readme
    elif words[0] == "make":
        done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    elif words[0] == "python":
        assert words[1] == "-m" or (ROOT / words[1]).is_file()
        options = [word for word in words[2:] if word.startswith("--")]
        assert all(f'"{option}"' in (ROOT / words[1]).read_text(encoding="utf-8") for option in options)


@pytest.mark.parametrize("command", sorted(each for each in WRITTEN if BENCHMARK.fullmatch(each)))
def test_benchmarks_have_the_options_that_the_pages_name(command: str) -> None:
    words = shlex.split(command)
    text = (ROOT / "benchmarks" / f"{words[2].partition('.')[2]}.py").read_text(encoding="utf-8")
    assert all(f'"{word}"' in text for word in words[3:] if word.startswith("--"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the commands are typed: the checkout's configs, and files under the names that the pages use."""
    folder = tmp_path_factory.mktemp("typed")
    for name in ("configs", "benchmarks", "eval", "synth", "train", "personahub"):
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
