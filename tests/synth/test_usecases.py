"""Use cases other than math: what their parsers accept and reject, and all of them end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import pytest

from personahub.core.artifact import open_artifact
from personahub.core.config import parse_config
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected, UserError
from personahub.core.records import PERSONA, SYNTHETIC
from synth import conversations, usecases
from synth.contracts.contract import built_in, load_use_case, parse_reply

LOGIC = "One of three gardeners forgot the gate. Ines says it was Otto. Otto says it was Ruth. Who was it?"
SHEET = (
    "Name: Pell\n**Role:** weigher\nAppearance: dusty\nCharacter: calm\nBackground: a barge\nMeets players: "
    + "x " * 40
)
TOOL = {
    "name": "Yarn Calculator",
    "description": "Tells how many balls of another yarn a pattern needs.",
    "function_name": "balls",
    "input_args": [{"name": "length", "type": "number", "description": "metres"}],
    "return": {"type": "integer", "description": "balls"},
    "depend": ["math"],
    "example": {"length": 12.5},
}


def parsed(use_case: str, text: str, finish_reason: str = "stop"):
    return parse_reply(Completion(text, finish_reason, 1, 1, "m"), load_use_case(use_case).contract)


@pytest.mark.parametrize(
    "reply",
    [
        f"Logic problem: {LOGIC}",
        f"Sure, here it is!\n\n**Logic problem:** {LOGIC}",
        f"<think>Logic problem: no</think>\nlogic problem：{LOGIC}\n\n---",
    ],
)
def test_what_models_add_without_harm_is_taken_off(reply: str) -> None:
    assert parsed("logic_general", reply).text == LOGIC


@pytest.mark.parametrize(
    ("use_case", "reply", "reason"),
    [
        ("logic_general", LOGIC, "no_prefix"),
        ("logic_general", "I'm sorry, but I can't help with that.", "refusal"),
        (
            "logic_general",
            f"Logic problem: The answer: Ruth. To solve this problem, ask them. {LOGIC}",
            "contains_solution",
        ),
        ("logic_general", "Logic problem:", "empty_part"),
        ("logic_general", "Logic problem: Who?", "too_short"),
        ("logic_general", f"Logic problem: {LOGIC}\n(a) Who is it? (b) Who lies? (c) Who does not?", "multi_part"),
        ("logic_general", "Logic problem: " + "谁忘了关门？" * 20, "wrong_language"),
        ("logic_ruozhiba", "问题：Why is the water wet when it is dry?", "wrong_language"),
        ("logic_ruozhiba", "问题：答案：因为它是水。水为什么是湿的呢？", "contains_solution"),
        ("logic_ruozhiba", "问题：" + "水为什么是湿的呢？" * 30, "too_long"),
        ("logic_ruozhiba", "Question: 水为什么是湿的呢？", "no_prefix"),
        ("article", "Title: What is it?\n" + "words " * 200, "missing_part"),
        ("article", "Title: What is it?\nArticle: Short.", "too_short"),
        ("npc", SHEET.replace("Character: calm", "Character:"), "empty_part"),
        ("npc", SHEET.replace("Role", "Job"), "missing_part"),
        ("tool_interface", "Here you are.", "no_json"),
        ("tool_interface", "{" * 3000, "no_json"),
        ("tool_interface", "{" * 3000 + "}", "bad_json"),
        ("tool_interface", json.dumps(TOOL | {"extra": 1}), "schema"),
        ("tool_interface", json.dumps(TOOL | {"function_name": "import"}), "schema"),
        ("tool_interface", json.dumps(TOOL | {"function_name": "os.system"}), "schema"),
        ("tool_interface", json.dumps(TOOL | {"example": {"width": 3}}), "schema"),
        ("tool_interface", json.dumps(TOOL | {"example": {"length": "12"}}), "schema"),
        ("tool_interface", json.dumps(TOOL | {"example": {"length": True}}), "schema"),
        ("tool_interface", json.dumps(TOOL | {"input_args": []}), "schema"),
    ],
)
def test_replies_that_break_the_contract_are_named(use_case: str, reply: str, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        parsed(use_case, reply)
    assert rejected.value.reason == reason


def test_what_was_cut_off_is_asked_for_again() -> None:
    with pytest.raises(Rejected, match="truncated"):
        parsed("logic_general", f"Logic problem: {LOGIC}", "length")


def test_a_request_may_say_that_it_cannot() -> None:
    assert parsed("instruction", "Instruction: I can't get the lid off the jar, what shall I do?").fields


def test_parts_come_by_name_and_as_one_sheet() -> None:
    output = parsed("npc", SHEET)
    assert output.fields["meets_players"].startswith("x x")
    assert output.text.splitlines()[1] == "Role: weigher"


@pytest.mark.parametrize("wrap", ["{}", "```json\n{}\n```", "Here is the interface:\n{}\nGood luck!"])
def test_an_interface_is_found_in_what_is_around_it(wrap: str) -> None:
    output = parsed("tool_interface", wrap.replace("{}", json.dumps(TOOL)))
    assert output.fields == json.loads(output.text) == TOOL


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"use_case": "npc"}, "background"),
        ({"use_case": "article", "background": "world.txt"}, "background"),
        ({"use_case": "article", "structured": True}, "structured"),
        ({"use_case": "poem"}, "logic_general"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(usecases.Config, {"engine": "e", **values}, "test")


def test_a_missing_world_is_named(make_artifact, run_module, tmp_path) -> None:
    people = make_artifact("personas", PERSONA, persona_rows(1))
    config = {"engine": "teacher", "use_case": "npc", "background": str(tmp_path / "world.txt")}
    with pytest.raises(UserError, match=r"background: .*world.txt"):
        run_module("synth.usecases", config, personas=people)


def persona_rows(count: int) -> list[dict]:
    trades = ("beekeeper", "tram driver", "night nurse", "organ builder", "karst hydrologist", "wool merchant")
    return [
        {"id": f"p{i}", "persona": f"A {trades[i % 6]} who collects maps of district {i}", "document_id": f"d{i}"}
        for i in range(count)
    ]


@pytest.mark.parametrize("use_case", built_in())
def test_every_use_case_from_personas_to_records(make_artifact, run_module, repository, use_case: str) -> None:
    config: dict = {
        "engine": "teacher",
        "use_case": use_case,
        "per_persona": 2,
        "prompting": "persona_few_shot",
        "attempts": 6,
    }
    if use_case == "npc":
        config["background"] = str(repository / "configs" / "data" / "world_of_sallow_reach.txt")
    people = make_artifact("personas", PERSONA, persona_rows(6))
    engines = {"teacher": {"kind": "simulated", "model": "m", "rates": {"malformed": 0.4}}}
    made = run_module("synth.usecases", config, engines=engines, personas=people)
    rows = list(made.rows())
    assert len(rows) + len(list(made.rejected())) == 12
    assert len(rows) >= 10
    assert made.manifest.usage.requests > 12  # malformed ones were asked for again
    for row in rows:
        assert (row["use_case"], row["template"], row["prompting"]) == (use_case, use_case, "persona_few_shot")
        assert row["document_id"] == f"d{row['persona_id'][1:]}"
        assert row["persona"].startswith("A ")
        assert json.loads(row["fields"])
    assert len({row["text"] for row in rows}) > 6  # themed, so not all alike


def test_the_no_persona_arm_has_the_same_ids_and_seeds(make_artifact, run_module) -> None:
    people = make_artifact("personas", PERSONA, persona_rows(4))
    config = {"engine": "teacher", "use_case": "instruction"}
    arms = [
        {
            row["persona_id"]: row
            for row in run_module("synth.usecases", {**config, **more}, name, personas=people).rows()
        }
        for name, more in (("with", {}), ("without", {"persona": False}))
    ]
    assert arms[0].keys() == arms[1].keys()
    assert all(arms[0][key]["seed"] == arms[1][key]["seed"] for key in arms[0])
    assert all(row["persona"] is None for row in arms[1].values())


def instruction_rows(count: int) -> list[dict]:
    return [
        {"id": f"i{row['id']}", "text": f"How do I fold map {row['id']}?", "persona_id": row["id"], **row}
        | {"id": f"i{i}"}
        for i, row in enumerate(persona_rows(count))
    ]


def test_a_conversation_goes_on_from_an_instruction(make_artifact, run_module) -> None:
    openings = make_artifact("instructions", SYNTHETIC, instruction_rows(5))
    config = {"kind": "assistant", "speaker": "teacher", "assistant": "other", "turns": 5}
    engines = {name: {"kind": "simulated", "model": name, "rates": {"refusal": 0.0}} for name in ("teacher", "other")}
    made = run_module("synth.conversations", config, engines=engines, openings=openings)
    rows = list(made.rows())
    assert len(rows) == 5
    for row in rows:
        assert [message["role"] for message in row["messages"]] == ["user", "assistant", "user", "assistant", "user"]
        assert row["messages"][0]["content"].startswith("How do I fold map")
        assert not any("Follow-up:" in message["content"] for message in row["messages"])
        assert row["partner_id"] is None
    assert len({row["id"] for row in rows}) == 5
    assert made.manifest.usage.requests >= 20


def test_the_assistant_sees_a_plain_conversation_and_the_user_is_the_persona() -> None:
    config = parse_config(conversations.Config, {"speaker": "s", "assistant": "a"}, "test")
    followup, assistant = (
        conversations.load_template(name, conversations.PROMPTS) for name in (config.template, config.system)
    )
    asking = conversations.prompts(config, followup, assistant)
    talk = {"id": "x", "opening_id": "x", "persona": "A baker", "messages": [{"role": "user", "content": "Why?"}]}
    (reply,) = asking(talk)
    assert [message["role"] for message in reply.messages] == ["system", "user"]
    assert "baker" not in str(reply.messages)
    assert reply.engine == "a"
    talk["messages"].append({"role": "assistant", "content": "Because."})
    (more,) = asking(talk)
    assert more.engine == "s"
    assert "A baker" in more.messages[0]["content"]
    assert "Assistant: Because." in more.messages[0]["content"]


def test_two_personas_take_turns(make_artifact, run_module) -> None:
    people = make_artifact("personas", PERSONA, persona_rows(6), shards=2)
    config = {"kind": "two_personas", "speaker": "teacher", "turns": 4}
    rows = list(run_module("synth.conversations", config, openings=people).rows())
    assert len(rows) == 6
    assert Counter(row["partner_id"] for row in rows) == Counter(row["persona_id"] for row in rows)
    for row in rows:
        assert row["partner_id"] != row["persona_id"]
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"] * 2


def test_a_conversation_that_fails_keeps_what_it_had(make_artifact, run_module) -> None:
    openings = make_artifact("instructions", SYNTHETIC, instruction_rows(30))
    config = {"kind": "assistant", "speaker": "teacher", "assistant": "teacher", "turns": 3, "attempts": 1}
    engines = {"teacher": {"kind": "simulated", "model": "m", "rates": {"malformed": 0.4}}}
    made = run_module("synth.conversations", config, engines=engines, openings=openings)
    rejected = list(made.rejected())
    assert made.num_rows + len(rejected) == 30
    assert {row["reason"] for row in rejected} == {"empty", "no_prefix"}
    failed_later = next(row for row in rejected if row["reason"] == "no_prefix")
    assert len(json.loads(failed_later["record"])["messages"]) == 2


def test_the_assistant_is_named_where_there_is_one() -> None:
    for values in ({"kind": "assistant"}, {"kind": "two_personas", "assistant": "e"}):
        with pytest.raises(UserError, match="assistant"):
            parse_config(conversations.Config, {"speaker": "e", **values}, "test")


def test_forecasts_count_requests() -> None:
    config = parse_config(usecases.Config, {"engine": "e", "use_case": "article", "per_persona": 3}, "test")
    assert usecases.forecast(config, {"personas": 10}).requests["e"].count == 30
    talk = parse_config(conversations.Config, {"speaker": "s", "assistant": "a", "turns": 4}, "test")
    requests = conversations.forecast(talk, {"openings": 10}).requests
    assert (requests["a"].count, requests["s"].count) == (20, 10)


def test_the_schema_is_sent_only_when_asked_for() -> None:
    for structured in (False, True):
        values = {"engine": "e", "use_case": "tool_interface", "structured": structured}
        config = parse_config(usecases.Config, values, "test")
        template = usecases.load_template(config.template, usecases.PROMPTS)
        (request,) = usecases.prompts(config, template, [])({"id": "p", "persona": "A baker"})
        assert isinstance(request, Request)
        assert request.sampling == Sampling(temperature=1.0, max_tokens=2048)
        assert (request.json_schema is not None) == structured


@pytest.mark.slow
def test_the_config_of_all_use_cases_runs_and_every_record_leads_back_to_its_text(repository, tmp_path) -> None:
    words = [sys.executable, "-m", "personahub", "run", "configs/usecases.yaml", "--runs", str(tmp_path)]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True, timeout=280)
    if "apt-get install bubblewrap" in done.stderr:
        pytest.skip("no sandbox for the tools on this machine")
    assert done.returncode == 0, done.stderr
    stages = {path.name: open_artifact(path) for path in (tmp_path / "usecases").iterdir() if path.is_dir()}
    documents = {row["id"] for row in stages["sources"].rows()}
    personas = {row["id"]: row["document_id"] for row in stages["personas"].rows()}
    for name in set(stages) - {"sources", "personas", "report"}:
        rows = list(stages[name].rows())
        assert len(rows) > 50, name
        for row in rows:
            assert personas[row["persona_id"]] == row["document_id"]
            assert row["document_id"] in documents


WISH = "Plan three dinners for a week of night shifts, please."
OTHER = "Draft a short letter to my landlord about the broken heating."


@pytest.mark.parametrize(
    ("reply", "finish_reason", "surplus"),
    [
        (f"Instruction: {WISH}", "stop", 0),
        (f"Instruction: {WISH}\n\nInstruction: {OTHER}", "stop", 1),
        (f"Instruction 1: {WISH}\nInstruction 2: {OTHER}\nInstruction 3: {OTHER} Soon.", "stop", 2),
        (f"1. Instruction: {WISH}\n2. Instruction: {OTHER}", "stop", 1),
        (f"**Instruction:** {WISH}\n\n---\n\n**Instruction:** {OTHER}", "stop", 1),
        (f"Sure!\n\n- **Instruction 1:** {WISH}\n- **Instruction 2:** {OTHER}", "stop", 1),
        (f"Instruction: {WISH}\n\nInstruction: {WISH}", "stop", 0),
        (f"Instruction: {WISH}\n\nInstruction:", "stop", 0),
        (f"Instruction: {WISH}\n\nInstruction: {OTHER[:20]}", "length", 1),
    ],
)
def test_of_several_texts_the_first_is_kept(reply: str, finish_reason: str, surplus: int) -> None:
    output = parsed("instruction", reply, finish_reason)
    assert (output.text, output.surplus) == (WISH, surplus)


def test_a_text_that_quotes_its_label_stays_whole() -> None:
    text = "Correct the grammar of this prompt:\nInstruction: Writes me a poem about bees."
    output = parsed("instruction", f"Instruction: {text}")
    assert (output.text, output.surplus) == (text, 0)


def test_an_answer_behind_a_logic_problem_is_cut() -> None:
    assert parsed("logic_general", f"Logic problem: {LOGIC}\nAnswer: Ruth").text == LOGIC
    assert parsed("logic_ruozhiba", "问题：水为什么是湿的呢？\n答案：因为它是水。").text == "水为什么是湿的呢？"
