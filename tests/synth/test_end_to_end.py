"""All six use cases from the personas of the Persona Hub release, with the simulated teacher and with a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from personahub.commands.dataset_card import dataset_card, upstream
from personahub.core.artifact import Artifact, open_artifact
from personahub.core.identity import content_id
from personahub.core.records import PERSONA

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

RELEASE, LICENCE = "tencent-ailab/persona-hub", "CC BY-NC-SA 4.0"
# Of each of the paper's six use cases (section 4) the stages of configs/usecases.yaml that end in records.
USE_CASES = {
    "math": ("math", "math_unique"),
    "logic": ("logic_general", "logic_spatial", "logic_ruozhiba"),
    "instructions": ("instructions", "conversations", "dialogues"),
    "knowledge": ("articles", "reading"),
    "npc": ("npcs",),
    "tools": ("interfaces", "tools"),
}
STAGES = {stage for stages in USE_CASES.values() for stage in stages}


def released(test_data: Path, count: int) -> list[dict[str, Any]]:
    """Personas of the release: the text they were inferred from was not released, so they are their own root."""
    rows = []
    for line in (test_data / "personas" / "personahub_tool_personas.jsonl").open(encoding="utf-8"):
        persona = json.loads(line)["persona"]
        rows.append(
            {
                "id": content_id("persona", persona),
                "persona": persona,
                "document_id": content_id("document", persona),
                "hop": 0,
                "source": RELEASE,
                "licence": LICENCE,
                "machine_generated": True,
            }
        )
        if len(rows) == count:
            break
    return rows


def run_use_cases(repository: Path, folder: Path, personas: Artifact, changes: dict[str, Any]) -> dict[str, Artifact]:
    """configs/usecases.yaml with `personas` adopted instead of inferred; `changes` are laid over its sections."""
    base = yaml.safe_load((repository / "configs" / "usecases.yaml").read_text(encoding="utf-8"))
    stages = {**base["stages"], **changes.get("stages", {}), "personas": {"adopt": str(personas.path)}}
    del stages["sources"], stages["report"]
    file = folder / "usecases.yaml"
    file.write_text(yaml.safe_dump({**base, **changes, "stages": stages}), encoding="utf-8")
    words = [sys.executable, "-m", "personahub", "run", str(file), "--runs", str(folder / "runs")]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True, timeout=800)
    if "apt-get install bubblewrap" in done.stderr:
        pytest.skip("no sandbox for the tools on this machine")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return {path.name: open_artifact(path) for path in (folder / "runs" / "usecases").iterdir() if path.is_dir()}


def test_six_use_cases_from_released_personas(test_data, repository, make_artifact, tmp_path) -> None:
    rows = released(test_data, 120)
    made = run_use_cases(repository, tmp_path, make_artifact("personas", PERSONA, rows), {})
    assert made.keys() == STAGES
    known = {row["id"]: row for row in rows}
    for name, artifact in made.items():
        records = list(artifact.rows())
        assert len(records) > 60, name
        for record in records:
            persona = known[record["persona_id"]]
            assert record["persona"] == persona["persona"]
            assert record["document_id"] == persona["document_id"]
            assert record["licence"] == LICENCE
    text = dataset_card(made["tools"])
    assert "license: cc-by-nc-sa-4.0" in text
    assert RELEASE in text
    assert [stage.name for stage in upstream(made["tools"])] == ["personas", "interfaces"]


def test_any_record_leads_back_to_its_web_text(test_data, run_module, tmp_path) -> None:
    """From real web texts over related personas and verified solutions, by ids alone."""
    rows = [json.loads(line) for line in (test_data / "webtext" / "documents.jsonl").open(encoding="utf-8")][::40]
    file = tmp_path / "documents.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    texts = run_module("personahub.sources", {"path": str(file)})
    inferred = run_module("personahub.text_to_persona", {"engine": "teacher"}, "inferred", documents=texts)
    personas = run_module("personahub.persona_to_persona", {"engine": "teacher", "hops": 2}, personas=inferred)
    problems = run_module("synth.problems", {"engine": "teacher"}, personas=personas)
    samples = {"samples": [{"engine": "teacher", "n": 3}]}
    verified = run_module("synth.verify", {}, solutions=run_module("synth.solutions", samples, problems=problems))

    by_document = {row["id"]: row for row in texts.rows()}
    by_persona = {row["id"]: row for row in personas.rows()}
    originals = {row["text"][:200] for row in rows}
    hops = set()
    for record in [*verified.rows(), *(json.loads(row["record"]) for row in verified.rejected())]:
        persona = by_persona[record["persona_id"]]
        hops.add(persona["hop"])
        while persona["parent_id"] is not None:
            assert persona["document_id"] == record["document_id"]
            assert persona["hop"] == by_persona[persona["parent_id"]]["hop"] + 1
            persona = by_persona[persona["parent_id"]]
        document = by_document[persona["document_id"]]
        assert document["licence"]
        assert any(document["text"].startswith(start[:60]) for start in originals)
    assert hops == {0, 1, 2}


MAKE_MODEL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from benchmarks.vllm_throughput import make_model
folder = make_model(Path(sys.argv[2]), "tiny")
import torch, transformers
torch.manual_seed(0)
config = transformers.AutoConfig.from_pretrained(folder)
transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
"""


def test_six_use_cases_through_a_real_server(test_data, repository, make_artifact, vllm, tmp_path) -> None:
    """A random model keeps to no contract, so every record is rejected with its raw text; all that was asked came back.

    Stages that need something kept to work on (conversations, tools, dedup) begin with what the simulated teacher
    has made, and ask the server then.
    """
    model = tmp_path / "model"
    subprocess.run(
        [sys.executable, "-c", MAKE_MODEL, str(repository), str(model)],
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    rows = released(test_data, 8)
    people = make_artifact("personas", PERSONA, rows)
    with vllm.serve(model, tmp_path / "vllm.log") as server:
        real = {"kind": "openai", "model": "tiny", "base_url": server.base_url, "concurrency": 8}
        base = yaml.safe_load((repository / "configs" / "usecases.yaml").read_text(encoding="utf-8"))["stages"]
        short = {"temperature": 1.0, "max_tokens": 24}
        stages = {}
        for name in STAGES - {"math_unique"}:
            stage = base[name]
            config = {**stage["config"], "sampling": short, "attempts": 2}
            if name not in ("instructions", "interfaces"):
                for engine in {"engine", "speaker", "assistant"} & config.keys():
                    config[engine] = "real"
            else:
                config = stage["config"]
            stages[name] = {**stage, "config": config}
        engines = {"teacher": {"kind": "simulated", "model": "simulated-teacher"}, "real": real}
        made = run_use_cases(repository, tmp_path, people, {"engines": engines, "stages": stages})
        finished = server.finished()
    asked = 0
    for name in STAGES - {"math_unique", "instructions", "interfaces"}:
        manifest = made[name].manifest
        rejected = list(made[name].rejected())
        assert manifest.usage.requests > 0, name
        assert manifest.counts.rows_in == made[name].num_rows + len(rejected), name
        assert all(row["reason"] for row in rejected), name
        asked += manifest.usage.requests
    assert sum(finished.values()) == asked
    assert finished.get("abort", 0) == 0
