"""The structured form: JSON replies, evidence for demographics, schemas, and both stages with them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from personahub import persona_to_persona, quality, text_to_persona
from personahub.core.config import parse_config
from personahub.core.engines import Completion
from personahub.core.errors import Rejected, UserError
from personahub.core.template import load_template
from personahub.personas.profiles import Demographic, Profile, parse_profiles, reply_schema, split_by_evidence

NURSE = {"persona": "A nurse", "occupation": "nurse", "expertise": ["wounds"], "interests": ["bees"]}
BAKER = {"persona": "A baker", "occupation": "", "expertise": ["rye"], "interests": [" long\nwalks "]}


def reply(value: Any, finish_reason: str = "stop") -> Completion:
    text = value if isinstance(value, str) else json.dumps(value)
    return Completion(text, finish_reason, 1, 1, "toy")


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "<think>hm</think>\n{}", "  {}\n"])
def test_replies_that_keep_the_contract(around: str) -> None:
    text = around.replace("{}", json.dumps({"personas": [NURSE, BAKER]}))
    nurse, baker = parse_profiles(reply(text), "personas", 2)
    assert nurse == Profile("A nurse", "", "nurse", ("wounds",), ("bees",))
    assert baker.interests == ("long walks",)
    assert json.loads(baker.to_json()) == {"expertise": ["rye"], "interests": ["long walks"]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "not_json"),
        ("Persona: A nurse", "not_json"),
        ('{"personas": [{"persona": "A nurse"', "not_json"),
        ("[" * 100_000, "not_json"),
        ('{"personas": ' + "9" * 10_000 + "}", "not_json"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ([[NURSE]], "wrong_shape"),
        ({"people": ["A nurse"]}, "wrong_shape"),
        ({"personas": {"a": NURSE}}, "wrong_shape"),
        ({"personas": ["A nurse", "A baker"]}, "wrong_shape"),
        ({"personas": [{**NURSE, "persona": 5}]}, "wrong_shape"),
        ({"personas": [{**NURSE, "expertise": "wounds"}]}, "wrong_shape"),
        ({"personas": [{**NURSE, "expertise": [1]}]}, "wrong_shape"),
        ({"personas": [{**NURSE, "demographics": ["old"]}]}, "wrong_shape"),
        ({"personas": [{**NURSE, "demographics": [{"attribute": "age"}]}]}, "wrong_shape"),
        ({"personas": [{"occupation": "nurse"}]}, "wrong_shape"),
        ({"personas": [{**NURSE, "persona": " \n "}]}, "empty_field"),
    ],
)
def test_replies_that_break_it(value: Any, expected: str) -> None:
    with pytest.raises(Rejected) as error:
        parse_profiles(reply(value), "personas", 2)
    assert error.value.reason == expected


def test_a_reply_that_was_cut_off_in_the_first_profile_is_rejected() -> None:
    with pytest.raises(Rejected) as error:
        parse_profiles(reply(json.dumps({"personas": [NURSE, BAKER]})[:60], "length"), "personas", 2)
    assert error.value.reason == "truncated"


@pytest.mark.parametrize(
    "value",
    [
        json.dumps({"personas": [NURSE, BAKER]})[:-30],
        [NURSE, {**BAKER, "persona": 5}],
        {"personas": [{**BAKER, "expertise": "rye"}, NURSE]},
        {"personas": [NURSE, {"occupation": "baker"}, "A baker"]},
        {"personas": [NURSE, {**BAKER, "persona": "a NURSE."}]},
        {"people": [{**BAKER, "persona": " "}, NURSE]},
        f"Here is the JSON:\n{json.dumps([NURSE])}\nI hope it helps.",
        json.dumps(NURSE),
    ],
)
def test_what_is_wrong_does_not_lose_the_rest(value: Any) -> None:
    (profile,) = parse_profiles(reply(value, "length" if str(value)[-1] not in "]}." else "stop"), "personas", 2)
    assert profile == Profile("A nurse", "", "nurse", ("wounds",), ("bees",))


def test_the_first_distinct_profiles_are_kept() -> None:
    several = {"personas": [NURSE, NURSE, BAKER, {"persona": "A clerk"}]}
    assert [profile.persona for profile in parse_profiles(reply(several), "personas", 2)] == ["A nurse", "A baker"]


def test_line_breaks_inside_of_strings_are_read_over() -> None:
    (profile,) = parse_profiles(reply('{"personas": [{"persona": "A nurse\nin\tOslo"}]}'), "personas", 1)
    assert profile.persona == "A nurse in Oslo"


def test_any_string_that_json_can_spell_is_storable() -> None:
    (profile,) = parse_profiles(reply('{"personas": [{"persona": "A \\ud800 nurse\\n\\tin Oslo"}]}'), "personas", 1)
    assert profile.persona == "A ? nurse in Oslo"
    assert profile.to_json() == "{}"


TEXT = "I turned seventy last spring, and my two daughters gave me a boat. We live near Bergen."


@pytest.mark.parametrize(
    ("evidence", "supported"),
    [
        ("I turned seventy", True),
        ("i  TURNED seventy last spring, and", True),
        ("near Bergen.", True),
        ("turned eighty", False),
        ("seventy", False),
        ("", False),
        ("seventy turned I", False),
        ("urned seventy", False),
    ],
)
def test_demographics_need_words_of_the_text(evidence: str, supported: bool) -> None:
    entry = Demographic("age", "70", evidence)
    kept, guessed = split_by_evidence(Profile("A sailor", "", "", (), (), (entry,)), TEXT)
    assert (kept.demographics, guessed) == (((entry,), []) if supported else ((), [entry]))


def test_schemas_hold_the_list_to_its_length() -> None:
    schema = reply_schema("personas", 3, demographics=True)
    people = schema["properties"]["personas"]
    assert (people["minItems"], people["maxItems"]) == (3, 3)
    person = people["items"]
    assert person["required"] == ["persona", "occupation", "expertise", "interests", "demographics"]
    assert person["additionalProperties"] is False
    assert "maxLength" not in json.dumps(schema)
    bounded = reply_schema("related", 1, relation=True, max_chars=80)
    assert bounded["properties"]["related"]["items"]["properties"]["relation"]["maxLength"] == 80


def test_the_form_chooses_the_template_and_a_template_of_ones_own_stays(tmp_path: Path) -> None:
    for stage in (text_to_persona, persona_to_persona):
        name = stage.__name__.rpartition(".")[2]
        assert stage.Config(engine="e").template == name
        assert stage.Config(engine="e", form="structured").template == f"{name}_structured"
        assert stage.Config(engine="e", form="structured", template="my.md").template == "my.md"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode_shares": {"read": 1}}, "needs `modes_per_text`"),
        ({"mode_shares": {"read": 1}, "modes_per_text": 1}, "exactly the keys that `modes` lists"),
        ({"modes": ["read"], "mode_shares": {"read": 0}, "modes_per_text": 1}, "above 0"),
        ({"modes": ["read"], "mode_shares": {"read": float("inf")}, "modes_per_text": 1}, "above 0"),
        ({"granularity": []}, "`granularity` must not be empty"),
        ({"granularity": ["coarse", "rough"]}, "granularity"),
        ({"form": "json"}, "'plain' or 'structured'"),
    ],
)
def test_config_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(text_to_persona.Config, {"engine": "e", **values}, "c")


def test_modes_follow_their_shares_and_granularity_is_drawn() -> None:
    shares = {"read": 0.6, "write": 0.3, "like": 0.1}
    config = text_to_persona.Config(
        engine="e",
        modes=("read", "write", "like"),
        modes_per_text=1,
        mode_shares=shares,
        granularity=("coarse", "fine"),
    )
    asked = [text_to_persona.requests_of(config, f"document {number}") for number in range(3000)]
    counts = Counter(mode for ((mode, _),) in asked)
    for mode, share in shares.items():
        assert abs(counts[mode] / 3000 - share) < 0.03
    levels = Counter(granularity for ((_, granularity),) in asked)
    assert abs(levels["coarse"] - 1500) < 150
    assert text_to_persona.requests_of(config, "document 5") == asked[5]


def test_granularities_and_modes_have_prompts_of_their_own() -> None:
    for name in ("text_to_persona", "text_to_persona_structured"):
        template = load_template(name, text_to_persona.PROMPTS)
        rendered = {
            template.render(text="T", mode=mode, granularity=granularity, count=2)[0]["content"]
            for mode in ("read", "write", "like", "dislike")
            for granularity in ("coarse", "medium", "fine")
        }
        assert len(rendered) == 12


def test_both_stages_in_the_structured_form(run: Any, repository: Path) -> None:
    corpus = {"path": str(repository / "configs/data/walks_of_life.jsonl"), "limit": 40}
    first = {"engine": "teacher", "form": "structured", "granularity": ["medium", "fine"]}
    related = {"engine": "teacher", "form": "structured", "hops": 2, "breadth": 2, "max_new": 400}
    stages = {
        "documents": {"run": "personahub.sources", "config": corpus},
        "first": {"run": "personahub.text_to_persona", "inputs": {"documents": "documents"}, "config": first},
        "related": {"run": "personahub.persona_to_persona", "inputs": {"personas": "first"}, "config": related},
        "good": {"run": "personahub.quality", "inputs": {"personas": "related"}},
    }
    artifacts = run(stages)
    documents = {row["id"]: row["text"] for row in artifacts["documents"].rows()}
    rows = list(artifacts["first"].rows())
    assert len(rows) >= 300
    assert {row["granularity"] for row in rows} == {"medium", "fine"}
    reported = 0
    for row in rows:
        profile = json.loads(row["profile"])
        assert profile["expertise"]
        for entry in profile.get("demographics", ()):
            reported += 1
            assert set(entry) == {"attribute", "value", "evidence"}
            assert entry["evidence"].split()[0] in documents[row["document_id"]]
    unsupported = [row for row in artifacts["first"].rejected() if row["reason"] == "unsupported_demographic"]
    ids = {row["id"] for row in rows}
    assert reported > 10
    assert len(unsupported) > 5
    assert all(row["id"] in ids and json.loads(row["detail"])["evidence"] for row in unsupported)
    new = [row for row in artifacts["related"].rows() if row["hop"]]
    assert all(json.loads(row["profile"])["expertise"] and row["relation"] for row in new)
    assert artifacts["good"].num_rows > 600


def test_profiles_are_checked_too() -> None:
    config = quality.Config()
    quality.check_profile(None, config)
    quality.check_profile(Profile("A nurse", "", "nurse", ("Machine Learning",), ()).to_json(), config)
    for text, reason in (("mira@example.org", "contact_data"), ("[insert skill]", "markup")):
        with pytest.raises(Rejected) as error:
            quality.check_profile(Profile("A nurse", "", "nurse", (text,), ()).to_json(), config)
        assert error.value.reason == reason
        assert error.value.detail.startswith("profile: ")
