"""Votes, policies, and what verification is worth against a teacher whose errors are known."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import pytest

from personahub.core.config import parse_config
from personahub.core.errors import Rejected, UserError
from personahub.core.records import PERSONA, REFERENCE, SOLUTIONS
from synth.sandbox.programs import Sandbox
from synth.simulated.faults import FaultRates
from synth.verify import Config, Policy, decide
from synth.voting.votes import Vote


def sandbox_works() -> str:
    """Why there is no sandbox on this machine, or nothing."""
    try:
        Sandbox().close()
    except UserError as error:
        return str(error)
    return ""


NO_SANDBOX = sandbox_works()
needs_sandbox = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX)


def votes_of(clusters: Sequence[int | str], kinds: str = "c" * 9) -> list[Vote]:
    """One vote per entry: a cluster's number, or a status for a sample without an answer."""
    return [
        Vote("cot" if kind == "c" else "pot", "m", str(cluster), "answered", cluster)
        if isinstance(cluster, int)
        else Vote("cot" if kind == "c" else "pot", "m", None, cluster, -1)
        for cluster, kind in zip(clusters, kinds, strict=False)
    ]


def samples_of(count: int) -> list[dict]:
    return [{"text": "x" * (10 - i)} for i in range(count)]


@pytest.mark.parametrize(
    ("policy", "clusters", "share"),
    [
        ("two_of_three", [0, 0, 0], 1.0),
        ("two_of_three", [0, 0, 1], 2 / 3),
        ("two_of_three", [1, 0, 0], 2 / 3),
        ("two_of_three", [0, 0, "truncated"], 2 / 3),
        ("two_of_three", [0, 0], 2 / 3),  # the third sample failed upstream
        ("majority", [0, 0, 0, 1, 2], 3 / 5),
        ("majority", [0, 0], 1.0),
        ("majority", [0, 0, "error"], 2 / 3),
        ("unanimous", [0, 0, 0, 0], 1.0),
    ],
)
def test_policies_accept(policy: Policy, clusters: list, share: float) -> None:
    chosen, found = decide(Config(policy=policy), samples_of(len(clusters)), votes_of(clusters))
    assert clusters[chosen] == 0
    assert found == pytest.approx(share)


