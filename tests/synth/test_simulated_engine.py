"""The simulated teacher as an engine: it keeps to the prompts' contracts, repeats itself, and errs as it says."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import Completion, EngineUnavailable, Message, Request, RequestRefused, Sampling
from personahub.core.errors import UserError
from personahub.core.template import load_template
from synth.simulated.engine import Config, answer
from synth.simulated.faults import FaultRates
from synth.simulated.persona import likely_fields, salient_phrases
from synth.simulated.persona_faults import PersonaRates
from synth.simulated.serve import make_app

ROOT = Path(__file__).parents[2]
TEXT = (
    "The lighthouse on the northern headland was automated in 1987, but its Fresnel lens still needs a keeper. "
    "Lens cleaning takes two days, and the mercury bath beneath the lens has to be skimmed. Mail bob@keepers.org "
    "or call 020 7946 0123 to volunteer at the lighthouse. Visitors climb 199 steps to see the Fresnel lens turn."
)
SOUND = PersonaRates(refusal=0, malformed=0, near_duplicate=0, low_quality=0, prompt_copy=0, contact=0)
FAULTLESS = Config(rates=FaultRates.none(), persona_rates=SOUND)


def ask(prompt: str | tuple[Message, ...], seed: int = 1, config: Config = FAULTLESS, **sampling) -> Completion:
    messages = (Message(role="user", content=prompt),) if isinstance(prompt, str) else prompt
    return answer(Request(messages, Sampling(**sampling), seed), config)


def personas_prompt(text: str = TEXT, count: int = 3, mode: str = "read", granularity: str = "fine"):
    template = load_template("text_to_persona", ROOT / "personahub" / "prompts")
    return template.render(text=text, count=count, mode=mode, granularity=granularity)


def related_prompt(persona: str, count: int = 2):
    return load_template("persona_to_persona", ROOT / "personahub" / "prompts").render(persona=persona, count=count)


def synth_prompt(name: str, **values):
    if name == "math":
        values = {
            "persona": None,
            "persona_kind": None,
            "focus": None,
            "difficulty": None,
            "examples": [],
            "key_points": [],
            "words": [],
            **values,
        }
    return load_template(name, ROOT / "synth" / "prompts").render(**values)


def read_personas(text: str) -> list[str]:
    lines = text.split("\n")
    assert all(line.startswith("Persona: ") for line in lines), text
    return [line.removeprefix("Persona: ") for line in lines]


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
    for told in completion.truth["personas"]:
        assert told["topic"].lower() in TEXT.lower()
        assert told["topic"] in told["text"]
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


def test_math_problems_and_their_solutions():
    for seed in range(30):
        problem = ask(synth_prompt("math", persona="A dairy farmer who keeps bees"), seed)
        assert problem.text.startswith("Math problem: ")
        assert problem.truth is not None
        statement = problem.text.removeprefix("Math problem: ")
        cot = ask(synth_prompt("solve_cot", problem=statement), seed)
        pot = ask(synth_prompt("solve_pot", problem=statement), seed)
        assert cot.truth is not None
        assert pot.truth is not None
        assert f"\\boxed{{{problem.truth['answer']}}}" in cot.text
        assert cot.truth["correct"]
        assert pot.text.startswith("```python\n")
        assert pot.truth["correct"]


def test_the_twin_without_a_persona_varies_by_its_seed_alone():
    plain = synth_prompt("math", persona=None)
    assert "persona" not in plain[0]["content"]
    assert len({ask(plain, seed).text for seed in range(80)}) > 60


def test_a_focus_is_kept():
    subjects = Counter()
    for seed in range(40):
        truth = ask(synth_prompt("math", persona="A baker", focus="geometry"), seed).truth
        assert truth is not None
        subjects[truth["subject"]] += 1
    assert subjects == {"Geometry": 40}


def test_a_problem_may_come_without_tags():
    problem = ask(synth_prompt("math", persona="A baker"), 3)
    assert problem.truth is not None
    bare = problem.text.removeprefix("Math problem: ")
    completion = ask(f"{bare}\nPlease reason step by step, and put your final answer within \\boxed{{}}.")
    assert completion.truth is not None
    assert completion.truth["task"] == "solve_cot"


def test_the_last_block_counts():
    examples = "<persona>\nA judge\n</persona>\nMath problem: 1 + 1?\n\n"
    prompt = examples + synth_prompt("math", persona="A lighthouse keeper")[0]["content"]
    assert ask(prompt, 5).text != ask(prompt.replace("A lighthouse keeper", "A falconer"), 5).text
    assert ask(prompt, 5).truth["task"] == "math"  # type: ignore[index]


def test_it_says_so_when_it_does_not_understand():
    completion = ask("Write a poem about rivers.")
    assert completion.truth == {"task": "unknown", "fault": "unknown_task", "truncated": False}
    with pytest.raises(RequestRefused):
        answer(Request((Message(role="user", content="x"),), Sampling(), 0, json_schema={}), FAULTLESS)


def test_answers_are_a_function_of_messages_temperature_seed_and_config():
    prompt = personas_prompt()
    first = ask(prompt, seed=1)
    assert ask(prompt, seed=1) == first
    assert ask(prompt, seed=2) != first
    assert ask(prompt, seed=1, temperature=0.5) != first
    assert ask(prompt, seed=1, temperature=0) == ask(prompt, seed=2, temperature=0)
    assert ask(prompt, seed=1, config=FAULTLESS.model_copy(update={"model": "another"})).text != first.text
    system = (Message(role="system", content="Be brief."), *prompt)
    assert ask(system, seed=1).text != first.text


def test_answers_are_the_same_in_every_process():
    program = f"""
