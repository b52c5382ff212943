"""Collects personas and what was made with them, if no problems were verified.

The samples come from the last stage that wrote personas and from every stage that wrote problems, texts of a use case,
conversations or tools, except where a later stage (such as dedup) passed its records on. Rejected records of every
reason are included. The columns of a record determine its kind, so stages from other packages work too.
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

_KINDS = {  # kind by its columns; the first match counts
    "conversation": {"messages", "opening_id"},
    "tool": {"code", "interface"},
    "text": {"use_case", "text"},
    "problem": {"problem", "persona_id"},
    "persona": {"persona", "hop"},
    "document": {"text", "source"},
}
_TITLES = {"npc": "Game character"}  # of use cases whose name is not a word
_SPEAKERS = {"assistant": ("User", "Assistant"), "two_personas": ("Persona", "Partner")}
_TALK = 6000  # characters shown of a conversation
_MOST_FIELDS = 8  # fields shown of a profile; those of this project have four


def unverified_samples(artifacts: Sequence[Artifact], count: int, seed: int) -> list[dict[str, Any]]:
    """Chooses up to `count` records.

    Two thirds are kept ones, equally many per stage, and one third rejected ones.

    Args:
        artifacts: artifacts of all stages, in pipeline order.
        count: total number of records.
        seed: seed of the choice.
    """
    makers = [artifact for artifact in artifacts if not artifact.manifest.module.startswith(NO_DATA)]
    behind = [artifact for artifact in makers if artifact.manifest.module != "personahub.sources"]
    rejected = [_rejected_sample(stage, row) for stage, row in drawn_rejected(behind, count, seed)]
    chosen = [*_kept_samples(_last_of_their_kind(makers), count - len(rejected), seed), *rejected]
    attach_solutions([sample for sample in chosen if sample["outcome"] != "rejected"], artifacts)
    return chosen


def _last_of_their_kind(artifacts: Sequence[Artifact]) -> list[tuple[Artifact, str]]:
    """Returns artifacts that no later artifact of the same kind was made from. Only the last of personas."""
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
    """Returns the kind of records with these columns: a key of `_KINDS`, or None."""
    return next((kind for kind, columns in _KINDS.items() if columns | {"id"} <= set(names)), None)


def _kept_samples(ends: Sequence[tuple[Artifact, str]], count: int, seed: int) -> list[dict[str, Any]]:
    """Chooses kept records, equally many per stage if possible, in pipeline order."""
    piles = [[(number, id_) for id_ in drawn_ids(artifact, count, seed)] for number, (artifact, _) in enumerate(ends)]
    drawn = in_turn(piles, count)
    samples = []
    for number, (artifact, kind) in enumerate(ends):
        ids = [id_ for owner, id_ in drawn if owner == number]
        rows = rows_where([artifact], "id", ids)
        template = artifact.manifest.config.get("template")  # conversations do not record their template
        for row in (rows[id_] for id_ in ids):
            sample = _sample(kind, {"template": template, **row}, "kept")
            samples.append({**sample, "stage": artifact.manifest.stage})
    return samples


def _rejected_sample(stage: str, row: Row) -> dict[str, Any]:
    """Returns the record that entered the stage, and the model's text that was rejected."""
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
    """Returns the parts of a record. A persona has none, because its lineage already ends with it."""
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
    """Returns a persona's profile as (name, text) fields. If it is not a JSON object, returns the whole text."""
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
    """Parses a JSON object; empty if the text is not one."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