@pytest.mark.parametrize(
    ("policy", "clusters", "reason"),
    [
        ("two_of_three", [0, 1, 2], "no_agreement"),
        ("two_of_three", [0, "no_answer", "truncated"], "no_agreement"),
        ("two_of_three", ["no_answer", "timeout", "truncated"], "no_answer"),
        ("two_of_three", [0], "too_few_samples"),
        ("majority", [0, 0, 1, 1, 2], "tie"),
        ("majority", [0, 0, 1, 1], "tie"),
        ("majority", [0, 0, 1, 2, 3], "no_agreement"),
        ("majority", [0, 0, "truncated", "truncated"], "no_agreement"),
        ("majority", [0, 1], "no_agreement"),
        ("majority", [0], "too_few_samples"),
        ("unanimous", [0, 0, 1], "no_agreement"),
        ("unanimous", [0, 0, "no_answer"], "no_agreement"),
        ("unanimous", [0], "too_few_samples"),
        ("none", ["truncated", "truncated"], "truncated"),
        ("none", [], "no_cot"),
    ],
)
def test_policies_reject_by_reason(policy: Policy, clusters: list, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        decide(Config(policy=policy), samples_of(len(clusters)), votes_of(clusters))
    assert rejected.value.reason == reason


def test_the_solution_kept_is_a_cot_of_the_winning_cluster() -> None:
    votes = votes_of([1, 0, 0, 0], "cpcc")
    assert decide(Config(), samples_of(4), votes) == (2, 3 / 4)
    assert decide(Config(choose="shortest"), samples_of(4), votes) == (3, 3 / 4)
    with pytest.raises(Rejected, match="no_cot_in_winning_cluster"):
        decide(Config(), samples_of(3), votes_of([1, 0, 0], "cpp"))


def test_more_may_be_asked_of_the_winner() -> None:
    with pytest.raises(Rejected, match="low_vote_share"):
        decide(Config(min_vote_share=0.7), samples_of(3), votes_of([0, 0, 1]))
    with pytest.raises(Rejected, match="no_pot_in_winning_cluster"):
        decide(Config(require_pot=True), samples_of(3), votes_of([0, 0, 1], "ccp"))
    assert decide(Config(require_pot=True), samples_of(3), votes_of([0, 0, 1], "cpc"))[0] == 0


def solved(*samples: tuple[str, str]) -> dict:
    return {
        "id": "problem",
        "problem": "What?",
        "samples": [
            {"kind": kind, "text": text, "model": f"m{i}", "finish_reason": "stop", "seed": i}
            for i, (kind, text) in enumerate(samples)
        ],
    }


def cot(answer: str) -> tuple[str, str]:
    return "cot", rf"We compute. $\boxed{{{answer}}}$"


def test_equivalent_answers_vote_together_and_records_keep_their_votes(make_artifact, run_module) -> None:
    rows = [
        solved(cot(r"\frac{1}{2}"), cot("7"), cot("0.5")) | {"id": "kept"},
        solved(cot("1"), cot("2"), cot("3")) | {"id": "dropped"},
    ]
    solutions = make_artifact("solutions", SOLUTIONS, rows, shards=1)
    verified = run_module("synth.verify", {"policy": "two_of_three", "workers": 1}, solutions=solutions)
    (row,) = verified.rows()
    assert (row["id"], row["answer"], row["solution_model"]) == ("kept", r"\frac{1}{2}", "m0")
    assert [vote["cluster"] for vote in row["votes"]] == [0, 1, 0]
    assert row["vote_share"] == pytest.approx(2 / 3)
    (rejected,) = verified.rejected()
    assert rejected["reason"] == "no_agreement"
    record = json.loads(rejected["record"])
    assert [vote["answer"] for vote in record["votes"]] == ["1", "2", "3"]
    assert len(record["samples"]) == 3


def test_none_keeps_the_first_whole_cot_and_runs_no_program(make_artifact, run_module, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")  # no bubblewrap
    rows = [solved(("pot", "```python\nprint(1)\n```"), ("cot", "No box here."), cot("2"))]
    verified = run_module("synth.verify", {"policy": "none"}, solutions=make_artifact("s", SOLUTIONS, rows))
    (row,) = verified.rows()
    assert (row["solution"], row["answer"], row["vote_share"]) == ("No box here.", None, None)
    assert [(vote["kind"], vote["status"]) for vote in row["votes"]] == [("cot", "no_answer"), ("cot", "answered")]


def test_without_a_sandbox_programs_do_not_run(make_artifact, run_module, monkeypatch, tmp_path) -> None:
    marker = tmp_path / "ran"
    program = f"```python\nopen({str(marker)!r}, 'w')\nprint(1)\n```"
    solutions = make_artifact("s", SOLUTIONS, [solved(cot("1"), ("pot", program))])
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "sandlock", None)  # as if it were not installed
    with pytest.raises(UserError, match="apt-get install bubblewrap"):
        run_module("synth.verify", {"policy": "majority"}, solutions=solutions)
    assert not marker.exists()


@needs_sandbox
def test_programs_vote_with_what_they_print(make_artifact, run_module) -> None:
    program = "```python\nfrom sympy import *\nprint('thinking')\nprint(sqrt(8) * pi / 2)\n```"
    rows = [
        solved(cot(r"\sqrt{2}\pi"), ("pot", program), ("pot", "```python\n1 / 0\n```")) | {"id": "a"},
        solved(("pot", program), ("pot", program), cot("1")) | {"id": "b"},
        solved(("pot", "```python\nwhile True: pass\n```"), cot("1"), cot("1")) | {"id": "c"},
        solved(cot("3"), ("pot", "```json\n[1, 2]\n```\n```python\nprint(1 + 2)\n```\nOutput:\n```\n3\n```"), cot("4"))
        | {"id": "d"},
    ]
    config = {"policy": "two_of_three", "programs": {"timeout_s": 2}, "workers": 1}
    solutions = make_artifact("s", SOLUTIONS, rows, shards=1)
    verified = run_module("synth.verify", config, solutions=solutions)
    kept = {row["id"]: row for row in verified.rows()}
    assert kept.keys() == {"a", "c", "d"}
    assert [vote["status"] for vote in kept["a"]["votes"]] == ["answered", "answered", "error"]
    assert kept["a"]["answer"] == r"\sqrt{2}\pi"
    assert kept["c"]["votes"][0]["status"] == "timeout"
    (rejected,) = verified.rejected()
    assert (rejected["id"], rejected["reason"]) == ("b", "no_cot_in_winning_cluster")


def test_agreement_lowers_the_share_of_wrong_answers(make_artifact, run_module) -> None:
    personas = [{"id": f"p{i}", "persona": f"A {trade} from {town}"} for i, (trade, town) in enumerate(PEOPLE)]
    rates = {"wrong_arithmetic": 0.15, "wrong_reading": 0.05, "correlated": 0.3}
    engines = {"teacher": {"kind": "simulated", "model": "m", "rates": rates}}

    problems = run_module(
        "synth.problems",
        {"engine": "teacher", "problems_per_persona": 6},
        engines=engines,
        personas=make_artifact("personas", PERSONA, personas, shards=1),
    )
    truth = {(t["record_id"], t["sample"]): json.loads(t["truth"]) for t in problems.truth()}
    answers = {row["id"]: truth[row["persona_id"], row["sample"]]["answer"] for row in problems.rows()}
    samples = {"samples": [{"engine": "teacher", "n": 5}]}
    solutions = run_module("synth.solutions", samples, engines=engines, problems=problems)
    wrong = {}
    for policy in ("none", "majority", "unanimous"):
        kept = list(run_module("synth.verify", {"policy": policy, "workers": 1}, policy, solutions=solutions).rows())
        assert len(kept) > 20
        wrong[policy] = sum(row["answer"] != answers[row["id"]] for row in kept) / len(kept)
    assert wrong["none"] > 0.1
    assert wrong["majority"] < 0.08
    assert wrong["unanimous"] < wrong["none"] / 3


PEOPLE = [
    (trade, town)
    for trade in ("beekeeper", "tram driver", "nurse", "baker", "surveyor")
    for town in ("Oslo", "Lagos", "Lima", "Pune")
]


@pytest.mark.slow
@needs_sandbox
def test_executors_agree_from_solutions_to_training_data(make_artifact, run_module) -> None:
    """The stages that map shards in processes, sandbox included, give the same records in any of them."""
    program = "```python\nprint({})\n```"
    rows = [
        solved(cot(str(i)), ("pot", program.format(i + i % 2)), cot(str(i)))
        | {"id": f"problem{i}", "problem": f"How many are {i} and {i} apples and {PEOPLE[i % 20][0]}s of {i % 7}?"}
        for i in range(60)
    ]
    solutions = make_artifact("solutions", SOLUTIONS, rows, shards=4)
    exam = make_artifact("exam", REFERENCE, [{"benchmark": "e", "item": "1", "problem": rows[7]["problem"]}])
    found = []
    for execution in ({"executor": "serial"}, {"executor": "process", "workers": 2}):
        kind = execution["executor"]
        verified = run_module("synth.verify", {}, f"verify_{kind}", execution=execution, solutions=solutions)
        clean = run_module(
            "synth.decontaminate",
            {"mask_numbers": False},
            f"clean_{kind}",
            execution=execution,
            problems=verified,
            exam=exam,
        )
        data = run_module("synth.sft_data", {"test_problems": 5}, f"data_{kind}", execution=execution, problems=clean)
        found.append((list(verified.rows()), list(clean.rows()), list(data.rows()), data.manifest.counts))
    assert found[0] == found[1]
    assert len(found[0][0]) == 60
    assert len(found[0][1]) < 60


def test_unsound_problems_are_dropped_whatever_their_samples_say(make_artifact, run_module) -> None:
    rows = [
        solved(cot("7"), cot("7"), cot("7")) | {"id": "proof", "problem": "Prove that 7 is prime."},
        solved(cot("7"), cot("7"), cot("7"))
        | {"id": "bound", "problem": "What is 3 + 4? It is known that the result is greater than 9."},
        solved(cot("7"), cot("7"), cot("7")) | {"id": "sound", "problem": "What is 3 + 4?"},
    ]
    solutions = make_artifact("s", SOLUTIONS, rows, shards=1)
    verified = run_module("synth.verify", {"policy": "majority", "workers": 1}, solutions=solutions)
    assert [row["id"] for row in verified.rows()] == ["sound"]
    rejected = {row["id"]: row for row in verified.rejected()}
    assert {name: row["reason"] for name, row in rejected.items()} == {"proof": "proof_only", "bound": "contradictory"}
    assert len(json.loads(rejected["bound"]["record"])["votes"]) == 3
    off = {"policy": "majority", "workers": 1, "check_problems": False}
    assert run_module("synth.verify", off, "off", solutions=solutions).num_rows == 3
    assert run_module("synth.verify", {"policy": "none"}, "none", solutions=solutions).num_rows == 3


def test_kept_records_say_why_and_how_hard_the_problem_was(make_artifact, run_module) -> None:
    rows = [
        solved(cot("7"), cot("7"), cot("7")) | {"id": "easy"},
        solved(cot("7"), cot("7"), cot("8")) | {"id": "medium"},
        solved(cot("7"), cot("7"), cot("7"), cot("8"), cot("9")) | {"id": "hard"},
    ]
    solutions = make_artifact("s", SOLUTIONS, rows, shards=1)
    verified = run_module("synth.verify", {"policy": "majority", "workers": 1}, solutions=solutions)
    kept = {row["id"]: row for row in verified.rows()}
    assert {name: row["difficulty"] for name, row in kept.items()} == {
        name: name for name in ("easy", "medium", "hard")
    }
    assert kept["hard"]["reason"] == "3 CoT and 0 PoT agree, of 5 samples"
    (plain, *_) = run_module("synth.verify", {"policy": "none"}, "none", solutions=solutions).rows()
    assert (plain["difficulty"], plain["reason"]) == (None, "first whole CoT, nothing compared")


JUDGE = {"judge": {"engine": "judge"}, "policy": "majority", "workers": 1}
SPOKEN = ("cot", "We compute. So the answer is 7.")


def test_a_judge_reads_the_votes_that_have_no_box_and_no_others(make_artifact, run_module) -> None:
    rows = [
        solved(cot("7"), SPOKEN, cot("8"), SPOKEN, cot("9")) | {"id": "joined"},
        solved(cot("7"), cot("8"), ("cot", "It is 8."), cot("9")) | {"id": "apart"},
        solved(SPOKEN, SPOKEN) | {"id": "nobody leads"},
        solved(cot("7"), cot("7"), cot("8")) | {"id": "nothing to ask"},
    ]
    solutions = make_artifact("s", SOLUTIONS, rows, shards=1)
    engines = {"judge": {"kind": "simulated", "model": "judge", "rates": {"malformed": 0.0}}}
    verified = run_module("synth.verify", JUDGE, engines=engines, solutions=solutions)
    kept = {row["id"]: row for row in verified.rows()}
    assert kept.keys() == {"joined", "nothing to ask"}
    assert [vote["status"] for vote in kept["joined"]["votes"]] == [
        "answered", "judged", "answered", "judged", "answered",
    ]  # fmt: skip
    assert (kept["joined"]["answer"], kept["joined"]["solution"]) == ("7", rows[0]["samples"][0]["text"])
    assert kept["joined"]["vote_share"] == pytest.approx(3 / 5)
    assert verified.manifest.usage.requests == 3  # two of `joined`, one of `apart`
    assert {row["id"]: row["reason"] for row in verified.rejected()} == {
        "apart": "no_agreement",
        "nobody leads": "no_answer",
    }
    without = run_module("synth.verify", {**JUDGE, "judge": None}, "without", solutions=solutions)
    assert [row["id"] for row in without.rows()] == ["nothing to ask"]


def test_a_judge_that_cannot_be_read_changes_nothing(make_artifact, run_module) -> None:
    solutions = make_artifact("s", SOLUTIONS, [solved(cot("7"), SPOKEN, SPOKEN)], shards=1)
    rates = {**dict.fromkeys(FaultRates.model_fields, 0.0), "malformed": 1.0}
    engines = {"judge": {"kind": "simulated", "model": "judge", "rates": rates}}
    verified = run_module("synth.verify", JUDGE, engines=engines, solutions=solutions)
    assert [row["reason"] for row in verified.rejected()] == ["no_agreement"]


def test_policy_none_has_nothing_to_judge() -> None:
    with pytest.raises(UserError, match="policy none does not compare votes"):
        parse_config(Config, {"policy": "none", "judge": {"engine": "e"}}, "test")


@needs_sandbox
def test_a_program_that_computes_nothing_is_no_evidence(make_artifact, run_module) -> None:
    def pot(code: str) -> tuple[str, str]:
        return "pot", f"```python\n{code}\n```"

    problem = {"problem": "A crate holds 12 jars. How many do 7 crates hold?"}
    rows = [
        solved(cot("84"), pot("print(12 * 7)"), cot("84")) | {"id": "computed", **problem},
        solved(cot("84"), pot("print(84)"), cot("84")) | {"id": "printed", **problem},
        solved(cot("108"), pot("print(12 * 9)"), cot("108")) | {"id": "invented", **problem},
    ]
    solutions = make_artifact("s", SOLUTIONS, rows, shards=1)
    config = {"require_pot": True, "workers": 1}
    verified = run_module("synth.verify", config, solutions=solutions)
    assert [row["id"] for row in verified.rows()] == ["computed"]
    rejected = {row["id"]: row for row in verified.rejected()}
    assert {name: row["reason"] for name, row in rejected.items()} == {
        "printed": "pot_computes_nothing",
        "invented": "pot_invents_number",
    }
    votes = json.loads(rejected["invented"]["record"])["votes"]
    assert [vote["flaw"] for vote in votes] == [None, "9 is not in the problem", None]
    any_program = run_module("synth.verify", {**config, "pot_computes": False}, "any", solutions=solutions)
    assert any_program.num_rows == 3


def test_a_problem_that_states_the_agreed_answer_is_rejected(make_artifact, run_module) -> None:
    row = solved(cot("48"), cot("48"), cot("48"))
    row["problem"] = "A baker sells 12 loaves for 4 dollars, so she earns 48 dollars. What is the revenue?"
    rows = [row | {"id": "stated"}, solved(cot("7"), cot("7"), cot("7")) | {"id": "kept"}]
    solutions = make_artifact("s", SOLUTIONS, rows, shards=1)
    verified = run_module("synth.verify", {"workers": 1}, solutions=solutions)
    assert [row["reason"] for row in verified.rejected()] == ["answer_in_problem"]
    assert [row["id"] for row in verified.rows()] == ["kept"]
    config = {"workers": 1, "reject_stated_answers": False}
    assert run_module("synth.verify", config, "all", solutions=solutions).num_rows == 2
