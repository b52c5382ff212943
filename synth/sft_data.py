"""Make training data and a synthetic test set in TRL's prompt-completion format.

    data:
      run: synth.sft_data
      inputs: {problems: clean}          # `test: verified_test` takes the test set from elsewhere
      config: {test_problems: 300}

Every record has a `split`. Test problems are the first ones in an order shuffled by the seed. They do not depend
on sharding, and a larger number includes the problems of a smaller one. The same is true for training problems
with `max_train`. A problem is in only one split. Training problems that are near-duplicates of a test problem are
rejected as `near_duplicate_of_test`, with the test problem and the similarity in the detail.

The stage's folder also has a dataset card and the files `export/train.jsonl` and `export/test.jsonl`
({"prompt": [...], "completion": [...]} per line, for `load_dataset("json")` or another trainer).
"""

from __future__ import annotations

import functools
import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from personahub.core.artifact import Artifact
from personahub.core.config import UNLESS_DEFAULT, StageConfig
from personahub.core.duplicates import surface
from personahub.core.errors import Rejected, UserError
from personahub.core.forecast import Forecast, Work
from personahub.core.identity import digest
from personahub.core.records import SFT, Row
from personahub.core.shards import shard_name
from personahub.core.stage import Shard, Stage
from personahub.core.template import Message
from personahub.core.texts.replies import without_thinking
from personahub.core.texts.student_prompt import StudentTemplate, student_prompt
from synth.sft_export import export

VERSION = "2"
INPUTS = ("problems", "test?")
WORK = Work(cpu_seconds=7e-05, memory_bytes=350, measured_by="benchmarks.million")


class Config(StageConfig):
    """The prompt, the split, and the allowed similarity of training and test problems."""

    template: StudentTemplate = "solve"
    system_prompt: str | None = Field(default=None, description="Null: none, so the chat template may add its default.")
    test_problems: int | None = Field(
        default=None, ge=0, description="Exact number of test problems. Null: none, or all of the input `test`."
    )
    test_min_vote_share: float = Field(
        default=0.0, ge=0, le=1, description="Minimum share of votes for a test problem's answer."
    )
    near_duplicate: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Jaccard similarity of words and numbers from which problems are near-duplicates.",
    )
    keep_thinking: Annotated[bool, UNLESS_DEFAULT] = Field(
        default=False,
        description="Train on the teacher's thinking text too, where it is part of its reply. By default it is cut.",
    )
    max_train: int | None = Field(default=None, gt=0, description="Maximum number of training problems.")


@dataclass(frozen=True)
class Split:
    """The split of each problem. `near` names the test problem that a training problem is similar to."""

    test: frozenset[str]
    near: Mapping[str, str] = field(default_factory=dict)
    last_train: str | None = None  # rank of the last training problem with `max_train`

    def place(self, problem_id: str, rank: str) -> str:
        """Return `test` or `train`.

        Raises:
            Rejected: `near_duplicate_of_test` or `over_max_train`.
        """
        if problem_id in self.test:
            return "test"
        if problem_id in self.near:
            raise Rejected("near_duplicate_of_test", self.near[problem_id])
        if self.last_train is not None and rank > self.last_train:
            raise Rejected("over_max_train")
        return "train"


def run(stage: Stage[Config]) -> None:
    """Write both splits, the exports and the card."""
    config, problems = stage.config, stage.input("problems")
    separate = stage.inputs.get("test")
    test = choose_test(config, separate or problems, all_of_it=separate is not None)
    split = _split(config, problems, test, taken_from_problems=separate is None)
    stage.map_shards(functools.partial(_process, split), problems, SFT)
    if separate is not None:
        _write_separate_test(stage, separate, frozenset(row["id"] for row in test))
    stage.report(**export(stage))


def choose_test(config: Config, source: Artifact, all_of_it: bool) -> list[Row]:
    """Return the test problems (`id`, `problem`) in seed order, deduplicated.

    Raises:
        UserError: fewer problems qualify than `test_problems`.
    """
    wanted = config.test_problems
    if wanted is None:
        if not all_of_it:
            return []
        return _without_near_duplicates(config, _ranked(config, _eligible(config, source), None))
    if wanted == 0:
        return []
    count = wanted
    while True:
        count *= 2
        candidates = _ranked(config, _eligible(config, source), count)
        chosen = _without_near_duplicates(config, candidates)[:wanted]
        if len(chosen) == wanted:
            return chosen
        if len(candidates) < count:
            raise UserError(
                f"test_problems: {wanted} are requested, but only {len(chosen)} of {source.num_rows} problems in"
                f" {source.path} have an answer with enough votes and no near-duplicate; lower test_problems"
            )


