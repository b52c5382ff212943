"""Texts, personas, problems and solutions of the small experiment, as rows of the real schemas."""

from __future__ import annotations

import random
from collections.abc import Sequence

from personahub.core import records
from personahub.core.identity import content_id
from personahub.core.texts.student_prompt import student_prompt

TEXTS = (
    ("Tide tables for the northern harbour are printed twice a year. Masters of coasting vessels check the height "
     "of water over the bar before they set out, and note the time of slack water in the log.", "handbook"),
    ("A sourdough starter kept at 24 degrees doubles in about five hours. Weigh flour and water to the gram, feed it "
     "at the same hour every day, and discard what you do not need.", "recipe"),
    ("The valley's bee keepers lost one hive in six last winter. Varroa counts in August predict the loss better than "
     "the weather does, a ten-year survey shows.", "news"),
    ("Stained glass is cut a little inside the line, because the lead came takes up a sixteenth of an inch. Apprentices "
     "learn this by breaking sheets.", "craft"),
)  # fmt: skip
PERSONAS = (
    "A harbour pilot who guides coasters over a shifting sand bar and plans every passage around slack water",
    "A hydrographer who surveys estuary channels with a small launch and publishes monthly depth corrections",
    "A night-shift baker who runs a village bakery alone and scales recipes for market days",
    "A food microbiologist who studies how temperature changes the balance of yeasts in fermented dough",
    "A hobby beekeeper with eleven hives who counts mites on sticky boards every August evening",
    "An agricultural statistician who models winter losses of bee colonies for a farmers' union",
    "A stained-glass restorer who recuts medieval panels and mixes silver stain by eye",
    "A vocational school teacher who shows apprentices how to plan cuts that waste little glass",
)
RELATIVES = (
    "The deckhand who sounds the depth with a pole whenever the echo sounder fails",
    "A fishmonger who opens her stall by the tide and not by the clock",
    "A schoolchild who delivers bread before class and keeps the change in a tin",
    "The miller who blends small lots of old wheat for three bakeries in the valley",
    "A retired electrician who builds scales that weigh hives and send the numbers home",
    "A sacristan who has to keep the chapel dry while its windows are away for repair",
)
HOSTILE = '</script><img src=x onerror="alert(1)"><b>bold</b> {{ 7 * 7 }} & a \u2028 line'
SUBJECTS = ("Algebra", "Counting & Probability", "Geometry", "Number Theory", "Prealgebra")


def question(a: int, b: int, c: int, persona: str) -> str:
    """A problem of the kind that the engine answers."""
    return (
        f"{persona.split(' who ')[0].removeprefix('A ').capitalize()} loads ${a}$ crates of ${b}$ pieces each and finds "
        f"${c}$ more pieces on the quay. How many pieces are there, that is, what is ${a} \\times {b} + {c}$?"
    )


def persona_row(
    text: str, document_id: str, parent: records.Row | None = None, relation: str | None = None
) -> records.Row:
    return {
        "id": content_id("persona", text),
        "persona": text,
        "document_id": document_id,
        "parent_id": parent["id"] if parent else None,
        "relation": relation,
        "hop": parent["hop"] + 1 if parent else 0,
        "mode": None if parent else "write",
        "source": "walks_of_life.jsonl",
        "licence": "CC0-1.0",
        "model": "simulated-teacher",
        "machine_generated": True,
    }


def problem_row(persona: records.Row, sample: int) -> records.Row:
    chance = random.Random(f"{persona['id']}{sample}")
    a, b, c = chance.randint(2, 60), chance.randint(2, 40), chance.randint(1, 99)
    text = question(a, b, c, persona["persona"])
    return {
        "id": content_id("problem", text, persona["id"], sample),
        "problem": text,
        "persona_id": persona["id"],
        "persona": persona["persona"],
        "document_id": persona["document_id"],
        "template": "math",
        "sample": sample,
        "seed": sample,
        "licence": "CC0-1.0",
        "model": "simulated-teacher",
        "machine_generated": True,
        "answer": str(a * b + c),
    }


def solved(problem: records.Row, answers: Sequence[str]) -> records.Row:
    samples = [
        {
            "kind": "pot" if i == 2 else "cot",
            "text": f"```python\nprint({answer})\n```"
            if i == 2
            else f"First multiply, then add: $x = {answer}$.\n\nThe answer is \\boxed{{{answer}}}.",
            "model": "simulated-teacher",
            "seed": i,
            "finish_reason": "stop",
        }
        for i, answer in enumerate(answers)
    ]
    return {key: problem.get(key) for key in records.PROBLEM.names} | {"samples": samples}


def verified(problem: records.Row, answers: Sequence[str]) -> records.Row:
    votes = [
        {
            "kind": "pot" if i == 2 else "cot",
            "model": "simulated-teacher",
            "answer": answer,
            "cluster": 0 if answer == problem["answer"] else 1,
            "status": "answered",
        }
        for i, answer in enumerate(answers)
    ]
    return {key: problem.get(key) for key in records.PROBLEM.names} | {
        "answer": problem["answer"],
        "solution": f"First multiply, then add. \\boxed{{{problem['answer']}}}",
        "solution_model": "simulated-teacher",
        "votes": votes,
        "vote_share": sum(answer == problem["answer"] for answer in answers) / len(answers),
        "policy": "two_of_three",
    }


def sft_row(row: records.Row, split: str) -> records.Row:
    kept = {key: row[key] for key in ("id", "problem", "answer", "persona_id", "document_id", "licence")}
    return {
        **kept,
        "split": split,
        "prompt": list(student_prompt("solve")(row["problem"])),
        "completion": [{"role": "assistant", "content": row["solution"]}],
        "model": row["solution_model"],
        "machine_generated": True,
    }


def reference_rows(count: int, benchmark: str = "math") -> list[records.Row]:
    rows = []
    for number in range(count):
        chance = random.Random(number)
        a, b, c = chance.randint(2, 60), chance.randint(2, 40), chance.randint(1, 99)
        problem = f"What is the value of ${a} \\cdot {b} + {c}$?"
        rows.append(
            {
                "id": content_id("reference", benchmark, number),
                "benchmark": benchmark,
                "item": str(number),
                "problem": problem,
                "answer": str(a * b + c),
                "subject": SUBJECTS[number % len(SUBJECTS)],
                "level": str(1 + number % 5),
            }
        )
    return rows
