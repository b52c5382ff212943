"""A small experiment whose artifacts have the real schemas; its evaluation stages really run.

The students are an engine that multiplies and adds, right as often as the `skill.json` in its model
folder says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from personahub.core import records
from personahub.core.artifact import Artifact, InputReference, Manifest, Usage, open_artifact
from personahub.core.errors import Rejected
from personahub.core.experiments.stage_process import run_stage
from personahub.core.files import write_json
from personahub.core.identity import content_id, digest
from personahub.core.shards import ShardWriter, shard_totals
from personahub.core.stage import StageSpec
from tests.eval.example_rows import (
    HOSTILE,
    PERSONAS,
    RELATIVES,
    TEXTS,
    persona_row,
    problem_row,
    reference_rows,
    sft_row,
    solved,
    verified,
)
from tests.eval.example_use_cases import write_use_cases

ENGINE = '''
"""Answers "a x b + c" problems, right as often as its model's skill."""
import asyncio, json, random, re
from pathlib import Path
from personahub.core.engines import Completion, Engine, EngineConfig, RequestRefused

class Config(EngineConfig):
    max_in_flight: int = 0

def open_engine(config):
    return Toy(config)

class Toy(Engine):
    def __init__(self, config):
        self.concurrency = config.concurrency
        file = Path(config.model) / "skill.json"
        self.skill = json.loads(file.read_text())["skill"] if file.exists() else 1.0
        self.log = Path(config.model + ".asked.log") if file.exists() else None  # not in the folder: that is identity

    async def complete(self, request):
        await asyncio.sleep(0)
        text = request.messages[-1]["content"]
        if "REFUSE" in text:
            raise RequestRefused("too_long", "the prompt does not fit")
        if self.log:
            with self.log.open("a") as file:
                file.write(text.splitlines()[0] + chr(10))
        a, b, c = (int(number) for number in re.findall(r"[0-9]+", text)[:3])
        chance = random.Random(request.seed)
        if chance.random() < self.skill:
            answer = a * b + c
        elif chance.random() < 0.2:
            return Completion("Let us see. First we", "length", 40, 2048, "student")
        elif chance.random() < 0.2:
            return Completion("I would rather not say.", "stop", 40, 9, "student")
        else:
            answer = a * b - c
        steps = f"Multiply: ${a} \\\\times {b} = {a * b}$. Then add {c}."
        return Completion(steps + f" The answer is \\\\boxed{{{answer}}}.", "stop", 40, 30, "student")
