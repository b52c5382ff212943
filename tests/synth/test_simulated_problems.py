"""The problem side of the simulated teacher: what it poses can be read back and solved, and is the same everywhere."""

from __future__ import annotations

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

from synth.simulated.families import FAMILIES
from synth.simulated.faults import FaultRates
from synth.simulated.grammar import DIFFICULTIES, Family, Instance, recognize, tex
from synth.simulated.notation import root_tex
from synth.simulated.problems import family_names, make_problem, read_problem, solve
from synth.simulated.themes import neutral_slots, theme_of
from tests.synth.simulated_problems import NONE, PERSONAS, instances, output, same


def matches(text: str) -> list[tuple[str, int]]:
    return [(f.name, i) for f in FAMILIES for i, w in enumerate(f.compiled) if w.parse(" ".join(text.split()))]


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
        found = recognize(text, FAMILIES)
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
    started = time.process_time()
    for kind in ("cot", "pot"):
        solution = solve(text, 1, kind, rates=FaultRates())
        assert not solution.truth["correct"]
        assert solution.text
    assert time.process_time() - started < 2


def test_large_numbers_in_a_known_wording_stay_affordable():
    started = time.process_time()
    rng = Random(9)
    for family in FAMILIES:
        for values in ((99999, 99998), (-99999, 99999), (0, 0), (1, 99999), (-1, 1)):
            params = {name: rng.choice(values) for name in family.sample(rng, "hard")}
            solve(Instance(family, 0, params).text(theme_of("a diver").slots), 1, "cot", rates=FaultRates())
    assert time.process_time() - started < 10


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