import runpy
test = runpy.run_path({str(Path(__file__))!r})
for prompt in (test["personas_prompt"](), test["related_prompt"]("A baker"), test["synth_prompt"]("math", persona="A baker")):
    print(test["ask"](prompt, 4))
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_limits_cut_the_answer():
    whole = ask(personas_prompt())
    assert whole.finish_reason == "stop"
    assert whole.completion_tokens == -(-len(whole.text) // 4)
    cut = ask(personas_prompt(), max_tokens=10)
    assert cut.text == whole.text[:40]
    assert (cut.finish_reason, cut.completion_tokens, cut.truncated) == ("length", 10, True)
    assert cut.truth is not None
    assert cut.truth["truncated"]
    assert ask(personas_prompt(), stop=("\n",)).text == whole.text.split("\n")[0]
    problem = ask(synth_prompt("math", persona="A baker"), 3).text.removeprefix("Math problem: ")
    half = ask(synth_prompt("solve_cot", problem=problem), max_tokens=5)
    assert half.truth is not None
    assert not half.truth["correct"]


def test_a_teacher_that_breaks_off_says_so():
    config = Config(rates=FaultRates.none().model_copy(update={"truncation": 1.0}))
    completion = ask(synth_prompt("math", persona="A baker"), config=config)
    assert completion.finish_reason == "length"


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
        for persona, told in zip(read_personas(completion.text), completion.truth["personas"], strict=True):
            found[told["fault"]] += 1
            assert told["text"] == persona
            if told["fault"] == "contact":
                assert re.search(r"@example\.org|555-01\d\d", persona)
            if told["fault"] == "near_duplicate":
                ours, theirs = (set(re.findall(r"\w+", text.lower())) for text in (persona, told["of"]))
                assert len(ours ^ theirs) <= 2
                assert (persona == told["of"]) == (told["edit"] == "none")
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


def test_families_are_checked():
    with pytest.raises(UserError, match="fence"):
        engine_config({"kind": "simulated", "families": ["fense"]}, "engines.teacher")
    assert engine_config({"kind": "simulated"}, "engines.teacher").model == "simulated-teacher"


def test_an_idle_free_engine_lets_the_loop_breathe():
    async def run(latency_ms: float) -> tuple[int, float]:
        engine = open_engine(engine_config({"kind": "simulated", "latency_ms": latency_ms}, "engines.teacher"))
        request = Request(synth_prompt("math", persona="A baker"), Sampling(), 1)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticker = asyncio.create_task(tick())
        started = time.monotonic()
        for _ in range(8 if latency_ms else 640):
            await engine.complete(request)
        ticker.cancel()
        await engine.close()
        return ticks, time.monotonic() - started

    ticks, _ = asyncio.run(run(0))
    assert 10 <= ticks <= 40
    assert asyncio.run(run(20))[1] >= 0.15


def serve_and_ask(requests: list[Request], server: dict | None = None, **config) -> tuple[list, dict]:
    async def run() -> tuple[list, dict]:
        async with TestServer(make_app(**(server or {}))) as test_server:
            values = {
                "kind": "openai",
                "model": "simulated-teacher",
                "base_url": str(test_server.make_url("/v1")),
                **config,
            }
            engine = open_engine(engine_config(values, "engines.e"))
            outcomes = await asyncio.gather(*(engine.complete(r) for r in requests), return_exceptions=True)
            await engine.close()
            async with aiohttp.ClientSession() as session, session.get(test_server.make_url("/stats")) as stats:
                return outcomes, await stats.json()

    return asyncio.run(run())


def test_the_server_answers_as_the_engine_does():
    requests = [
        Request(personas_prompt(count=2), Sampling(max_tokens=limit), seed) for seed, limit in ((1, 1024), (2, 9))
    ]
    outcomes, stats = serve_and_ask([*requests, requests[0]])
    for request, outcome in zip(requests, outcomes[:2], strict=True):
        ours = answer(request, Config())
        assert outcome == Completion(
            ours.text, ours.finish_reason, ours.prompt_tokens, ours.completion_tokens, "simulated-teacher"
        )
    assert stats == {"requests": 3, "distinct": 2, "repeated": 1, "failed": 0}


def test_the_server_refuses_as_servers_do():
    long = Request(personas_prompt(text="x" * 9000), Sampling(), 1)
    (outcome,), _ = serve_and_ask([long], {"max_model_len": 2048})
    assert isinstance(outcome, RequestRefused)
    assert outcome.reason == "prompt_too_long"
    (outcome,), stats = serve_and_ask([long], model="gpt-9")
    assert isinstance(outcome, EngineUnavailable)
    assert "gpt-9" in str(outcome)
    assert stats["requests"] == 0


def test_planned_failures_cost_nothing_in_the_end():
    requests = [Request(personas_prompt(count=1), Sampling(), seed) for seed in range(60)]
    outcomes, stats = serve_and_ask(requests, {"fail_rate": 0.1}, concurrency=8)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert stats["failed"] > 0
    assert stats["requests"] == stats["distinct"] == 60


def test_the_server_gives_as_many_choices_as_asked():
    async def run() -> tuple[dict, dict]:
        async with TestServer(make_app()) as server, aiohttp.ClientSession() as session:
            body = {"model": "simulated-teacher", "messages": personas_prompt(count=1), "n": 3, "seed": 1}
            async with session.post(server.make_url("/v1/chat/completions"), json=body) as response:
                assert response.status == 200
                many = await response.json()
            async with session.post(server.make_url("/v1/chat/completions"), data=b"{nonsense") as response:
                return many, {"status": response.status, **await response.json()}

    many, bad = asyncio.run(run())
    assert len({choice["message"]["content"] for choice in many["choices"]}) == 3
    assert many["usage"]["total_tokens"] == many["usage"]["prompt_tokens"] + many["usage"]["completion_tokens"]
    assert bad["status"] == 400


def test_the_server_starts_from_the_command_line():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "synth.simulated.serve", "--port", str(port), "--model", "tutor"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert f"http://127.0.0.1:{port}/v1" in process.stdout.readline()
            models = _get_soon(f"http://127.0.0.1:{port}/v1/models")
            assert models["data"][0]["id"] == "tutor"
        finally:
            process.terminate()


def _get_soon(url: str) -> dict:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url) as response:
                return json.load(response)
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"no answer from {url}")