'''
VERSIONS = {"python": "3.11.13", "torch": "2.13.0", "transformers": "5.19.0", "trl": "1.16.0", "math-verify": "0.9.0"}
Build = Callable[..., Artifact]


@pytest.fixture(scope="session")
def build() -> Build:
    """Writes an artifact as its stage would leave it."""

    def write(
        folder: Path,
        module: str,
        rows: Sequence[records.Row] = (),
        schema: pa.Schema = records.PROBLEM,
        rejected: Sequence[tuple[records.Row, Rejected, str | None]] = (),
        rows_in: int | None = None,
        inputs: Mapping[str, Artifact] | None = None,
        identity: Mapping[str, Any] | None = None,
        usage: Usage = Usage(),  # noqa: B008  (immutable)
        **fields: Any,
    ) -> Artifact:
        folder.mkdir(parents=True, exist_ok=True)
        shards = {}
        if rows or rejected:
            with ShardWriter(folder, "00000", schema) as writer:
                writer.rows_in = len(rows) + len(rejected) if rows_in is None else rows_in
                writer.usage = usage
                for row in rows:
                    writer.write(row)
                for row, error, raw in rejected:
                    writer.reject(row, error, raw)
            shards = {"00000": len(rows)}
        totals = shard_totals(folder / "00000.parquet")
        values = {"config": {}, "summary": {}, "seconds": 1.5, "command": "personahub run configs/small.yaml"} | fields
        manifest = Manifest(
            experiment="small",
            stage=folder.name,
            module=module,
            version="1",
            fingerprint=digest(str(folder)),
            identity=dict(identity or {}),
            inputs={
                name: InputReference(path=str(upstream.path), fingerprint=upstream.fingerprint)
                for name, upstream in (inputs or {}).items()
            },
            shards=shards,
            counts=totals[0] if totals else {},  # type: ignore[arg-type]
            usage=totals[1] if totals else {},  # type: ignore[arg-type]
            created="2026-11-23T08:00:00+00:00",
            versions=VERSIONS,
            **values,
        )
        write_json(folder / "manifest.json", manifest.model_dump(mode="json"))
        return open_artifact(folder)

    return write


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Dotted path of the engine above."""
    folder = tmp_path_factory.mktemp("engine")
    (folder / "tests_engines").mkdir()
    (folder / "tests_engines" / "arithmetic.py").write_text(ENGINE)
    sys.path.insert(0, str(folder))
    return "tests_engines.arithmetic"


@pytest.fixture(scope="session")
def run() -> Callable[..., Artifact]:
    """Runs a real stage in this process."""

    def run_one(
        folder: Path,
        module: str,
        inputs: Mapping[str, Artifact],
        config: Mapping[str, Any] | None = None,
        engines: Mapping[str, dict[str, Any]] | None = None,
    ) -> Artifact:
        spec = StageSpec(
            experiment="small",
            stage=folder.name,
            module=module,
            version="1",
            fingerprint=digest(str(folder), config or {}),
            identity={"engine": dict(engines or {}).get("student", {})},
            config=dict(config or {}),
            inputs={name: InputReference(path=str(a.path), fingerprint=a.fingerprint) for name, a in inputs.items()},
            engines=dict(engines or {}),
        )
        return run_stage(spec, folder)

    return run_one


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory, build: Build, run: Any, engine: str) -> dict[str, Artifact]:
    """All artifacts of a small experiment by stage name; hostile text in one document, persona and solution."""
    root = tmp_path_factory.mktemp("runs") / "small"
    made: dict[str, Artifact] = {}
    _personas(root, made, build)
    _problems(root, made, build)
    _students(root, made, build)
    engines = {"student": {"kind": engine, "model": "student", "concurrency": 16}}
    for name, model in (("before", "base_model"), ("after", "model")):
        inputs = {key: made[key] for key in ("data", "math", "gsm8k")} | {"model": made[model]}
        made[name] = run(root / name, "eval.benchmark", inputs, {"engine": "student", "rows_per_shard": 40}, engines)
    hashing = {"embedder": {"kind": "hashing"}}
    levels = {"levels": [0.2, 0.4, 0.6, 0.8, 0.9], "tolerance": 0.04}
    made["pairs"] = run(root / "pairs", "eval.persona_pairs", {"personas": made["personas"]}, hashing | levels)
    inputs = {"pairs": made["pairs"], "problems": made["problems"]}
    made["similarity"] = run(root / "similarity", "eval.similarity", inputs, hashing)
    inputs = {key: made[key] for key in ("personas", "problems")}
    made["diversity"] = run(root / "diversity", "eval.diversity", inputs, hashing | {"topics": 5})
    made["comparison"] = run(
        root / "comparison", "eval.compare", {name: made[name] for name in ("before", "after")}, {}
    )
    made["strict"] = run(
        root / "strict", "eval.regrade", {"completions": made["after"]}, {"answers": {"rounding_digits": None}}
    )
    return made


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory, build: Build) -> dict[str, Artifact]:
    """Artifacts of an experiment that verifies nothing: personas and what each use case makes of them."""
    root = tmp_path_factory.mktemp("runs") / "collection"
    made: dict[str, Artifact] = {}
    _personas(root, made, build)
    write_use_cases(root, made, build)
    return made


TEACHER = {"engine": {"kind": "simulated", "model": "simulated-teacher", "persona_faults": 0.1}}


def _personas(root: Path, made: dict[str, Artifact], build: Build) -> None:
    documents = [
        {
            "id": content_id("document", text),
            "text": text,
            "kind": kind,
            "source": "walks_of_life.jsonl",
            "licence": "CC0-1.0",
        }
        for text, kind in (*TEXTS, (f"A page with markup: {HOSTILE}", "forum"))
    ]
    made["documents"] = build(
        root / "documents",
        "personahub.sources",
        documents,
        records.DOCUMENT,
        [({"text": "too short"}, Rejected("too_short", "9 characters"), None)],
    )
    first = [persona_row(text, documents[i // 2]["id"]) for i, text in enumerate(PERSONAS)]
    first.append(persona_row(f"A forum moderator who quotes {HOSTILE}", documents[4]["id"]))
    refusal = ({"id": documents[4]["id"], "text": "..."}, Rejected("refusal"), "I'm sorry, I cannot help with that.")
    made["first_personas"] = build(
        root / "first_personas",
        "personahub.text_to_persona",
        first,
        records.PERSONA,
        [refusal],
        rows_in=len(documents),
        inputs={"documents": made["documents"]},
        identity=TEACHER,
        usage=Usage(requests=15, prompt_tokens=5200, completion_tokens=900, cost_usd=0.012),
    )
    related = [
        persona_row(text, first[i]["document_id"], first[i], "colleague" if i % 2 else "neighbour")
        for i, text in enumerate(RELATIVES)
    ]
    related[0]["profile"] = json.dumps({"occupation": "deckhand", "interests": ["knots", "tidal pools"]})
    made["related_personas"] = build(
        root / "related_personas",
        "personahub.persona_to_persona",
        [*first, *related],
        records.PERSONA,
        [(first[0], Rejected("no_relation", "pair 2 has no relation"), "Persona: somebody")] * 3,
        rows_in=len(first),
        inputs={"personas": made["first_personas"]},
        identity=TEACHER,
        usage=Usage(requests=40, prompt_tokens=14000, completion_tokens=4100, cost_usd=0.041),
    )
    kept = [*first, *related]
    near = persona_row(
        "A harbour pilot who guides coasters over a shifting sand bar and plans each passage", "d", first[0]
    )
    made["personas"] = build(
        root / "personas",
        "personahub.dedup",
        kept,
        records.PERSONA,
        [(near, Rejected("near_duplicate", f"of {first[0]['id']} at 0.92"), None)],
        inputs={"personas": made["related_personas"]},
    )


def _problems(root: Path, made: dict[str, Artifact], build: Build) -> None:
    personas = list(made["personas"].rows())
    problems = [problem_row(persona, sample) for persona in personas for sample in range(8)]
    refused = [({**personas[0], "sample": 9}, Rejected("no_prefix", "no line starts with it"), "Sure! Here you go")] * 2
    cost = Usage(requests=len(problems) + 2, prompt_tokens=31000, completion_tokens=14000, cost_usd=0.14)
    made["problems"] = build(
        root / "problems",
        "synth.problems",
        problems,
        records.PROBLEM,
        refused,
        rows_in=len(personas),
        inputs={"personas": made["personas"]},
        identity=TEACHER,
        usage=cost,
        config={"sampling": {"temperature": 1.0}},
    )
    answers = {}
    for i, problem in enumerate(problems):
        right, other = problem["answer"], str(int(problem["answer"]) + 7)
        answers[problem["id"]] = (
            (right, right, right) if i % 4 else (right, other, right) if i % 8 else (right, other, "-1")
        )
    solutions = [solved(problem, answers[problem["id"]]) for problem in problems]
    solutions[3]["samples"][0]["text"] = f"Watch out: {HOSTILE}\n\\boxed{{{problems[3]['answer']}}}"
    made["solutions"] = build(
        root / "solutions",
        "synth.solutions",
        solutions,
        records.SOLUTIONS,
        inputs={"problems": made["problems"]},
        identity={"samples": [{"engine": TEACHER["engine"]}]},
        usage=Usage(requests=3 * len(problems), prompt_tokens=60000, completion_tokens=91000, cost_usd=1.07),
    )
    disputed = [row for row in solutions if len(set(answers[row["id"]])) == 3]
    agreed = [verified(p, answers[p["id"]]) for p in problems if len(set(answers[p["id"]])) < 3]
    made["verified"] = build(
        root / "verified",
        "synth.verify",
        agreed,
        records.VERIFIED,
        [(row, Rejected("no_majority", "3 clusters of 1"), None) for row in disputed],
        inputs={"solutions": made["solutions"]},
    )
    made["clean"] = build(
        root / "clean",
        "synth.decontaminate",
        agreed[1:],
        records.VERIFIED,
        [(agreed[0], Rejected("contaminated", "math item 17 (ngram, 13)"), None)],
        inputs={"problems": made["verified"]},
    )


def _students(root: Path, made: dict[str, Artifact], build: Build) -> None:
    clean = list(made["clean"].rows())
    rows = [sft_row(row, "test" if i % 3 == 0 else "train") for i, row in enumerate(clean)]
    made["data"] = build(root / "data", "synth.sft_data", rows, records.SFT, inputs={"problems": made["clean"]})
    made["math"] = build(
        root / "math",
        "eval.datasets",
        reference_rows(60),
        records.REFERENCE,
        summary={"benchmark": "math", "problems": 60},
    )
    reason = "problem set gsm8k: openai/gsm8k cannot be read from the hub (no network); give `path:` with a local copy"
    made["gsm8k"] = build(
        root / "gsm8k", "eval.datasets", summary={"benchmark": "gsm8k", "problems": 0, "skipped": reason}
    )
    made["base_model"] = build(root / "base_model", "train.init_model", inputs={"data": made["data"]})
    losses = [
        {
            "time": step,
            "step": step,
            "train/loss": 1.2 + 6 * 0.985**step,
            "train/learning_rate": 1e-3 * (1 - step / 300),
        }
        for step in range(5, 300, 5)
    ]
    made["model"] = build(
        root / "model",
        "train.sft",
        inputs={"data": made["data"], "model": made["base_model"]},
        config={"model": {"name_or_path": None}},
        summary={
            "steps": 295,
            "epochs": 3.0,
            "first_loss": 7.2,
            "final_loss": 1.27,
            "parameters": 951_040,
            "examples": 66,
        },
        seconds=97.0,
    )
    (root / "model" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in losses))
    for name, skill in (("base_model", 0.0), ("model", 0.62)):
        (root / name / "model").mkdir()
        (root / name / "model" / "skill.json").write_text(json.dumps({"skill": skill}))
