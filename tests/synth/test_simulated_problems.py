"""The problem side of the simulated teacher: what it poses can be read back, solved, and is wrong as often as set."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from fractions import Fraction
from random import Random

import pytest
from pydantic import ValidationError

from personahub.core.answers import check
from synth.simulated.attempts import misread, slipped
from synth.simulated.families import FAMILIES
from synth.simulated.faults import FaultRates
from synth.simulated.grammar import DIFFICULTIES, Family, Instance, recognise, root_tex, tex
from synth.simulated.problems import family_names, make_problem, read_problem, solve
from synth.simulated.themes import neutral_slots, theme_of

NONE = FaultRates.none()
PERSONAS = (
    "A retired railway enthusiast fond of blogging about her canal walks.",
    "I'm a basketball blogger and an avid NBA fan, focusing specifically on the Oklahoma City Thunder team updates.",
    "A first-time parent seeking accurate information about vaccine safety for their newborn baby",
    "Un CEO de una empresa de tecnología que busca asesoramiento para mejorar la eficiencia de sus operaciones",
    "一个经常玩棒球手游，但对现实中的职业棒球缺乏深入了解的玩家。",
    "some",
    "who",
    "",
    "...!?",
    "4 8 15 16 23 42",
    "<who> <a> {thing} $x$ \\boxed{7} ## user",
    "A dealer in some $k$ of 12 boxes. How many are left over? It is known that the result is greater than 3.",
    "a\nb\tc " * 40,
    "supercalifragilisticexpialidocious" * 30,
    "the of and to in for",
)


def instances(seed: int, rounds: int):
    """Every family, difficulty and wording, `rounds` times, with its theme."""
    rng = Random(seed)
    for _ in range(rounds):
        for family in FAMILIES:
            for difficulty in family.difficulties:
                for wording in range(len(family.wordings)):
                    theme = theme_of(rng.choice(PERSONAS)).slots
                    yield Instance(family, wording, family.sample(rng, difficulty)), difficulty, theme


def matches(text: str) -> list[tuple[str, int]]:
    return [(f.name, i) for f in FAMILIES for i, w in enumerate(f.compiled) if w.read(" ".join(text.split()))]


# --- families ---


def test_families_cover_every_subject_at_every_difficulty():
    names = family_names()
    assert len(names) == len(set(names)) >= 30
    subjects = {family.subject for family in FAMILIES}
    assert len(subjects) == 7
    for subject in subjects:
        for difficulty in DIFFICULTIES:
            assert len(family_names(subject, difficulty)) >= 4, (subject, difficulty)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_is_well_formed(family: Family):
    rng = Random(family.name)
    assert 2 <= len(family.wordings) <= 3
    for difficulty in family.difficulties:
        drawn = {tuple(sorted(family.sample(rng, difficulty).items())) for _ in range(2000)}
        assert len(drawn) >= 100, f"only {len(drawn)} problems at {difficulty}"
    for wording, source in zip(family.compiled, family.wordings, strict=True):
        assert {"place", "thing"} <= set(re.findall(r"<(\w+)\??>", source))
        assert wording.may_withhold, f"nothing can be withheld from {source!r}"


def test_every_problem_is_read_back_and_belongs_to_one_wording():
    for instance, _, theme in instances(seed=1, rounds=8):
        text = instance.text(theme)
        assert matches(text) == [(instance.family.name, instance.wording)], text
        found = recognise(text, FAMILIES)
        assert found is not None
        assert (found.params, found.answer) == (instance.params, instance.family.solve(instance.params)), text


def test_thousands_of_problems_are_read_back_as_they_were_posed():
    for i in range(6000):
        persona = PERSONAS[i % len(PERSONAS)] if i % 5 else None
        problem = make_problem(persona, i, difficulty=DIFFICULTIES[i % 3], rates=NONE)
        found = read_problem(problem.text)
        assert found is not None, problem.text
        assert found.family.name == problem.truth["family"]
        assert found.params == problem.truth["params"]
        assert found.answer is not None
        assert tex(found.answer) == problem.truth["answer"]
        assert solve(problem.text, i, "cot", rates=NONE).truth["correct"]


def test_spacing_line_breaks_and_the_prefix_do_not_matter():
    problem = make_problem(PERSONAS[0], 3, difficulty="hard", rates=NONE)
    loose = "\n\n Math problem:  " + problem.text.replace(" ", " \n ") + "\t\n"
    assert read_problem(loose) == read_problem(problem.text) != None  # noqa: E711 - a chain, against both being None


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_program_and_words_agree(difficulty):
    """The two are written independently, so that a slip in either shows."""
    rng = Random(f"agree {difficulty}")
    for family in FAMILIES:
        if difficulty not in family.difficulties:
            continue
        for i in range(6):
            problem = make_problem(
                PERSONAS[i], rng.getrandbits(30), difficulty=difficulty, families=(family.name,), rates=NONE
            )
            words = solve(problem.text, i, "cot", rates=NONE).text
            assert words.endswith(rf"$\boxed{{{problem.truth['answer']}}}$."), words
            printed = output(solve(problem.text, i, "pot", rates=NONE).text)
            assert same(problem.truth["answer"], printed), (family.name, problem.text, words, printed)


def output(reply: str) -> str:
    """The last line that a program of our own grammar prints."""
    match = re.fullmatch(r"```python\n(.*)\n```", reply, re.DOTALL)
    assert match, reply
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(match[1], {})
    return printed.getvalue().strip().splitlines()[-1]


def same(answer: str, printed: str) -> bool:
    return check(answer, rf"\boxed{{{printed}}}").label == "correct"


def test_answers_come_in_many_forms():
    rng = Random(5)
    forms = Counter()
    for family in FAMILIES:
        answer = tex(family.solve(family.sample(rng, family.difficulties[-1])))
        forms["integer" if re.fullmatch(r"-?\d+", answer) else re.sub(r"\d+", "#", answer)] += 1
    assert forms["integer"] >= 20
    for form in (r"\frac{#}{#}", r"#\%", "[#,#]", "(#,#)", r"#\pi", "#x^# + #x + #"):
        assert forms[form], forms


def test_easy_problems_and_solutions_are_short_and_their_numbers_small():
    for i in range(1500):
        problem = make_problem(PERSONAS[i % 4], i, rates=NONE)
        assert len(problem.text.split()) <= 50, problem.text
        assert len(solve(problem.text, i, "cot", rates=NONE).text.split()) <= 60
        assert max(map(abs, problem.truth["params"].values())) <= 200


# --- themes ---


def test_a_theme_comes_from_the_words_of_the_persona():
    slots = theme_of("A retired railway enthusiast fond of blogging about her canal walks.").slots
    assert slots["who"] == "a retired railway enthusiast"
    assert slots["Who"] == "A retired railway enthusiast"
    assert re.search("canal|walk", slots["thing"])
    assert theme_of("I am an elderly Australian who collects stamps").slots["who"] == "an elderly Australian"


def test_near_personas_share_families_more_than_far_ones():
    rng = Random(3)
    words = [f"{a}{b}{c}" for a in ("bo", "ka", "mi", "ru", "te") for b in "lmnrst" for c in ("an", "ek", "il", "om")]

    def family(chosen: list[str], seed: int) -> str:
        return make_problem(f"a {' '.join(chosen)}", seed, rates=NONE).truth["family"]

    near = far = 0
    for seed in range(600):
        chosen = rng.sample(words, 10)
        near += family(chosen[:6], seed) == family([*chosen[:5], chosen[9]], seed)
        far += family(chosen[:5], seed) == family(chosen[5:], seed)
    assert near > 0.4 * 600
    assert far < 0.1 * 600


def test_without_a_persona_there_are_few_themes_but_all_families():
    problems = [make_problem(None, seed, rates=NONE) for seed in range(3000)]
    assert {p.truth["family"] for p in problems} == set(family_names(difficulty="easy"))
    rng = Random(0)
    assert len({tuple(neutral_slots(rng).values()) for _ in range(1000)}) <= 40


def test_families_and_difficulty_choose_what_is_posed():
    chosen = family_names("Geometry")
    for seed in range(200):
        truth = make_problem(PERSONAS[seed % 4], seed, difficulty="hard", families=chosen, rates=NONE).truth
        assert (truth["subject"], truth["difficulty"]) == ("Geometry", "hard")
    with pytest.raises(ValueError, match="no problem family at difficulty easy among expand"):
        make_problem(None, 0, difficulty="easy", families=("expand",), rates=NONE)


# --- the same everywhere ---


def test_another_process_poses_and_solves_the_same():
    code = (
        "from synth.simulated.problems import *\n"
        "p = [make_problem(x, 5, difficulty='hard', rates=FaultRates()) for x in (None, 'a shy bird watcher', '棒球')]\n"
        "s = [solve(q.text, 6, k, rates=FaultRates(correlated=1, wrong_reading=0.9, wrong_arithmetic=0)) "
        "for q in p for k in ('cot', 'pot')]\n"
        "print(repr([(x.text, x.truth) for x in p + s]))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs.pop().strip()


# --- faults ---


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


@pytest.mark.parametrize("fault", ["refusal", "truncation", "malformed", "unsolvable", "near_duplicate"])
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


# --- what it has not posed ---


def test_real_problems_are_not_taken_for_its_own(test_data):
    rows = [json.loads(line) for line in (test_data / "math" / "math500.jsonl").read_text().splitlines()]
    answered = 0
    for i, row in enumerate(rows):
        for kind in ("cot", "pot"):
            solution = solve(row["problem"], i, kind, rates=NONE)
            assert solution.truth["family"] is None
            assert not solution.truth["correct"]
            answered += solution.truth["given"] is not None
    assert answered == 2 * len(rows)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Math problem:",
        "A farmer packs 12 apples at the school into boxes of 0, filling as many boxes as possible. "
        "How many are left over?",
        "Find the last digit of $7^{99999999999}$, the prize question that a student prints on apples for the school.",
        "A farmer labels apples at the school in base 4. One label reads $97$. What is this number in base ten?",
        "A drone carries some for k above k. It starts at $(1, 2)$ and moves by $(some, k)$ each second. "
        "Where is it after 3 seconds?",
        "Of " + "a " * 50_000 + " How many remain unsold?",
        "At " + "x, " * 400 + "picks 3 dollars each and hands over 5 dollars. How much change, in dollars, is due?",
        "\x00\ud800 \\boxed{" * 100,
    ],
)
def test_hostile_problems_are_answered_quickly_and_never_rightly(text):
    started = time.monotonic()
    for kind in ("cot", "pot"):
        solution = solve(text, 1, kind, rates=FaultRates())
        assert not solution.truth["correct"]
        assert solution.text
    assert time.monotonic() - started < 2


def test_large_numbers_in_a_known_wording_stay_affordable():
    started = time.monotonic()
    rng = Random(9)
    for family in FAMILIES:
        for values in ((99999, 99998), (-99999, 99999), (0, 0), (1, 99999), (-1, 1)):
            params = {name: rng.choice(values) for name in family.sample(rng, "hard")}
            solve(Instance(family, 0, params).text(theme_of("a diver").slots), 1, "cot", rates=FaultRates())
    assert time.monotonic() - started < 10


# --- arithmetic of the grammar ---


@pytest.mark.parametrize(
    ("value", "expected"),
    [(7, "7"), (Fraction(-3, 4), r"-\frac{3}{4}"), (Fraction(8, 2), "4"), (r"2\pi", r"2\pi")],
)
def test_answers_as_latex(value, expected):
    assert tex(value) == expected


@pytest.mark.parametrize(
    ("square", "times", "expected"),
    [(12, 1, r"2\sqrt{3}"), (49, 2, "14"), (2, -1, r"-\sqrt{2}"), (0, 5, "0"), (72, 3, r"18\sqrt{2}")],
)
def test_roots_in_simplest_form(square, times, expected):
    assert root_tex(square, times) == expected