def _eligible(config: Config, source: Artifact) -> Iterator[Row]:
    for row in source.rows(["id", "problem", "answer", "vote_share"]):
        if row["answer"] is not None and (row["vote_share"] or 0.0) >= config.test_min_vote_share:
            yield {"id": row["id"], "problem": row["problem"]}


def _ranked(config: Config, rows: Iterable[Row], number: int | None) -> list[Row]:
    if number is None:
        return sorted(rows, key=lambda row: _rank(config, row["id"]))
    return heapq.nsmallest(number, rows, key=lambda row: _rank(config, row["id"]))


def _rank(config: Config, problem_id: str) -> str:
    return digest("split", config.seed, problem_id)


def _without_near_duplicates(config: Config, rows: list[Row]) -> list[Row]:
    if not rows:
        return []
    return [rows[index] for index in surface.deduplicate([row["problem"] for row in rows], config.near_duplicate).kept]


def _split(config: Config, problems: Artifact, test: list[Row], taken_from_problems: bool) -> Split:
    test_ids = frozenset(row["id"] for row in test) if taken_from_problems else frozenset()
    near: dict[str, str] = {}
    ranks: list[str] = []
    for shard in problems.shard_names:
        rows = [row for row in problems.read_shard(shard, ["id", "problem"]) if row["id"] not in test_ids]
        near |= _near_test(config, rows, test)
        if config.max_train is not None:
            fresh = (_rank(config, row["id"]) for row in rows if row["id"] not in near)
            ranks = heapq.nsmallest(config.max_train, [*ranks, *fresh])
    return Split(test_ids, near, ranks[-1] if ranks else None)


def _near_test(config: Config, rows: list[Row], test: list[Row]) -> dict[str, str]:
    """Return the ids of near-duplicates of a test problem, with the reason's detail."""
    if not rows or not test:
        return {}
    found, similarity = surface.nearest(
        [row["problem"] for row in rows], [row["problem"] for row in test], config.near_duplicate
    )
    return {
        row["id"]: f"test problem {test[index]['id']} (similarity {share:.3f})"
        for row, index, share in zip(rows, found, similarity, strict=True)
        if index >= 0
    }


def _process(split: Split, stage: Stage[Config], shard: Shard) -> None:
    config = stage.config
    ask = student_prompt(config.template, config.system_prompt)
    for row in shard.rows():
        try:
            place = split.place(row["id"], _rank(config, row["id"]))
        except Rejected as error:
            shard.reject(row, error)
        else:
            shard.write(_record(config, row, place, ask(row["problem"])))


def _write_separate_test(stage: Stage[Config], source: Artifact, chosen: frozenset[str]) -> None:
    """Write the test problems as one shard after those of `problems`."""
    ask = student_prompt(stage.config.template, stage.config.system_prompt)
    name = shard_name(1 + max((int(shard) for shard in stage.input("problems").shard_names), default=-1))
    if (stage.path / f"{name}.parquet").exists():
        return
    with stage.writer(name, SFT) as writer:
        for row in source.rows():
            writer.rows_in += 1
            if row["id"] in chosen:
                writer.write(_record(stage.config, row, "test", ask(row["problem"])))
            else:
                writer.reject(row, Rejected("not_in_test", "no answer, too few votes, or not among test_problems"))


def _record(config: Config, row: Row, split: str, prompt: Iterable[Message]) -> Row:
    solution = row["solution"] if config.keep_thinking else without_thinking(row["solution"])
    return {
        "id": row["id"],
        "split": split,
        "prompt": list(prompt),
        "completion": [{"role": "assistant", "content": solution.strip()}],
        "problem": row["problem"],
        "answer": row["answer"],
        "persona_id": row["persona_id"],
        "document_id": row["document_id"],
        "licence": row["licence"],
        "model": row["solution_model"],
        "machine_generated": True,
    }


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:
    """Forecast the number of records. Every problem is expected to be used."""
    rows = rows_in["problems"] + rows_in.get("test", 0)
    if config.max_train is not None:
        rows = min(rows, config.max_train + (config.test_problems or rows_in.get("test", 0)))
    return Forecast(rows_out=rows, disk_bytes=math.ceil(rows * 6000))