def test_real_web_texts_give_varied_personas(test_data):
    documents = [json.loads(line) for line in (test_data / "webtext" / "documents.jsonl").open()]
    documents = random.Random(0).sample(documents, 300)
    personas, on_topic = [], 0
    for seed, document in enumerate(documents):
        completion = ask(personas_prompt(text=document["text"], count=2), seed)
        assert completion.truth is not None
        personas += read_personas(completion.text)
        for told in completion.truth["personas"]:
            on_topic += all(word.lower() in document["text"].lower() for word in told["topic"].split())
    assert len(set(personas)) == len(personas) == 600
    assert on_topic > 560


def families(config: Config, **conditions) -> collections.Counter:
    """How often each family comes up in 400 problems."""
    found = collections.Counter()
    for seed in range(400):
        shown = {name: value[seed % len(value)] for name, value in conditions.items()}
        completion = ask(synth_prompt("math", **shown), seed, config, temperature=1.0)
        assert completion.truth is not None
        found[completion.truth["family"]] += 1
    return found


PERSONA_TEXTS = [f"A {noun} who {verb} every day" for noun in ("baker", "judge", "diver") for verb in ("sings", "rows")]
POINTS = [[f"{a} of {b}", "ratios"] for a in ("sums", "areas", "roots") for b in ("circles", "numbers", "cubes")]
NOUNS = [["anchor", "violin"], ["walrus", "kettle"], ["orchid", "rocket"], ["tapestry", "glacier"]]


def test_conditions_change_what_they_stand_for():
    plain = families(FAULTLESS)
    pointed = families(FAULTLESS, key_points=POINTS)
    worded = families(FAULTLESS, words=NOUNS)
    favourite = plain.most_common(1)[0][0]
    assert pointed[favourite] < plain[favourite] / 2  # key points lead away from the favourites
    assert abs(worded[favourite] - plain[favourite]) < 60  # words do not
    for nouns in NOUNS:
        text = ask(synth_prompt("math", words=nouns), 3).text
        assert any(noun in text.lower() for noun in nouns)


def test_a_teacher_told_to_ignores_the_conditions():
    """The planted null: what the arms get has the same distribution, whatever stands in the prompt."""
    deaf = FAULTLESS.model_copy(update={"heeds_conditions": False})
    plain = families(deaf)
    favourite = plain.most_common(1)[0][0]
    for shown in ({"persona": PERSONA_TEXTS}, {"key_points": POINTS}, {"words": NOUNS}):
        found = families(deaf, **shown)
        assert abs(found[favourite] - plain[favourite]) < 60, shown
    assert "baker" not in ask(synth_prompt("math", persona="A baker who bakes"), 5, deaf).text
