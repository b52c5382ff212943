"""Unsound problems leave before they are solved: rules first, then verdicts of an LLM."""

from __future__ import annotations

import json

import pytest

from personahub.core.config import parse_config
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected, UserError
from personahub.core.records import PERSONA, PROBLEM
from synth.check_problems import Config, decide, parse_verdict


def said(text: str) -> str:
    return parse_verdict(Request((), Sampling(), 0), Completion(text, "stop", 1, 1, "m"))


def test_the_last_verdict_counts() -> None:
    assert said("Verdict: missing? No, it is given.\n\n**Verdict:** Sound.") == "sound"
    assert said("<think>Verdict: proof</think>Fine.\nVerdict: `multiple`") == "multiple"


def test_a_problem_that_gives_its_answer_away_is_rejected() -> None:
    assert said("It says 48.\nVerdict: answered") == "answered"
    with pytest.raises(Rejected, match="contains_solution"):
        decide(parse_config(Config, {"engine": "e"}, "test"), ["answered"])


@pytest.mark.parametrize(
    ("text", "reason"), [("It is sound.", "no_prefix"), ("Verdict: nice", "unknown_verdict"), ("", "no_prefix")]
)
def test_other_replies_are_asked_for_again(text: str, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        said(text)


def test_doubts_are_counted_and_the_flaw_named_most_is_the_reason() -> None:
    config = parse_config(Config, {"engine": "e", "judges": 3, "max_doubts": 1}, "test")
    decide(config, ["sound", "missing", "sound"])
    with pytest.raises(Rejected) as rejected:
        decide(config, ["missing", "contradictory", "contradictory"])
    assert rejected.value.reason == "contradictory"
    with pytest.raises(UserError, match="no problem could fail"):
        parse_config(Config, {"engine": "e", "judges": 2, "max_doubts": 2}, "test")


def test_most_unsound_problems_leave_and_most_sound_ones_stay(make_artifact, run_module) -> None:
    rates = {"unsolvable": 0.3, "missed_flaw": 0.2, "false_flaw": 0.02}
    engines = {"teacher": {"kind": "simulated", "model": "m", "rates": rates}}
    personas = [{"id": f"p{i}", "persona": f"A beekeeper with {i} hives"} for i in range(40)]
    problems = run_module(
        "synth.problems",
        {"engine": "teacher", "problems_per_persona": 5},
        engines=engines,
        personas=make_artifact("personas", PERSONA, personas, shards=1),
    )
    truth = {(t["record_id"], t["sample"]): json.loads(t["truth"]) for t in problems.truth()}
    sound = {row["id"]: truth[row["persona_id"], row["sample"]]["answer"] is not None for row in problems.rows()}
    checked = run_module("synth.check_problems", {"engine": "teacher"}, engines=engines, problems=problems)
    stayed = {row["id"] for row in checked.rows()}
    good, bad = [i for i in sound if sound[i]], [i for i in sound if not sound[i]]
    assert len(bad) > 30
    assert sum(i in stayed for i in bad) < 0.4 * len(bad)
    assert sum(i in stayed for i in good) > 0.9 * len(good)
    assert {row["reason"] for row in checked.rejected()} == {"missing_condition", "contradictory"}


def test_rules_reject_without_a_request(make_artifact, run_module) -> None:
    row = {"id": "a", "problem": "Prove that there are infinitely many primes.", "persona_id": "p"}
    checked = run_module("synth.check_problems", {"engine": "teacher"}, problems=make_artifact("p", PROBLEM, [row]))
    assert checked.manifest.usage.requests == 0
    assert [rejected["reason"] for rejected in checked.rejected()] == ["proof_only"]
