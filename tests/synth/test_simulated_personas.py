"""The simulated teacher's personas: people of the text and around it, with faults at their rates."""

from __future__ import annotations

import json
import random
import re
from collections import Counter

import pytest

from personahub.core.errors import Rejected
from personahub.personas.plain_replies import read_people
from personahub.quality import Config as QualityConfig
from personahub.quality import check
from synth.simulated.engine import Config
from synth.simulated.persona import likely_fields, salient_phrases
from tests.synth.simulated_teacher import SOUND, TEXT, ask, personas_prompt, read_personas, related_prompt


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("mode", ["read", "write", "like", "dislike"])
def test_text_to_persona_keeps_the_contract(count, mode):
    completion = ask(personas_prompt(count=count, mode=mode))
    personas = read_personas(completion.text)
    assert len(personas) == len(set(personas)) == count
    assert all(10 <= len(persona.split()) <= 35 for persona in personas)
    assert all(re.match(r"An? ", persona) for persona in personas)
    assert completion.truth is not None
    assert completion.truth["task"] == "text_to_persona"
    assert [p["text"] for p in completion.truth["personas"]] == personas


def test_modes_are_different_people():
    texts = {mode: ask(personas_prompt(mode=mode, count=8)).text for mode in ("read", "write", "like", "dislike")}
    assert len(set(texts.values())) == 4
    assert not re.search(r"overrated|objects|argues against|contradicts", texts["like"])
    assert all(re.search(r"overrated|objects|argues against|contradicts", p) for p in texts["dislike"].split("\n"))


def test_personas_are_about_the_text():
    completion = ask(personas_prompt(count=12))
    assert completion.truth is not None
    for reported in completion.truth["personas"]:
        assert reported["topic"].lower() in TEXT.lower()
        assert reported["topic"] in reported["text"]
    assert not re.search(r"bob|7946|keepers\.org", completion.text), "personal data of the text"


def test_coarse_personas_leave_the_topic_out():
    personas = read_personas(ask(personas_prompt(count=6, granularity="coarse")).text)
    assert not any(re.search(r"lighthouse|lens", p, re.IGNORECASE) for p in personas)


def test_salient_phrases_are_what_a_text_is_about():
    phrases = salient_phrases(TEXT)
    assert {"lighthouse", "Fresnel lens"} & set(phrases)
    assert salient_phrases("") == salient_phrases("the of and 12 34 !!!") == ()
    assert likely_fields("theorem about the convergence of an operator")[0].name == "mathematics"
    assert len(likely_fields("zzz qqq")) == 1


@pytest.mark.parametrize(
    "text", ["", "   ", "12345 67890", "日本語のテキストです。", "a" * 50_000, "</text> \x00 <text>"]
)
def test_odd_texts_still_give_personas(text):
    assert len(read_personas(ask(personas_prompt(text=text)).text)) == 3


def test_persona_to_persona_leads_to_other_people():
    parent = "A retired lighthouse keeper who restores Fresnel lenses and writes letters to the editor"
    linked, relations = 0, Counter()
    for seed in range(60):
        completion = ask(related_prompt(parent, count=3), seed)
        lines = completion.text.split("\n")
        assert [line.split(":")[0] for line in lines] == ["Relation", "Persona"] * 3
        assert len(set(lines[0::2])) == 3, "relations repeat"
        assert len(set(lines[1::2])) == 3
        assert f"Persona: {parent}" not in lines
        relations.update(lines[0::2])
        linked += sum(bool(re.search(r"lighthouse|lens|keeper", line, re.IGNORECASE)) for line in lines[1::2])
    assert len(relations) > 10
    assert 40 < linked < 140, "some keep a link to the parent and some depart"


def test_relations_fit_the_occupation():
    nurse = "A community midwife who writes about home visits and infant care"
    relations = {line for seed in range(40) for line in ask(related_prompt(nurse, 3), seed).text.split("\n")[0::2]}
    assert "Relation: patient" in relations
    assert "Relation: opponent" not in relations


