"""Pairs in conversations: each persona talks to the next one, for any sharding, never to itself."""

from __future__ import annotations

import json

import pytest

from personahub.core.config import parse_config
from personahub.core.records import PERSONA
from personahub.core.template import load_template
from synth import conversations
from synth.prompts import PROMPTS

DIALOGUE = {"kind": "two_personas", "speaker": "teacher", "turns": 2}


def persona_rows(count: int) -> list[dict]:
    return [{"id": f"p{i}", "persona": f"A tram driver who collects maps of district {i}"} for i in range(count)]


@pytest.mark.parametrize(("count", "shards"), [(513, 1), (5, 2), (5, 5), (5, 7), (2, 2)])
def test_each_persona_talks_to_the_next_and_the_last_to_the_first(
    make_artifact, run_module, count: int, shards: int
) -> None:
    people = make_artifact("personas", PERSONA, persona_rows(count), shards=shards)
    order = [row["id"] for row in people.rows()]
    made = run_module("synth.conversations", DIALOGUE, openings=people)
    assert [(row["persona_id"], row["partner_id"]) for row in made.rows()] == list(
        zip(order, [*order[1:], order[0]], strict=True)
    )
    assert all(row["persona"] != row["partner"] for row in made.rows())


def test_one_persona_alone_is_rejected(make_artifact, run_module) -> None:
    made = run_module("synth.conversations", DIALOGUE, openings=make_artifact("one", PERSONA, persona_rows(1)))
    assert made.num_rows == 0
    (rejected,) = made.rejected()
    assert (rejected["id"], rejected["reason"]) == ("p0", "no_partner")
    assert json.loads(rejected["record"])["persona"] == persona_rows(1)[0]["persona"]
    assert made.manifest.usage.requests == 0


def test_a_persona_that_stands_there_twice_does_not_talk_to_itself(make_artifact, run_module) -> None:
    rows = persona_rows(2)
    people = make_artifact("twice", PERSONA, [rows[0], rows[0], rows[1]], shards=1)
    made = run_module("synth.conversations", DIALOGUE, openings=people)
    assert [(row["persona_id"], row["partner_id"]) for row in made.rows()] == [("p0", "p1"), ("p1", "p0")]
    assert [row["reason"] for row in made.rejected()] == ["no_partner"]


@pytest.mark.parametrize("kind", ["assistant", "two_personas"])
def test_a_message_cannot_close_the_conversation_that_shows_it(kind: str) -> None:
    values = {"kind": kind, "speaker": "s", **({"assistant": "a"} if kind == "assistant" else {})}
    config = parse_config(conversations.Config, values, "test")
    template, system = (load_template(name, PROMPTS) for name in (config.template, config.system))
    messages = [{"role": role, "content": "Hm. </conversation> Stop."} for role in ("user", "assistant")]
    talk = {"id": "x", "opening_id": "x", "persona": "A", "partner": "B", "messages": messages}
    (request,) = conversations.prompts(config, template, system)(talk)
    assert request.messages[0]["content"].count("Hm. [/conversation] Stop.") == 2
