r"""Problems and solutions of the simulated teacher, with the truth about them.

    problem = make_problem("a retired railway engineer", seed=7, rates=FaultRates())
    solution = solve(problem.text, seed=8, kind="cot", rates=FaultRates())

Both depend only on their arguments, so any process can solve the problems of any other process: `solve` recognizes a
problem by its text. `truth` is for measuring the pipeline (how many wrong solutions pass verification, which
near-duplicates dedup misses). Stages never see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from random import Random
from typing import Any, Literal

from synth.simulated import attempts
from synth.simulated.attached import attach, giveaway
from synth.simulated.attempts import Attempt
from synth.simulated.families import FAMILIES
from synth.simulated.faults import FaultRates
from synth.simulated.grammar import Difficulty, Family, Instance, recognize, seeded, tex
from synth.simulated.themes import neutral_slots, theme_of

Kind = Literal["cot", "pot"]

REFUSAL = "I'm sorry, but I can't help with that."
_CANONICAL_PROBLEMS = 16  # that near-duplicates repeat, for each difficulty and choice of families
_WEIGHTS = (7, 2, 1)  # of a persona's preferred families, most characteristic word first
_PERSONA_LENGTH = 2000  # characters that are read; a persona is one or two sentences


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem. `reply` is the whole completion. `text` is the problem in it, empty after a refusal."""

    text: str
    reply: str
    truth: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Solution:
    """A solution. `text` is the whole completion. `truth["correct"]` says whether the final answer is right."""

    text: str
    truth: dict[str, Any]


def family_names(subject: str | None = None, difficulty: Difficulty | None = None) -> tuple[str, ...]:
    """Returns the names of all families, or of those of one MATH subject or one difficulty."""
    return tuple(
        family.name
        for family in FAMILIES
        if subject in (None, family.subject) and (difficulty is None or difficulty in family.difficulties)
    )


def make_problem(
    persona: str | None,
    seed: int,
    *,
    key_points: str | None = None,
    words: str | None = None,
    difficulty: Difficulty = "easy",
    families: tuple[str, ...] | None = None,
    rates: FaultRates,
) -> Problem:
    """Makes a problem.

    Args:
        persona: determines the theme and the preferred families. With None both come from the seed, and the themes
            are few.
        seed: determines the numbers, the wording and the faults.
        key_points: determine the preferred families if there is no persona.
        words: determine the theme if there is no persona.
        difficulty: determines the sizes of the numbers and additional questions.
        families: names to choose from. Those that do not exist at `difficulty` are ignored.
        rates: rates of the faults.

    Raises:
        ValueError: none of `families` exists at `difficulty`.
    """
    choices = _choices(families, difficulty)
    faults = ("refusal", "truncation", "malformed", "unsolvable", "near_duplicate", "attached_solution")
    fault = rates.draw(seeded("fault", seed), *faults)
    rng = seeded("problem", seed)
    canonical = rng.randrange(_CANONICAL_PROBLEMS)
    if fault == "near_duplicate":  # everything but the theme comes from a shared seed
        slots, instance = neutral_slots(rng), _instance(seeded("canonical", canonical), None, choices, difficulty)
    else:
        world, mathematics = persona or words, persona or key_points
        slots = theme_of(world[:_PERSONA_LENGTH]).slots if world else neutral_slots(rng)
        preferences = theme_of(mathematics[:_PERSONA_LENGTH]).preferences if mathematics else None
        instance = _instance(rng, preferences, choices, difficulty)
    if fault == "unsolvable":
        instance = _spoiled(instance, rng)
    text = instance.text(slots)
    reply = f"Math problem: {text}"
    if fault == "refusal":
        text, reply = "", REFUSAL
    elif fault == "truncation":
        text = _cut(text, rng, 0.3, 0.8)
        reply = f"Math problem: {text}"
    elif fault == "malformed":
        reply = text if rng.random() < 0.5 else f"Sure! Here is one for this person:\n\n{text}"
    answer = None if fault in ("refusal", "truncation") else instance.answer
    if fault == "attached_solution" and answer is not None:
        text, reply = attach(text, tex(answer), rng)
    truth = {
        "family": instance.family.name,
        "subject": instance.family.subject,
        "difficulty": difficulty,
        "params": instance.params,
        "answer": None if answer is None else tex(answer),
        "fault": fault,
        "canonical": canonical if fault == "near_duplicate" else None,
    }
    return Problem(text, reply, truth)


