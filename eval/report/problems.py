"""Collects verified problems for the sample browser, with votes and students' answers.

They include accepted problems of both splits and rejected problems of every reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from eval.report.drawn import (
    PROBLEM,
    SHORT,
    SOLUTION,
    cut,
    drawn_ids,
    drawn_rejected,
    new_sample,
    part,
    rows_where,
)
from eval.report.summary import made_by
from personahub.core.artifact import Artifact
from personahub.core.identity import derive_seed
from personahub.core.records import Row


def problem_samples(artifacts: Sequence[Artifact], count: int, seed: int) -> list[dict[str, Any]]:
    """Chooses up to `count` problems.

    Two thirds are accepted, one third rejected after `synth.solutions`.

    Args:
        artifacts: artifacts of all stages, in pipeline order.
        count: total number of problems.
        seed: seed of the choice.
    """
    checking = made_by(artifacts, "synth.verify", "synth.decontaminate", "synth.sft_data")
    rejected = [_rejected_sample(stage, row) for stage, row in drawn_rejected(checking, count, seed)]
    chosen = [*_accepted_samples(artifacts, count - len(rejected), seed), *rejected]
    attach_solutions(chosen, artifacts)
    _attach_votes(chosen, artifacts)
    _attach_graded(chosen, artifacts)
    return chosen


def _accepted_samples(artifacts: Sequence[Artifact], count: int, seed: int) -> list[dict[str, Any]]:
    """Chooses accepted problems. Half are from the test split, for which there are students' answers."""
    source = [*made_by(artifacts, "synth.verify"), *made_by(artifacts, "synth.sft_data")][-1:]
    chosen: dict[str, str] = {}
    for artifact in source:
        if artifact.manifest.module == "synth.sft_data":
            test = drawn_ids(artifact, count // 2, seed, "test")
            train = drawn_ids(artifact, count - len(test), seed, "train")
            chosen = dict.fromkeys(test, "test") | dict.fromkeys(train, "train")
        else:
            chosen = dict.fromkeys(drawn_ids(artifact, count, seed), "accepted")
    rows = rows_where(source, "id", chosen)
    ordered = sorted(rows, key=lambda id_: derive_seed(seed, "report", id_))
    return [_sample(rows[id_], chosen[id_]) for id_ in ordered]


def _rejected_sample(stage: str, row: Row) -> dict[str, Any]:
    return _sample(json.loads(row["record"]), "rejected", f"{stage}: {row['reason']}", row["detail"])


def _sample(row: Row, outcome: str, reason: str | None = None, detail: str | None = None) -> dict[str, Any]:
    sample = new_sample(row, [problem_part(row)], outcome, reason, detail)
    return {**sample, "votes": _votes(row)}


def problem_part(row: Row) -> Row:
    """Returns the text of a problem.

    Its notes come with its solutions, because later stages only know who solved it.
    """
    return part("Problem", cut(row.get("problem"), PROBLEM))


def _votes(row: Row) -> list[dict[str, Any]]:
    """Returns votes with `won`: whether a vote is in the largest cluster."""
    votes = row.get("votes") or []
    clusters = Counter(vote["cluster"] for vote in votes if vote["cluster"] is not None and vote["cluster"] >= 0)
    largest = max(clusters, key=lambda cluster: (clusters[cluster], -cluster), default=None)
    return [
        {
            **vote,
            "answer": cut(vote["answer"], SHORT) if vote["answer"] is not None else None,
            "won": largest is not None and vote["cluster"] == largest and clusters[largest] > 1,
        }
        for vote in votes
    ]


def attach_solutions(samples: Sequence[dict[str, Any]], artifacts: Sequence[Artifact]) -> None:
    """Attaches the template and model of each problem, and its solutions."""
    rows = rows_where(made_by(artifacts, "synth.solutions"), "id", [sample["id"] for sample in samples])
    for sample in samples:
        row = rows.get(sample["id"])
        if row is not None:
            sample["parts"][0]["notes"] = [row["template"], row["model"]]
            sample["samples"] = [{**each, "text": cut(each["text"], SOLUTION)} for each in row["samples"]]


def _attach_votes(samples: Sequence[dict[str, Any]], artifacts: Sequence[Artifact]) -> None:
    rows = rows_where(made_by(artifacts, "synth.verify"), "id", [sample["id"] for sample in samples])
    for sample in samples:
        row = rows.get(sample["id"])
        if row is not None:
            sample["votes"] = _votes(row)
            sample |= {key: row[key] for key in ("vote_share", "policy")}


def _attach_graded(samples: Sequence[dict[str, Any]], artifacts: Sequence[Artifact]) -> None:
    """Attaches the answers of every benchmark stage to problems of the test split."""
    ids = [sample["id"] for sample in samples if sample["outcome"] == "test"]
    for artifact in made_by(artifacts, "eval.benchmark"):
        rows = rows_where([artifact], "id", ids)
        for sample in samples:
            row = rows.get(sample["id"])
            if row is not None:
                shown = {key: row[key] for key in ("verdict", "rule", "finish_reason")}
                shown["predicted"] = cut(row["predicted"], SHORT) if row["predicted"] is not None else None
                shown["completion"] = cut(row["completion"], SOLUTION)
                sample["graded"].append({"stage": artifact.manifest.stage, **shown})
