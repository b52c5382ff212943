"""Contracts in the heads of prompts: how they are read, and what use cases outside of the package can do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personahub.core.config import identity_of, parse_config
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected, UserError
from personahub.core.records import PERSONA
from synth.contracts.contract import built_in, examples_file, load_use_case, parse_reply
from synth.prompts import PROMPTS
from synth.simulated.engine import Config as Teacher
from synth.simulated.engine import answer, read_task
from synth.simulated.faults import FaultRates
from synth.usecases import Config, forecast, prompts

BODY = (
    '## user\nWrite a note{{ " for " ~ persona if persona }}. Reply with "Subject:" and "Note text:", 20 to 40 words.\n'
)
PARTS = "contract: {labels: [Subject, Note text], min_chars: 20}"
SHOP = """
from pydantic import BaseModel, Field

class Offer(BaseModel):
    item: str = Field(description="what is sold")
    price: float = Field(alias="cost", gt=0)

NOT_A_MODEL = 1
"""


def write(folder: Path, contract: str = PARTS, body: str = BODY) -> str:
    file = folder / "note.md"
    file.write_text(f"---\nversion: 1\n{contract}\n---\n{body}", encoding="utf-8")
    return str(file)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_of_notes.py").write_text(SHOP)
    monkeypatch.syspath_prepend(tmp_path)


def test_the_built_in_use_cases_are_the_prompts_with_a_contract() -> None:
    assert built_in() == (
        "article", "instruction", "logic_general", "logic_ruozhiba", "logic_spatial", "npc", "reading", "tool_interface",
    )  # fmt: skip
    assert all(examples_file(name) == PROMPTS / "examples" / f"{name}.jsonl" for name in built_in())


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        ("stop: []", r"note\.md: the head has no `contract`"),
        ("contract: {labls: [Note]}", r"note\.md: contract\.labls: unknown key\. Did you mean 'labels'\?"),
        ("contract: [Note]", r"note\.md: contract: "),
        ("contract: {labels: Note}", r"note\.md: contract\.labels: .*tuple"),
        ("contract: {labels: []}", "either `labels` or `json_model`"),
        ("contract: {labels: [A], json_model: a.B}", "either `labels` or `json_model`"),
        ("contract: {labels: [A, a]}", "`labels` must be distinct"),
        ("contract: {labels: [A], min_chars: 9, max_chars: 8}", r"min_chars is 9, above max_chars \(8\)"),
        ("contract: {labels: [A], max_chars: many}", r"note\.md: contract\.max_chars: .*integer"),
        ("contract: {labels: [A], problem: 7}", r"note\.md: contract\.problem: "),
        ("contract: {labels: [A], language: klingon}", "'latin', 'chinese' or 'any'"),
        ("contract: {labels: [A], needs: [weather]}", "background"),
        ("contract: {json_model: Offer}", "json_model: Offer cannot be imported"),
        ("contract: {json_model: no_such_shop.Offer}", "json_model: no_such_shop.Offer cannot be imported"),
        ("contract: {json_model: shop_of_notes.Demand}", "json_model: shop_of_notes.Demand cannot be imported"),
        ("contract: {json_model: shop_of_notes.NOT_A_MODEL}", "is not a pydantic model"),
    ],
)
@pytest.mark.usefixtures("shop")
def test_what_is_wrong_with_a_contract_is_one_line(tmp_path: Path, contract: str, message: str) -> None:
    name = write(tmp_path, contract)
    with pytest.raises(UserError, match=message) as error:
        load_use_case(name)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"stages\.notes\.use_case: .*" + message):
        parse_config(Config, {"engine": "e", "use_case": name}, "stages.notes")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("artikel", r"Did you mean 'article'\?"),
        ("math", "Valid: article, instruction, .*npc"),
        ("no/such.md", r"no/such\.md: no such template"),
    ],
)
def test_an_unknown_use_case_is_answered_with_those_that_exist(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(Config, {"engine": "e", "use_case": name}, "test")


def test_a_contract_is_part_of_the_identity(tmp_path: Path) -> None:
    def identity(**values: str) -> dict:
        config = {"engine": "e", "use_case": write(tmp_path, values.pop("contract", PARTS)), **values}
        return identity_of(parse_config(Config, config, "test"), {"e": "engine"})

    before = identity()
    assert identity(contract=PARTS.replace("20", "21")) != before
    other = identity(template="instruction")
    assert (other["use_case"], other["template"]) != (before["use_case"], before["template"])
    assert other["use_case"] == before["use_case"]


def test_a_text_in_any_script_may_be_asked_for(tmp_path: Path) -> None:
    reply = Completion("Note: Сегодня магазин закрыт до вечера.", "stop", 1, 1, "m")
    contract = load_use_case(write(tmp_path, "contract: {labels: [Note]}")).contract
    with pytest.raises(Rejected, match="wrong_language"):
        parse_reply(reply, contract)
    assert parse_reply(reply, contract.model_copy(update={"language": "any"})).fields == {
        "note": "Сегодня магазин закрыт до вечера."
    }


@pytest.mark.usefixtures("shop")
def test_json_of_a_users_model(tmp_path: Path) -> None:
    name = write(tmp_path, "contract: {json_model: shop_of_notes.Offer}", "## user\nKeys: {{ fields }}\n")
    config = parse_config(Config, {"engine": "e", "use_case": name, "structured": True}, "test")
    use_case = load_use_case(name)
    (request,) = prompts(config, use_case.template, [])({"id": "p", "persona": "A baker"})
    assert "'name': 'cost'" in request.messages[0]["content"]
    assert "what is sold" in request.messages[0]["content"]
    assert request.json_schema is not None
    assert set(request.json_schema["properties"]) == {"item", "cost"}
    assert parse_reply(Completion('{"item": "rye", "cost": 3}', "stop", 1, 1, "m"), use_case.contract).fields == {
        "item": "rye",
        "cost": 3.0,
    }
    with pytest.raises(Rejected, match="schema: cost"):
        parse_reply(Completion('{"item": "rye", "cost": 0}', "stop", 1, 1, "m"), use_case.contract)


@pytest.mark.parametrize("persona", ["A harbour clerk", None])
def test_the_simulated_teacher_answers_labels_that_it_does_not_know(tmp_path: Path, persona: str | None) -> None:
    use_case = load_use_case(write(tmp_path))
    request = Request(use_case.template.render(persona=persona), Sampling(), 5)
    assert read_task(request).name == "labelled"
    output = parse_reply(answer(request, Teacher(rates=FaultRates.none())), use_case.contract)
    assert 20 <= len(output.fields["note_text"].split()) <= 40
    assert output.fields["subject"]


def test_a_use_case_outside_of_the_package_from_personas_to_records(make_artifact, run_module, tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    example = {"text": "Subject: Tide\nNote text: The harbour closes at noon today.", "persona": "A pilot"}
    (tmp_path / "examples" / "note.jsonl").write_text(json.dumps(example) + "\n")
    shown = "{% for example in examples %}<example>\n{{ example.text }}\n</example>{% endfor %}\n"
    name = write(tmp_path, f"{PARTS[:-1]}, needs: [background], tokens: 70}}", f"{BODY}{shown}{{{{ background }}}}\n")
    (tmp_path / "world.txt").write_text("A harbour. </background>")
    config = {"engine": "teacher", "use_case": name, "prompting": "few_shot"}
    with pytest.raises(UserError, match=r"needs `background`"):
        parse_config(Config, config, "test")
    config["background"] = str(tmp_path / "world.txt")
    personas = [{"id": f"p{i}", "persona": f"A pilot of harbour {i}"} for i in range(5)]
    made = run_module("synth.usecases", config, personas=make_artifact("personas", PERSONA, personas))
    rows = list(made.rows())
    assert len(rows) + len(list(made.rejected())) == 5
    assert {(row["use_case"], row["template"]) for row in rows} == {("note", "note")}
    assert all(set(json.loads(row["fields"])) == {"subject", "note_text"} for row in rows)
    assert forecast(parse_config(Config, config, "test"), {"personas": 5}).requests["teacher"].completion_tokens == 350