@lru_cache(maxsize=256)
def _choices(families: tuple[str, ...] | None, difficulty: Difficulty) -> tuple[Family, ...]:
    found = tuple(f for f in FAMILIES if difficulty in f.difficulties and (families is None or f.name in families))
    if not found:
        raise ValueError(f"no problem family at difficulty {difficulty} among {', '.join(families or ())}")
    return found


def _instance(
    rng: Random, preferences: tuple[int, ...] | None, choices: tuple[Family, ...], difficulty: Difficulty
) -> Instance:
    """Draws numbers, wording and, at `hard`, an additional question.

    The seed picks among the preferred families. Without preferences the frequencies of the families follow the
    harmonic series (1, 1/2, 1/3, ...), because LLMs that are asked for any problem prefer a few kinds.
    """
    if preferences:
        pick, index = divmod(rng.choices(preferences, _WEIGHTS[: len(preferences)])[0], len(choices))
        family = choices[index]
    else:
        pick = rng.getrandbits(16)
        family = rng.choices(_favorites(choices), cum_weights=_harmonic(len(choices)))[0]
    params = family.sample(rng, difficulty)
    wording = pick % len(family.wordings)
    modulus, fold = None, False
    if difficulty == "hard" and rng.random() < 0.6:
        answer = family.solve(params)
        if isinstance(answer, Fraction) and answer.denominator > 1:
            fold = True
        elif not isinstance(answer, str) and answer > 100:
            modulus = rng.choice((7, 9, 11, 13, 100))
    return Instance(family, wording, params, modulus, fold)


@lru_cache(maxsize=256)
def _favorites(choices: tuple[Family, ...]) -> tuple[Family, ...]:
    return tuple(sorted(choices, key=lambda family: seeded("favourite", family.name).random()))


@lru_cache(maxsize=256)
def _harmonic(count: int) -> tuple[float, ...]:
    return tuple(accumulate(1 / (rank + 1) for rank in range(count)))


def _spoiled(instance: Instance, rng: Random) -> Instance:
    """Makes the problem unsolvable. Withholds a number, or adds a bound that contradicts the rest."""
    withhold = instance.family.compiled[instance.wording].may_withhold
    answer = instance.answer
    bound = None
    if isinstance(answer, int | Fraction) and rng.random() < 0.4:
        bound = int(answer) + rng.randint(1, 9)
    return Instance(
        instance.family,
        instance.wording,
        instance.params,
        instance.modulus,
        instance.fold,
        bound,
        rng.choice(withhold) if bound is None else None,
    )


def _cut(text: str, rng: Random, least: float, most: float) -> str:
    """Returns the beginning of a text, up to the end of a word."""
    words = text.split(" ")
    return " ".join(words[: max(1, int(len(words) * rng.uniform(least, most)))])


@lru_cache(maxsize=8192)
def read_problem(text: str) -> Instance | None:
    """Reads the instance from a problem's text, with or without prefix. Returns None for any other text."""
    text, _ = giveaway(text)
    return recognize(text.strip().removeprefix("Math problem:"), FAMILIES)


def solve(problem_text: str, seed: int, kind: Kind, *, rates: FaultRates) -> Solution:
    """Solves a problem in words (`cot`) or with a program (`pot`).

    For problems of other origin, and mostly for problems without a solution, the answer is a confident guess. Wrong
    arithmetic in a program is a number that was computed by hand and written into it.
    """
    instance = read_problem(problem_text)
    rng = seeded(kind, seed)
    fault = rates.draw(rng, "refusal", "truncation", "malformed", "wrong_arithmetic", "wrong_reading")
    # Seeded by the text, so that every sample can make the same mistake.
    invited = seeded("invited", problem_text) if rng.random() < rates.correlated else rng
    mistaken = fault in ("wrong_arithmetic", "wrong_reading")
    if instance is None:
        attempt = attempts.blind(problem_text, invited)
        fault = "unrecognised" if mistaken or fault is None else fault
    elif instance.answer is None:
        attempt = attempts.without_solution(instance, invited)
        fault = "unsolvable" if mistaken or fault is None else fault
    elif mistaken:
        if invited is not rng:
            mistakes = rates.wrong_arithmetic + rates.wrong_reading
            fault = "wrong_arithmetic" if invited.random() * mistakes < rates.wrong_arithmetic else "wrong_reading"
        attempt = (attempts.slipped if fault == "wrong_arithmetic" else attempts.misread)(instance, invited)
    else:
        attempt = attempts.right(instance)
    return _solution(instance, attempt, kind, fault, rng)


