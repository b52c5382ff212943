"""Every prompt in every mode renders, asks for its contract, and only lacks the persona without one."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path

import pytest
from make_prompts import REASONS, page

from personahub.core.config import identity_of, parse_config
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import UserError
from personahub.core.identity import content_id
from personahub.core.records import PERSONA
from personahub.core.template import load_template
from synth.contracts.contract import built_in, load_use_case, parse_reply
from synth.contracts.examples import Example, load_examples
from synth.problems import Config as MathConfig
from synth.problems import parse_problem
from synth.prompts import PROMPTS
from synth.simulated.engine import Config as Teacher
from synth.simulated.engine import answer, read_task
from synth.simulated.faults import FaultRates
from synth.usecases import Config

PERSONA_TEXT = "A lighthouse keeper from Tromsø who breeds herring gulls"
USE_CASES = ["math", *built_in()]
FROM_PERSONAS = [*USE_CASES, "followup", "dialogue"]
TURNS = [{"speaker": "User", "text": "How high is it?"}, {"speaker": "Assistant", "text": "Ten metres."}]
MODES = ("zero_shot", "few_shot", "persona_few_shot")


def examples_of(use_case: str, mode: str, persona: bool = True) -> list[Example]:
    if mode == "zero_shot":
        return []
    if use_case not in USE_CASES:
        return [Example(text="Says: no.", persona="A judge" if mode == "persona_few_shot" and persona else None)]
    values = {"engine": "e", "prompting": mode, "persona": persona}
    if use_case == "math":
        return load_examples(parse_config(MathConfig, values, "test"))
    background = {"background": "world.txt"} if use_case == "npc" else {}
    return load_examples(parse_config(Config, {**values, **background, "use_case": use_case}, "test"))


def render(name: str, persona: str | None, examples: list[Example], **more: object) -> str:
    values = {
        "persona": persona, "partner": persona and "A bookbinder", "examples": examples, "turns": TURNS,
        "speaker": "Person A", "other": "Person B", "background": "A world of tides.", "fields": load_use_case("tool_interface").contract.fields(),
        "persona_kind": None, "focus": None, "difficulty": None, "key_points": [], "words": [], **more,
    }  # fmt: skip
    (message,) = load_template(name, PROMPTS).render(**values)
    return message["content"]


def changes(one: str, other: str) -> list[tuple[str, str]]:
    """Returns the words removed from `one` and the words added to get `other`."""
    a, b = re.findall(r"\w+|[^\w\s]", one), re.findall(r"\w+|[^\w\s]", other)
    codes = difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes()
    return [(" ".join(a[i:j]), " ".join(b[k:m])) for kind, i, j, k, m in codes if kind != "equal"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FROM_PERSONAS)
def test_the_no_persona_twin_differs_in_nothing_but_the_persona(name: str, mode: str) -> None:
    with_persona = render(name, PERSONA_TEXT, examples_of(name, mode))
    twin = render(name, None, examples_of(name, mode, persona=False))
    taken, put = zip(*changes(with_persona, twin), strict=True)
    assert not any(put)
    assert "Tromsø" in " ".join(taken)
    assert "persona" not in twin
    assert "described" not in twin.replace("as described", "")  # the world of the npc is
    # What was taken out speaks of the person; the requirements stay, word for word.
    requirements = twin[twin.index("Requirements") :]
    assert with_persona.endswith(requirements)
    assert set(re.findall(r"(?m)^- .*$", with_persona)) == set(re.findall(r"(?m)^- .*$", twin))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FROM_PERSONAS)
def test_two_personas_give_prompts_that_differ_in_the_persona_alone(name: str, mode: str) -> None:
    examples = examples_of(name, mode)
    one, other = render(name, PERSONA_TEXT, examples), render(name, "A tram driver", examples)
    assert one.replace(PERSONA_TEXT, "A tram driver") == other


@pytest.mark.parametrize("name", FROM_PERSONAS)
def test_modes_differ_in_the_examples_alone(name: str) -> None:
    zero, few, enhanced = (render(name, PERSONA_TEXT, examples_of(name, mode)) for mode in MODES)
    assert not any(taken for taken, _ in changes(zero, few))
    block = few[few.index("Examples of what") : few.rindex("</example>") + len("</example>")]
    assert few.replace(f"{block}\n\n", "") == zero
    assert not any(taken for taken, _ in changes(few, enhanced))
    assert enhanced.count("<persona>") == 1 + len(examples_of(name, "persona_few_shot"))
    assert few.count("<persona>") == 1


@pytest.mark.parametrize("name", USE_CASES)
def test_our_own_examples_keep_the_contract_that_they_illustrate(name: str) -> None:
    examples = examples_of(name, "persona_few_shot")
    assert len({example["text"] for example in examples}) == len(examples) >= 2
    for example in examples:
        completion = Completion(example["text"], "stop", 1, 1, "m")
        if name == "math":
            parse_problem(completion)
        else:
            parse_reply(completion, load_use_case(name).contract)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", USE_CASES)
def test_the_simulated_teacher_answers_every_prompt_as_its_contract_asks(name: str, mode: str) -> None:
    teacher = Teacher(rates=FaultRates.none())
    for persona in (PERSONA_TEXT, None):
        prompt = render(name, persona, examples_of(name, mode, persona is not None))
        message = {"role": "user", "content": prompt}
        request = Request((message,), Sampling(max_tokens=4000), 5)  # type: ignore[arg-type]
        assert read_task(request).name == name
        completion = answer(request, teacher)
        if name == "math":
            parse_problem(completion)
        else:
            parse_reply(completion, load_use_case(name).contract)


def test_few_shot_prompts_do_not_lend_their_personas_to_the_answer() -> None:
    prompt = render("math", PERSONA_TEXT, examples_of("math", "persona_few_shot"))
    assert read_task(Request(({"role": "user", "content": prompt},), Sampling(), 0)).source == PERSONA_TEXT


def write_examples(path: Path, *rows: dict) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def test_examples_of_a_users_own_are_part_of_the_identity(tmp_path: Path) -> None:
    file = write_examples(tmp_path / "mine.jsonl", {"text": "Math problem: 1 + 1?", "persona": "A child"})
    config = parse_config(MathConfig, {"engine": "e", "prompting": "few_shot", "examples": file}, "test")
    assert load_examples(config) == [{"text": "Math problem: 1 + 1?", "persona": None}]
    before = identity_of(config, {"e": "engine"})
    write_examples(tmp_path / "mine.jsonl", {"text": "Math problem: 1 + 2?"})
    assert identity_of(config, {"e": "engine"}) != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1: not JSON"),
        ('{"persona": "x"}', "non-empty string `text`"),
        ('\n{"text": 3}', "line 2"),
        ('{"text": "a", "persona": 3}', "`persona` must be a string"),
        ("\n", "the file has no examples"),
    ],
)
def test_malformed_examples_are_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "examples.jsonl"
    file.write_text(content, encoding="utf-8")
    config = parse_config(MathConfig, {"engine": "e", "prompting": "few_shot", "examples": str(file)}, "test")
    with pytest.raises(UserError, match=message):
        load_examples(config)


def test_missing_example_personas_come_from_text_to_persona(make_artifact, tmp_path: Path) -> None:
    text = "Math problem: A ferry takes 9 cars. How many does it take in 4 trips?"
    file = write_examples(tmp_path / "mine.jsonl", {"text": f" {text}\n"})
    config = parse_config(MathConfig, {"engine": "e", "prompting": "persona_few_shot", "examples": file}, "test")
    with pytest.raises(UserError, match=r"line 1: .*text_to_persona"):
        load_examples(config)
    inferred = [{"id": "p", "persona": "A ferryman", "document_id": content_id("document", text)}]
    personas = make_artifact("example_personas", PERSONA, inferred, shards=1)
    assert load_examples(config, {"example_personas": personas}) == [{"text": text, "persona": "A ferryman"}]


def test_the_page_shows_every_prompt_as_it_is(repository: Path) -> None:
    assert {path.stem for path in PROMPTS.glob("*.md")} == set(REASONS)
    assert (repository / "docs" / "prompts.md").read_text(encoding="utf-8") == page(), (
        "docs/prompts.md is out of date: python docs/make_prompts.py > docs/prompts.md"
    )


def test_an_example_may_hold_any_character(tmp_path: Path) -> None:
    """U+2028 ends a line for `str.splitlines`, and none in JSON Lines."""
    text = "Math problem: a\u2028b\x85c"
    file = tmp_path / "examples.jsonl"
    file.write_text(json.dumps({"text": text}, ensure_ascii=False) + "\n\n", encoding="utf-8")
    config = parse_config(MathConfig, {"engine": "teacher", "prompting": "few_shot", "examples": str(file)}, "test")
    assert load_examples(config) == [{"text": text, "persona": None}]
