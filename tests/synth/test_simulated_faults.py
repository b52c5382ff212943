"""Faults in the simulated teacher's problems and solutions occur at their rates and match their labels."""

from __future__ import annotations

import contextlib
import io
import re
from collections import Counter
from random import Random

import pytest
from pydantic import ValidationError

from personahub.core.engines import Completion
from synth.contracts.additions import find_stated_answer
from synth.problems import parse_problem
from synth.simulated.attempts import misread, slipped
from synth.simulated.faults import FaultRates
from synth.simulated.grammar import DIFFICULTIES, tex
from synth.simulated.problems import judge, make_problem, read_problem, solve
from tests.synth.simulated_problems import NONE, PERSONAS, instances, output, same


def test_fault_rates_are_checked():
    assert not any(NONE.model_dump().values())
    with pytest.raises(ValidationError):
        FaultRates(refusal=1.5)
    with pytest.raises(ValidationError, match="exceed 1"):
        FaultRates(wrong_arithmetic=0.6, wrong_reading=0.6)
    with pytest.raises(ValidationError):
        FaultRates(typo=0.1)  # type: ignore[call-arg]


def only(**rates: float) -> FaultRates:
    return FaultRates(**{**NONE.model_dump(), **rates})


@pytest.mark.parametrize(
    "fault", ["refusal", "truncation", "malformed", "unsolvable", "near_duplicate", "attached_solution"]
)
def test_problems_fail_at_the_set_rate_and_other_problems_stay_the_same(fault):
    faulty = 0
    for seed in range(1000):
        persona = PERSONAS[seed % 4]
        problem = make_problem(persona, seed, rates=only(**{fault: 0.2}))
        faulty += problem.truth["fault"] == fault
        if problem.truth["fault"] is None:
            assert problem == make_problem(persona, seed, rates=NONE)
    assert 150 < faulty < 250


@pytest.mark.parametrize("kind", ["cot", "pot"])
@pytest.mark.parametrize("fault", ["refusal", "truncation", "malformed", "wrong_arithmetic", "wrong_reading"])
def test_solutions_fail_at_the_set_rate(fault, kind):
    problem = make_problem(PERSONAS[0], 1, rates=NONE)
    truths = [solve(problem.text, seed, kind, rates=only(**{fault: 0.2})).truth for seed in range(1000)]
    assert 150 < sum(truth["fault"] == fault for truth in truths) < 250
    assert all(truth["correct"] == (truth["fault"] is None) for truth in truths)


def test_what_a_faulty_problem_looks_like():
    for seed in range(60):
        refused = make_problem(PERSONAS[0], seed, rates=only(refusal=1))
        assert refused.text == ""
        assert "Math problem:" not in refused.reply
        bare = make_problem(PERSONAS[0], seed, rates=only(malformed=1))
        assert "Math problem:" not in bare.reply
        assert bare.text in bare.reply
        whole = make_problem(PERSONAS[0], seed, rates=NONE)
        cut = make_problem(PERSONAS[0], seed, rates=only(truncation=1))
        assert whole.reply.startswith(cut.reply)
        assert whole.reply == f"Math problem: {whole.text}"
        assert read_problem(cut.text) is None
        assert cut.truth["answer"] is None


def test_a_malformed_or_truncated_solution_states_no_answer():
    rng = Random(0)
    for seed in range(300):
        problem = make_problem(rng.choice(PERSONAS), seed, difficulty=DIFFICULTIES[seed % 3], rates=NONE)
        for rates in (only(malformed=1), only(truncation=1), only(refusal=1)):
            words = solve(problem.text, seed, "cot", rates=rates)
            assert not re.search(r"\\boxed\{[^}]", words.text), words
            assert (words.truth["given"], words.truth["correct"]) == (None, False)
            program = solve(problem.text, seed, "pot", rates=rates)
            assert not runs(program.text), program
            assert (program.truth["given"], program.truth["correct"]) == (None, False)


def runs(reply: str) -> bool:
    """Whether a reply holds a complete program that prints something."""
    match = re.fullmatch(r"```python\n(.*)\n```", reply, re.DOTALL)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(match[1] if match else "", {})
    except (SyntaxError, NameError):
        return False
    return bool(printed.getvalue().strip())


@pytest.mark.parametrize("mistake", [slipped, misread])
def test_a_mistake_changes_the_answer_of_every_family(mistake):
    rng = Random(2)
    for instance, _, _ in instances(seed=4, rounds=3):
        truth = tex(instance.family.solve(instance.params))
        attempt = mistake(instance, rng)
        assert attempt.answer is not None
        assert tex(attempt.answer) != truth, (instance, attempt)