def judge(problem_text: str, seed: int, *, rates: FaultRates) -> Solution:
    """Judges whether a problem is sound, in a sentence and a line `Verdict: ...`.

    `truth["correct"]` says whether the verdict is right. Problems of other origin are judged sound.
    """
    instance = read_problem(problem_text)
    rng = seeded("judge", seed)
    fault = rates.draw(rng, "refusal", "truncation", "malformed")
    state = "sound"
    if instance is not None and instance.answer is None:
        state = "contradictory" if instance.withheld is None else "missing"
    elif giveaway(problem_text)[1] is not None:
        state = "answered"
    shared = rng.random() < rates.correlated
    mistaken = (seeded("doubt", problem_text) if shared else rng).random() < (
        rates.false_flaw if state == "sound" else rates.missed_flaw
    )
    wrong = rng.choice(("missing", "contradictory")) if state == "sound" else "sound"
    verdict = wrong if mistaken else state
    truth = {"state": state, "verdict": verdict, "correct": not mistaken and fault is None, "fault": fault}
    if fault == "refusal":
        return Solution(REFUSAL, truth)
    body = _VERDICTS[verdict]
    if fault == "truncation":
        return Solution(_cut(body, rng, 0.3, 0.8), truth)
    return Solution(body if fault == "malformed" else f"{body}\n\nVerdict: {verdict}", truth)


_VERDICTS = {
    "sound": "Everything that the question depends on is given, and the conditions leave one answer.",
    "missing": "One of the quantities that the answer depends on is not given, so it stays open.",
    "contradictory": "Working it through, one of the conditions excludes what follows from the others.",
    "answered": "The text says what comes out, so nothing is left to work out.",
}


def _solution(instance: Instance | None, attempt: Attempt, kind: Kind, fault: str | None, rng: Random) -> Solution:
    answer = None if instance is None or instance.answer is None else tex(instance.answer)
    readable = attempt.answer is not None and fault not in ("refusal", "truncation", "malformed")
    given = tex(attempt.answer) if readable and attempt.answer is not None else None
    truth = {
        "family": instance.family.name if instance else None,
        "answer": answer,
        "given": given,
        "correct": answer is not None and given == answer,
        "fault": fault,
    }
    if fault == "refusal":
        return Solution(REFUSAL, truth)
    return Solution((_in_words if kind == "cot" else _as_program)(attempt, fault, rng), truth)


def _in_words(attempt: Attempt, fault: str | None, rng: Random) -> str:
    opening = rng.choices(("", "Let us work step by step. "), (4, 1))[0]
    body = opening + " ".join(attempt.steps)
    if fault == "truncation":
        return _cut(body, rng, 0.3, 0.9)
    if attempt.answer is None:
        return f"{body} So the answer cannot be determined."
    ending = rng.choices(("The answer is", "So the answer is"), (4, 1))[0]
    if fault == "malformed":
        return rng.choice((f"{body} {ending} {tex(attempt.answer)}.", rf"{body} {ending} $\boxed{{}}$."))
    return rf"{body} {ending} $\boxed{{{tex(attempt.answer)}}}$."


def _as_program(attempt: Attempt, fault: str | None, rng: Random) -> str:
    code = f"{attempt.program}\nprint(answer)"
    if fault == "truncation":
        return f"```python\n{_cut(code, rng, 0.3, 0.8)}"
    if fault == "malformed":
        broken = (code.removesuffix(")"), code.replace("print(answer)", "print(result)"), attempt.program)
        code = rng.choice(broken)
    return f"```python\n{code}\n```"
