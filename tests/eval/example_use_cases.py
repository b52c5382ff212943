"""Output of the use cases on the small experiment: texts, conversations, tools, problems."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from personahub.core import records
from personahub.core.artifact import Artifact
from personahub.core.errors import Rejected
from personahub.core.identity import content_id
from tests.eval.example_rows import HOSTILE, problem_row

CODE = "def order(stock):\n    return max(0, 12 - stock)"


def made_row(persona: records.Row, stage: str, **values: object) -> records.Row:
    """A record with the lineage that all of them have."""
    return {
        "id": content_id(stage, persona["id"]),
        "persona_id": persona["id"],
        "persona": persona["persona"],
        "document_id": persona["document_id"],
        "seed": 7,
        "licence": "CC0-1.0",
        "model": "simulated-teacher",
        "machine_generated": True,
        **values,
    }


def text_row(persona: records.Row, use_case: str, text: str) -> records.Row:
    more = {"use_case": use_case, "template": use_case, "prompting": "zero_shot", "sample": 0, "fields": "{}"}
    return made_row(persona, use_case, text=text, **more)


def interface_row(persona: records.Row) -> records.Row:
    called = {"name": f"Reorder for {persona['persona'][:20]}", "description": "How much to order", "example": {}}
    return text_row(persona, "tool_interface", json.dumps(called, indent=2))


def tool_row(interface: records.Row) -> records.Row:
    kept = {key: value for key, value in interface.items() if key in records.TOOL.names}
    more = {"interface_id": interface["id"], "interface": interface["text"], "interface_model": interface["model"]}
    return kept | more | {"id": content_id("tool", interface["id"]), "code": CODE, "example_result": '{"pieces": 12}'}


def talk_row(persona: records.Row, opening: str, said: Sequence[str], partner: records.Row | None) -> records.Row:
    roles = ("user", "assistant")
    shown = {"partner_id": partner["id"], "partner": partner["persona"]} if partner else {}
    kind = "two_personas" if partner else "assistant"
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(said)]
    return made_row(persona, kind, opening_id=opening, kind=kind, messages=messages, **shown)


def write_use_cases(root: Path, made: dict[str, Artifact], build: Callable[..., Artifact]) -> None:
    """Stages behind `personas`, each with its rejected records; `unique` takes over the records of `instructions`."""
    people = list(made["personas"].rows())
    behind = {"personas": made["personas"]}

    npcs = [text_row(one, "npc", f"Name: Brindo\nRole: keeper\nKnows: {one['persona']} {HOSTILE}") for one in people]
    refused = ({**people[0], "sample": 0}, Rejected("refusal", ""), "I cannot write about this person.")
    made["npcs"] = build(root / "npcs", "synth.usecases", npcs, records.SYNTHETIC, [refused], inputs=behind)

    asked = [text_row(one, "instruction", f"Plan the week of {one['persona']}") for one in people]
    asked[0]["persona"] = None  # of a no-persona arm
    made["instructions"] = build(root / "instructions", "synth.usecases", asked, records.SYNTHETIC, inputs=behind)
    near = [(asked[-1], Rejected("near_duplicate_surface", f"similarity 0.9 to {asked[0]['id']}"), None)]
    upstream = {"personas": made["instructions"]}
    made["unique"] = build(root / "unique", "personahub.dedup", asked[:-1], records.SYNTHETIC, near, inputs=upstream)

    said = ("How do I begin?", "With a list.", "And then?", "Check it twice.")
    pairs = itertools.pairwise(people)
    talks = [talk_row(one, one["id"], said, other) for one, other in pairs]
    half = (talk_row(people[0], people[0]["id"], said[:1], people[1]), Rejected("no_prefix", "no line"), "Well, hello")
    config = {"template": "dialogue"}
    made["dialogues"] = build(
        root / "dialogues", "synth.conversations", talks, records.CONVERSATION, [half], inputs=behind, config=config
    )

    interfaces = [interface_row(one) for one in people]
    made["interfaces"] = build(root / "interfaces", "synth.usecases", interfaces, records.SYNTHETIC, inputs=behind)
    broken = (interfaces[0], Rejected("no_function", "order"), "import os  # nothing else")
    tools = [tool_row(one) for one in interfaces[1:]]
    upstream = {"interfaces": made["interfaces"]}
    made["tools"] = build(root / "tools", "synth.tools", tools, records.TOOL, [broken], inputs=upstream)

    puzzles = [problem_row(one, 0) for one in people]
    made["puzzles"] = build(root / "puzzles", "synth.problems", puzzles, records.PROBLEM, inputs=behind)