def test_six_steps_of_relationship_do_not_run_dry():
    people = ["A night-shift ward nurse who knits"] * 40
    seen = set()
    for step in range(6):
        replies = [ask(related_prompt(person, 1), 100 * step + i).text for i, person in enumerate(people)]
        people = [reply.split("\n")[1].removeprefix("Persona: ") for reply in replies]
        seen.update(people)
    assert len(seen) > 230


@pytest.mark.parametrize("fault", ["refusal", "malformed", "near_duplicate", "low_quality", "prompt_copy", "contact"])
def test_planted_faults_come_at_their_rate_and_are_known(fault):
    config = Config(persona_rates=SOUND.model_copy(update={fault: 0.3}))
    found = Counter()
    for seed in range(300):
        completion = ask(personas_prompt(count=2), seed, config)
        assert completion.truth is not None
        if fault in ("refusal", "malformed"):
            found[completion.truth["fault"]] += 1
            well_formed = all(line.startswith("Persona: ") for line in completion.text.split("\n"))
            assert well_formed == (completion.truth["fault"] is None)
            continue
        for persona, reported in zip(read_personas(completion.text), completion.truth["personas"], strict=True):
            found[reported["fault"]] += 1
            assert reported["text"] == persona
            if reported["fault"] == "contact":
                assert re.search(r"@example\.org|555-01\d\d", persona)
            if reported["fault"] == "near_duplicate":
                ours, theirs = (set(re.findall(r"\w+", text.lower())) for text in (persona, reported["of"]))
                assert len(ours ^ theirs) <= 2
                assert (persona == reported["of"]) == (reported["edit"] == "none")
    assert set(found) == {None, fault}
    assert found[fault] / found.total() == pytest.approx(0.3, abs=0.08)


def test_stock_personas_meet_across_texts():
    config = Config(persona_rates=SOUND.model_copy(update={"near_duplicate": 1.0}))
    originals = Counter()
    for seed in range(200):
        truth = ask(personas_prompt(text=f"text {seed}", count=1), seed, config).truth
        assert truth is not None
        originals[truth["personas"][0]["of"]] += 1
    assert max(originals.values()) > 2
    assert len(originals) > 20


def test_real_web_texts_give_varied_personas(test_data):
    documents = [json.loads(line) for line in (test_data / "webtext" / "documents.jsonl").open()]
    documents = random.Random(0).sample(documents, 300)
    personas, on_topic = [], 0
    for seed, document in enumerate(documents):
        completion = ask(personas_prompt(text=document["text"], count=2), seed)
        assert completion.truth is not None
        personas += read_personas(completion.text)
        for reported in completion.truth["personas"]:
            on_topic += all(word.lower() in document["text"].lower() for word in reported["topic"].split())
    assert len(set(personas)) == len(personas) == 600
    assert on_topic > 560


@pytest.mark.parametrize("fault", ["surplus", "shortfall", "layout", "short", "back_reference", "named"])
@pytest.mark.parametrize("related", [False, True])
def test_faults_of_small_models_are_read_or_found(fault: str, related: bool) -> None:
    """The stages' parsers read every layout, and `personahub.quality` finds the faults in the personas."""
    config = Config(persona_rates=SOUND.model_copy(update={fault: 1.0}))
    given = Counter()
    for seed in range(60):
        prompt = related_prompt("A night-shift ward nurse who knits", 2) if related else personas_prompt(count=2)
        completion = ask(prompt, seed, config)
        assert completion.truth is not None
        written = [told["text"] for told in completion.truth["personas"]]
        people = read_people(completion, relations=related)
        assert [person.persona for person in people] == list(dict.fromkeys(written))
        given[len(written)] += 1
        for persona in written:
            if fault in ("short", "back_reference", "named"):
                with pytest.raises(Rejected) as rejected:
                    check(persona, QualityConfig())
                expected = {"short": "too_short", "back_reference": "prompt_copy", "named": "named_person"}[fault]
                assert rejected.value.reason == expected, persona
    assert set(given) == ({3, 4, 5, 6} if fault == "surplus" else {1} if fault == "shortfall" else {2})
