"""Personas and what was made with them, for the page's browser of a run that verified no problem.

Records of the last stage that wrote personas, and of every stage that wrote problems, texts of a use case,
conversations or tools, unless a later one (dedup, say) took its records over; with them what was
rejected on the way, of every reason. Kinds of records are told by their columns: the stage may be anybody's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from eval.report.drawn import (
    PERSONA,
    SOLUTION,
    column_names,
    cut,
    drawn_ids,
    drawn_rejected,
    in_turn,
    new_sample,
    part,
    rows_where,
)
from eval.report.problems import attach_solutions
from eval.report.summary import NO_DATA
from personahub.core.artifact import Artifact
from personahub.core.records import Row

_KINDS = {  # by columns; the first that fits
    "conversation": {"messages", "opening_id"},
    "tool": {"code", "interface"},
    "text": {"use_case", "text"},
    "problem": {"problem", "persona_id"},
    "persona": {"persona", "hop"},
    "document": {"text", "source"},
}
_TITLES = {"npc": "Game character"}  # of use cases whose name is no word
_SPEAKERS = {"assistant": ("User", "Assistant"), "two_personas": ("Persona", "Partner")}
_TALK = 6000  # characters that are shown of a conversation
_MOST_FIELDS = 8  # of a profile; ours have four


def unverified_samples(artifacts: Sequence[Artifact], count: int, seed: int) -> list[dict[str, Any]]:
    """Up to `count` records: two thirds kept, as many of each stage, one third rejected.

    Args:
        artifacts: of all stages, in pipeline order.
        count: how many in all.
        seed: of the choice.
    """
    makers = [artifact for artifact in artifacts if not artifact.manifest.module.startswith(NO_DATA)]
    behind = [artifact for artifact in makers if artifact.manifest.module != "personahub.sources"]
    rejected = [_rejected_sample(stage, row) for stage, row in drawn_rejected(behind, count, seed)]
    chosen = [*_kept_samples(_last_of_their_kind(makers), count - len(rejected), seed), *rejected]
    attach_solutions([sample for sample in chosen if sample["outcome"] != "rejected"], artifacts)
    return chosen


def _last_of_their_kind(artifacts: Sequence[Artifact]) -> list[tuple[Artifact, str]]:
    """Artifacts whose records no later one of the same kind was made from, and of personas the last only."""
    kinds = {artifact.fingerprint: kind_of(column_names(artifact)) for artifact in artifacts}
    passed_on = {
        reference.fingerprint
        for artifact in artifacts
        for reference in artifact.manifest.inputs.values()
        if kinds.get(reference.fingerprint) == kinds[artifact.fingerprint]
    }
    ends = [
        (artifact, kind)
        for artifact in artifacts
        if (kind := kinds[artifact.fingerprint]) not in (None, "document") and artifact.fingerprint not in passed_on
    ]
    personas = [artifact for artifact, kind in ends if kind == "persona"]
    return [(artifact, kind) for artifact, kind in ends if kind != "persona" or artifact is personas[-1]]


def kind_of(names: Collection[str]) -> str | None:
    """What records with these columns are: a key of `_KINDS`, or None."""
    return next((kind for kind, columns in _KINDS.items() if columns | {"id"} <= set(names)), None)


def _kept_samples(ends: Sequence[tuple[Artifact, str]], count: int, seed: int) -> list[dict[str, Any]]:
    """As many of each stage as there are, in pipeline order."""
    piles = [[(place, id_) for id_ in drawn_ids(artifact, count, seed)] for place, (artifact, _) in enumerate(ends)]
    drawn = in_turn(piles, count)
    samples = []
    for place, (artifact, kind) in enumerate(ends):
        ids = [id_ for where, id_ in drawn if where == place]
        rows = rows_where([artifact], "id", ids)
        template = artifact.manifest.config.get("template")  # a conversation does not name its own
        for row in (rows[id_] for id_ in ids):
            sample = _sample(kind, {"template": template, **row}, "kept")
            samples.append({**sample, "stage": artifact.manifest.stage})
    return samples


def _rejected_sample(stage: str, row: Row) -> dict[str, Any]:
    """The record as it came into the stage, and the model's text that did not qualify."""
    record = json.loads(row["record"])
    kind = kind_of(record)
    sample = _sample(kind, record, "rejected", f"{stage}: {row['reason']}", row["detail"])
    if row["raw"]:
        sample["parts"].append(part("Reply", row["raw"], form="reply"))
    elif not sample["parts"] and not sample["persona"]:
        sample["parts"].append(part("Record", row["record"], form="code"))
    return sample