@pytest.mark.parametrize("fault", ["wrong_arithmetic", "wrong_reading"])
def test_a_wrong_program_prints_the_wrong_answer_it_is_said_to(fault):
    for seed in range(250):
        problem = make_problem(PERSONAS[seed % 4], seed, difficulty=DIFFICULTIES[seed % 3], rates=NONE)
        solution = solve(problem.text, seed, "pot", rates=only(**{fault: 1}))
        printed = output(solution.text)
        assert same(solution.truth["given"], printed), (problem.text, solution)
        assert not same(solution.truth["answer"], printed), (problem.text, solution)


def test_correlated_mistakes_are_the_same_in_every_sample_and_kind():
    rates = {"wrong_arithmetic": 0.5, "wrong_reading": 0.5}
    spread = []
    for seed in range(80):
        text = make_problem(PERSONAS[0], seed, difficulty="medium", rates=NONE).text
        together = {
            solve(text, sample, kind, rates=only(correlated=1, **rates)).truth["given"]
            for sample in range(6)
            for kind in ("cot", "pot")
        }
        assert len(together) == 1
        spread.append(len({solve(text, s, "cot", rates=only(**rates)).truth["given"] for s in range(12)}))
    assert sum(spread) / len(spread) > 4


def test_the_share_of_shared_mistakes_is_the_one_set():
    def share(correlated: float) -> float:
        hits = 0
        for seed in range(150):
            text = make_problem(None, seed, difficulty="medium", rates=NONE).text
            invited = solve(text, 0, "cot", rates=only(wrong_reading=1, correlated=1)).truth["given"]
            rates = only(wrong_reading=1, correlated=correlated)
            hits += sum(solve(text, sample, "cot", rates=rates).truth["given"] == invited for sample in range(20))
        return hits / 3000

    by_chance = share(0)
    assert by_chance < 0.4
    assert share(0.4) == pytest.approx(0.4 + 0.6 * by_chance, abs=0.05)


def test_an_unsolvable_problem_has_no_answer_and_is_mostly_answered_all_the_same():
    answered, ways = 0, Counter()
    for seed in range(600):
        problem = make_problem(PERSONAS[seed % 4], seed, difficulty=DIFFICULTIES[seed % 3], rates=only(unsolvable=1))
        found = read_problem(problem.text)
        assert found is not None, problem.text
        assert found.answer is None
        assert problem.truth["answer"] is None
        ways["withheld" if found.withheld else "contradiction"] += 1
        for kind in ("cot", "pot"):
            truth = solve(problem.text, seed, kind, rates=NONE).truth
            assert (truth["correct"], truth["fault"]) == (False, "unsolvable")
            answered += truth["given"] is not None
    assert answered > 0.8 * 1200
    assert min(ways["withheld"], ways["contradiction"]) > 100


def test_a_bound_that_holds_contradicts_nothing():
    text = "Of 35 cards at the fair, a teacher sells $\\frac{2}{5}$. How many remain unsold? It is known that the result is greater than"
    assert read_problem(f"{text} 20.").answer == 21  # type: ignore[union-attr]
    assert read_problem(f"{text} 21.").answer is None  # type: ignore[union-attr]


def test_an_attached_solution_is_cut_or_left_to_the_judge():
    ways = Counter()
    for seed in range(120):
        problem = make_problem(PERSONAS[seed % 4], seed, rates=only(attached_solution=1))
        plain = make_problem(PERSONAS[seed % 4], seed, rates=NONE)
        assert parse_problem(Completion(problem.reply, "stop", 1, 1, "m")) == problem.text
        assert read_problem(problem.text) == read_problem(plain.text)
        given_away = problem.text != plain.text
        verdict = judge(problem.text, seed, rates=NONE)
        assert verdict.truth["verdict"] == ("answered" if given_away else "sound")
        assert (find_stated_answer(problem.text, str(problem.truth["answer"])) is None) or given_away
        ways["given away" if given_away else "cut"] += 1
    assert min(ways.values()) > 20


def test_near_duplicates_repeat_a_few_problems_in_other_words():
    groups: dict[int, set] = {}
    texts = set()
    for seed in range(1500):
        problem = make_problem(PERSONAS[seed % 4], seed, rates=only(near_duplicate=1))
        truth = problem.truth
        groups.setdefault(truth["canonical"], set()).add((truth["family"], *truth["params"].items()))
        texts.add(problem.text)
    assert len(groups) == 16
    assert all(len(group) == 1 for group in groups.values())
    assert len(texts) > 200
