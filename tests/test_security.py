"""Keys stay out of files, names stay inside of folders, nothing that is loaded runs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from personahub.core.artifact import open_artifact
from tests.test_kills import endpoint

PACKAGES = ("personahub", "synth", "train", "eval", "benchmarks")
KEYS = {
    "OPENAI_API_KEY": "sk-test-4f9a8b7c6d5e4f3a2b1c",
    "WANDB_API_KEY": "wb01" + "5e4f3a2b1c0d9e8f7a6b" * 2,
    "HF_TOKEN": "hf_tEsTtOkEnNoTrEaL0123456789",
    "TEACHER_KEY": "tk-0f1e2d3c4b5a69788796",
}


def personahub(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "personahub", *words]
    root = Path(__file__).parents[1]
    return subprocess.run(
        command, cwd=root, env={**os.environ, **environment}, capture_output=True, text=True, timeout=280
    )


def test_no_key_is_in_any_file_of_a_run(tmp_path: Path) -> None:
    """Journals, manifests, W&B's own files and logs, a published folder, and what the commands say."""
    with endpoint() as url:
        teacher = f"{{kind: openai, model: simulated-teacher, base_url: '{url}/v1', concurrency: 8, api_key_env: TEACHER_KEY}}"
        ran = personahub(
            "run", "configs/quickstart.yaml", "--runs", str(tmp_path / "runs"), "--only", "first_personas",
            f"engines.teacher={teacher}", "stages.sources.config.limit=8", "tracking.wandb=offline",
            **KEYS, HOME=str(tmp_path / "home"),
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    artifact = tmp_path / "runs/quickstart/first_personas"
    pushed = personahub("push", str(artifact), "--dry-run", str(tmp_path / "published"), **KEYS)
    assert pushed.returncode == 0, pushed.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    kinds = {file.suffix for file in files}
    assert {".jsonl", ".json", ".parquet", ".wandb", ".log", ".md"} <= kinds, kinds
    said = ran.stdout + ran.stderr + pushed.stdout + pushed.stderr
    for name, key in KEYS.items():
        assert key not in said
        holders = [str(file) for file in files if key.encode() in file.read_bytes()]
        assert holders == [], f"{name} is in {holders}"


@pytest.mark.parametrize(
    "secret", ["http://user:pass@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?key=sk-1", "api_key: sk-1"]
)
def test_a_key_in_a_config_is_refused(secret: str, tmp_path: Path) -> None:
    extra = secret if secret.startswith("api_key") else f"base_url: '{secret}'"
    teacher = f"engines.teacher={{kind: openai, model: m, {extra}}}"
    result = personahub("run", "configs/quickstart.yaml", "--runs", str(tmp_path), teacher)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../outside", "a/b", "/tmp/outside", ".hidden", "..", "a\\b", "a b", "-x", "a\n"])
def test_no_name_leads_out_of_the_runs_folder(name: str, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    texts.write_text(
        '{"text": "A bus driver writes down what happened on the early shift, stop by stop, and why the bus was late at the school."}\n'
    )
    config = tmp_path / "evil.yaml"
    stage = f"{{run: personahub.sources, config: {{path: {texts}}}}}"
    for experiment, step in ((name, "fine"), ("fine", name)):
        quoted = [part.replace("\\", "\\\\").replace("\n", "\\n") for part in (experiment, step)]
        config.write_text(f'experiment: "{quoted[0]}"\nstages:\n  "{quoted[1]}": {stage}\n')
        result = personahub("run", str(config), "--runs", str(tmp_path / "in" / "runs"))
        assert result.returncode == 2, result.stdout
        assert "should match pattern" in result.stderr.lower()
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["evil.yaml", "texts.jsonl"]


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    """Tags that unsafe loaders act on; each would leave a file behind."""
    for number, tag in enumerate(("!!python/object/apply:os.system", "!!python/object/new:subprocess.check_output")):
        config = tmp_path / f"{number}.yaml"
        config.write_text(f"experiment: x\ndescription: {tag} ['touch {tmp_path}/ran{number}']\nstages: {{}}\n")
        result = personahub("plan", str(config))
        assert result.returncode == 2
        assert len(result.stderr.strip().splitlines()) == 1
        override = personahub("plan", "configs/quickstart.yaml", f"description={tag} ['touch {tmp_path}/ran{number}']")
        assert override.returncode == 2
    assert not list(tmp_path.glob("ran*"))


def test_a_manifest_cannot_send_a_reader_elsewhere(tmp_path: Path) -> None:
    """Names of shards in a stranger's manifest can only be names of files next to it."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text(
        '{"text": "A bus driver writes down what happened on the early shift, stop by stop, and why the bus was late at the school."}\n'
    )
    config = tmp_path / "x.yaml"
    config.write_text(f"experiment: x\nstages:\n  s: {{run: personahub.sources, config: {{path: {texts}}}}}\n")
    assert personahub("run", str(config), "--runs", str(tmp_path / "runs")).returncode == 0
    artifact = tmp_path / "runs/x/s"
    secret = tmp_path / "secret.parquet"
    secret.write_bytes((artifact / "00000.parquet").read_bytes())
    manifest = artifact / "manifest.json"
    for name in ("../../../secret", str(tmp_path / "secret")):
        manifest.write_text(manifest.read_text().replace('"00000":', f'"{name}":'))
        result = personahub("show", str(artifact))
        assert result.returncode == 2, result.stdout
        assert "manifest" in result.stderr
        manifest.write_text(manifest.read_text().replace(f'"{name}":', '"00000":'))
    assert open_artifact(artifact).num_rows == 1


def test_nothing_unpickles_unpacks_or_trusts(repository: Path) -> None:
    """By the syntax tree: no pickle, no unsafe YAML, no archive, no code from a hub, no `eval` outside of the sandbox."""
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "tarfile", "zipfile"}
    calls = {"yaml.load", "yaml.full_load", "yaml.unsafe_load", "torch.load", "shutil.unpack_archive", "eval", "exec"}
    allowed = {("synth/sandbox/server.py", "exec"), ("personahub/core/files.py", "yaml.load")}  # with a safe loader
    found = []
    for file in (file for package in PACKAGES for file in (repository / package).rglob("*.py")):
        where = file.relative_to(repository).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            match node:
                case ast.Import(names=names):
                    bad = [name.name for name in names if name.name.split(".")[0] in modules]
                case ast.ImportFrom(module=str(module)):
                    bad = [module] if module.split(".")[0] in modules else []
                case ast.Call(func=function, keywords=keywords):
                    trusting = ("trust_remote_code", "allow_pickle")
                    loose = [k.arg for k in keywords if k.arg in trusting and getattr(k.value, "value", 1) is not False]
                    bad = [name for name in [ast.unparse(function)] if name in calls] + loose
                case _:
                    continue
            found += [(where, name) for name in bad if (where, name) not in allowed]
    assert found == []