def _sample(
    kind: str | None, row: Row, outcome: str, reason: str | None = None, detail: str | None = None
) -> dict[str, Any]:
    sample = new_sample(row, _parts(kind, row), outcome, reason, detail)
    if kind == "persona":
        return {**sample, "persona": row, "persona_id": row.get("id")}
    if kind == "document":
        return {**sample, "document_id": row.get("id")}
    return sample


def _parts(kind: str | None, row: Row) -> list[Row]:
    """What a record consists of; nothing for a persona, which is the end of its own lineage."""
    unused = "the persona was not shown" if row.get("persona_id") and not row.get("persona") else None
    notes = [row.get("template"), row.get("prompting"), unused, row.get("model")]
    match kind:
        case "problem":
            return [part("Problem", row["problem"], notes)]
        case "text":
            return [_text_part(row, notes)]
        case "conversation":
            return _conversation_parts(row, notes)
        case "tool":
            code = part("Code", row["code"], [row.get("model")], "code")
            result = part("Result of the example", row.get("example_result"), form="code")
            return [_interface_part(row["interface"], [row.get("template"), row.get("interface_model")]), code, result]
    return []


def _text_part(row: Row, notes: Sequence[str | None]) -> Row:
    if row["use_case"] == "tool_interface":
        return _interface_part(row["text"], notes)
    title = _TITLES.get(row["use_case"]) or row["use_case"].replace("_", " ").capitalize()
    return part(title, row["text"], notes)


def _interface_part(interface: str, notes: Sequence[str | None]) -> Row:
    shown = part("Interface", interface, notes, "code")
    parsed = _parsed(interface)
    gist = ": ".join(str(parsed[key]) for key in ("name", "description") if key in parsed)
    return {**shown, "gist": gist} if gist else shown


def _conversation_parts(row: Row, notes: Sequence[str | None]) -> list[Row]:
    messages = row["messages"]
    speakers = _SPEAKERS.get(row["kind"], _SPEAKERS["assistant"])
    turns = [
        {"speaker": speakers[message["role"] == "assistant"], "text": cut(message["content"], _TALK // len(messages))}
        for message in messages
    ]
    parts = [part("Partner", cut(row["partner"], PERSONA), gist="")] if row.get("partner") else []
    if turns:
        length = f"{len(turns)} turn{'s' if len(turns) > 1 else ''}"
        parts.append(part("Conversation", messages[0]["content"], [length, *notes], "talk", turns=turns))
    return parts


def profile_fields(profile: str | None) -> list[tuple[str, str]]:
    """The parts of a persona's profile as (name, text); as it stands, where it is no JSON object."""
    if not profile:
        return []
    parsed = _parsed(profile)
    if not parsed:
        return [("profile", cut(profile, SOLUTION))]
    return [(str(name), cut(_field_text(value), PERSONA)) for name, value in list(parsed.items())[:_MOST_FIELDS]]


def _field_text(value: Any) -> str:
    if isinstance(value, Mapping):  # a demographic attribute with its evidence
        return ", ".join(f"{name} {_field_text(inner)}" for name, inner in value.items())
    return "; ".join(map(_field_text, value)) if isinstance(value, list) else str(value)


def _parsed(text: str) -> dict[str, Any]:
    """A JSON object; empty if it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
