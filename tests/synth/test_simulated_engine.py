"""The simulated teacher as an engine: it keeps to the prompts' contracts, repeats itself, and heeds conditions."""

from __future__ import annotations

import asyncio
import collections
import os
import subprocess
import sys
import time
from collections import Counter

import pytest

from personahub.core.engines import engine_config, open_engine
from personahub.core.engines.base import Message, Request, RequestRefused, Sampling
from personahub.core.errors import UserError
from synth.simulated.engine import Config, answer
from synth.simulated.faults import FaultRates
from tests.synth.simulated_teacher import FAULTLESS, ROOT, ask, personas_prompt, synth_prompt


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
    program = """
from tests.synth.simulated_teacher import ask, personas_prompt, related_prompt, synth_prompt
for prompt in (personas_prompt(), related_prompt("A baker"), synth_prompt("math", persona="A baker")):
    print(ask(prompt, 4))
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
    """The planted null effect: all arms get the same distribution, whatever the prompt contains."""
    deaf = FAULTLESS.model_copy(update={"heeds_conditions": False})
    plain = families(deaf)
    favourite = plain.most_common(1)[0][0]
    for shown in ({"persona": PERSONA_TEXTS}, {"key_points": POINTS}, {"words": NOUNS}):
        found = families(deaf, **shown)
        assert abs(found[favourite] - plain[favourite]) < 60, shown
    assert "baker" not in ask(synth_prompt("math", persona="A baker who bakes"), 5, deaf).text
