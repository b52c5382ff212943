"""Samples per problem: their order, their seeds, and what happens when some of them fail."""

from __future__ import annotations

import pytest

from personahub.core.config import identity_of, parse_config
from personahub.core.engines import Completion, Request, Sampling
from personahub.core.errors import Rejected, UserError
from personahub.core.records import PROBLEM
from synth.problems import parse_problem
from synth.simulated.engine import Config as Teacher
from synth.simulated.engine import answer
from synth.solutions import Config, forecast, parse_solution, prompts


def problem_rows(count: int) -> list[dict]:
    """Problems that the simulated teacher posed, so that it can solve them."""
    rows = []
    message = {"role": "user", "content": "Math problem:\n<persona>a baker</persona>"}
    for seed in range(10 * count):
        completion = answer(Request((message,), Sampling(), seed), Teacher())
        try:
            rows.append({"id": f"problem{seed}", "problem": parse_problem(completion), "persona_id": "p"})
        except Rejected:
            continue
        if len(rows) == count:
            return rows
    raise AssertionError("the simulated teacher hardly poses problems")


COT = {"engine": "teacher", "kind": "cot"}
POT = {"engine": "teacher", "kind": "pot"}


def test_samples_come_in_the_order_of_the_config(make_artifact, run_module) -> None:
    problems = make_artifact("problems", PROBLEM, problem_rows(5))
    engines = {
        name: {"kind": "simulated", "model": model, "rates": {"refusal": 0.0}}
        for name, model in (("teacher", "a"), ("second", "b"))
    }
    config = {"samples": [{**COT, "n": 2}, POT, {"engine": "second", "kind": "cot"}]}
    solutions = run_module("synth.solutions", config, engines=engines, problems=problems)
    rows = list(solutions.rows())
    assert {row["id"] for row in rows} == {row["id"] for row in problems.rows()}
    for row in rows:
        assert [(s["kind"], s["model"]) for s in row["samples"]] == [
            ("cot", "a"),
            ("cot", "a"),
            ("pot", "a"),
            ("cot", "b"),
        ]
        assert len({sample["seed"] for sample in row["samples"]}) == 4
        assert "```python" in row["samples"][2]["text"]
    assert solutions.manifest.usage.requests == 20


def test_a_new_group_leaves_the_requests_before_it_alone() -> None:
    row = {"id": "x", "problem": "What is 1 + 1?"}
    short = prompts(parse_config(Config, {"samples": [COT]}, "test"))(row)
    long = prompts(parse_config(Config, {"samples": [COT, POT]}, "test"))(row)
    assert long[0] == short[0]
    assert long[1].seed != long[0].seed


def test_failed_samples_leave_the_others_and_all_failed_rejects(make_artifact, run_module) -> None:
    problems = make_artifact("problems", PROBLEM, problem_rows(40))
    engines = {"teacher": {"kind": "simulated", "model": "m", "rates": {"refusal": 0.6}}}
    config = {"samples": [{**COT, "n": 3}], "attempts": 1}
    solutions = run_module("synth.solutions", config, engines=engines, problems=problems)
    numbers = {len(row["samples"]) for row in solutions.rows()}
    rejected = list(solutions.rejected())
    assert numbers == {1, 2, 3}
    assert solutions.num_rows + len(rejected) == 40
    assert {row["reason"] for row in rejected} == {"no_samples"}
    assert "refusal" in rejected[0]["detail"]


def test_empty_and_refused_texts_are_no_samples_and_truncated_ones_are() -> None:
    request = Request((), Sampling(), 7)
    for text, reason in ((" \n", "empty"), ("I apologize, I cannot answer that.", "refusal")):
        with pytest.raises(Rejected, match=reason):
            parse_solution(request, Completion(text, "stop", 1, 1, "m"))
    kept = parse_solution(request, Completion("We add 1 and", "length", 1, 4, "m"))
    assert kept == {"text": "We add 1 and", "model": "m", "seed": 7, "finish_reason": "length"}


def test_the_kind_chooses_the_template_and_unknown_ones_are_named() -> None:
    config = parse_config(Config, {"samples": [COT, POT]}, "test")
    assert [group.template for group in config.samples] == ["solve_cot", "solve_pot"]
    engines = {"teacher": "identity"}
    assert len({group["template"] for group in identity_of(config, engines)["samples"]}) == 2
    other = parse_config(Config, {"samples": [{**COT, "template": "solve_dot"}]}, "test")
    with pytest.raises(UserError, match="solve_cot"):
        identity_of(other, engines)


def test_forecast_adds_up_requests_by_engine() -> None:
    config = parse_config(
        Config,
        {"samples": [{**COT, "n": 2}, POT, {"engine": "second"}]},
        "test",
    )
    expected = forecast(config, {"problems": 100})
    assert expected.rows_out == 100
    assert {name: r.count for name, r in expected.requests.items()} == {"teacher": 300, "second": 100}
