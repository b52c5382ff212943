"""Counting & Probability: products, pairs, sets, draws, expectations, committees."""

from __future__ import annotations

from fractions import Fraction
from math import comb, factorial
from random import Random

from synth.simulated.grammar import Difficulty, Family, Scratch, Working, draw, product, require, tex, working

_SUBJECT = "Counting & Probability"


def _sample_choices(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "kinds": draw(rng, difficulty, (2, 9), (11, 40), (25, 150)),
        "sizes": draw(rng, difficulty, (2, 9), (3, 25), (12, 60)),
        "plain": draw(rng, difficulty, (1, 9), (5, 60), (30, 400)),
    }


def _work_choices(note: Scratch, kinds: int, sizes: int, plain: int) -> Working:
    pairs = note(kinds * sizes)
    total = note(pairs + plain)
    return working(total, f"{product(kinds, sizes, pairs)}.", f"{pairs} + {plain} = {total}.")


def _sample_games(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    players = draw(rng, difficulty, (0, 0), (8, 30), (20, 80))
    return {"players": players, "played": rng.randint(1, players * (players - 1) // 2 - 1)}


def _work_games(note: Scratch, players: int, played: int) -> Working:
    others = note(players - 1)
    ordered = note(players * others)
    games = note(ordered // 2)
    left = note(games - played)
    return working(
        left,
        f"{product(players, others, ordered)}.",
        f"{ordered} / 2 = {games} games.",
        f"{games} - {played} = {left}.",
    )


def _sample_neither(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    both = draw(rng, difficulty, (1, 4), (4, 40), (15, 200))
    first = both + draw(rng, difficulty, (1, 6), (3, 60), (20, 300))
    second = both + draw(rng, difficulty, (1, 6), (3, 60), (20, 300))
    neither = draw(rng, difficulty, (1, 9), (5, 70), (30, 300))
    return {"people": first + second - both + neither, "first": first, "second": second, "both": both}


def _work_neither(note: Scratch, people: int, first: int, second: int, both: int) -> Working:
    twice = note(first + second)
    either = note(twice - both)
    neither = note(people - either)
    return working(
        neither,
        f"{first} + {second} = {twice}.",
        f"{twice} - {both} = {either}.",
        f"{people} - {either} = {neither}.",
    )


def _sample_draw(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {color: draw(rng, difficulty, (1, 6), (3, 25), (12, 90)) for color in ("red", "blue", "green")}


def _work_draw(note: Scratch, red: int, blue: int, green: int) -> Working:
    part = note(red + blue)
    total = note(part + green)
    chance = note(Fraction(red, total))
    return working(
        chance,
        f"{red} + {blue} = {part}.",
        f"{part} + {green} = {total}.",
        f"The probability is {red} / {total} = {tex(chance)}.",
    )


def _sample_expected(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    sides = draw(rng, difficulty, (2, 8), (4, 15), (6, 40))
    return {
        "plays": sides * draw(rng, difficulty, (2, 9), (5, 30), (12, 60)),
        "sides": sides,
        "prize": draw(rng, difficulty, (2, 9), (5, 40), (15, 120)),
    }


def _work_expected(note: Scratch, plays: int, sides: int, prize: int) -> Working:
    wins = note(Fraction(plays, sides))
    points = note(wins * prize)
    return working(
        points, f"Expected wins: {plays} / {sides} = {tex(wins)}.", f"Points: {tex(wins)} * {prize} = {tex(points)}."
    )


def _sample_committee(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    experts = draw(rng, difficulty, (0, 0), (5, 12), (8, 14))
    return {
        "experts": experts,
        "seats": rng.randint(2, 3) if difficulty == "medium" else rng.randint(3, 5),
        "helpers": draw(rng, difficulty, (0, 0), (3, 15), (6, 25)),
    }


def _work_committee(note: Scratch, experts: int, seats: int, helpers: int) -> Working:
    require(0 < seats <= experts <= 100, "a choice among at most 100")
    top = note(factorial(experts) // factorial(experts - seats))
    bottom = note(factorial(seats))
    teams = note(top // bottom)
    total = note(teams * helpers)
    factors = " * ".join(str(experts - i) for i in range(seats))
    return working(
        total,
        f"In order, {seats} of {experts} people can be picked in {factors} = {top} ways.",
        f"Order does not matter, so divide by {seats}! = {bottom}: {top} / {bottom} = {teams}.",
        f"Each team goes with any of {helpers} helpers: {product(teams, helpers, total)}.",
    )


def _sample_at_least_one(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    bottom = draw(rng, difficulty, (0, 0), (3, 12), (6, 25))
    return {
        "top": rng.randint(1, bottom - 1),
        "bottom": bottom,
        "tries": draw(rng, difficulty, (0, 0), (2, 3), (3, 4)),
    }


def _work_at_least_one(note: Scratch, top: int, bottom: int, tries: int) -> Working:
    require(0 < tries <= 100, "at most 100 tries")
    miss = note(1 - Fraction(top, bottom))
    never = note(miss**tries)
    chance = note(1 - never)
    return working(
        chance,
        rf"One try fails with probability $1 - \frac{{{top}}}{{{bottom}}} = {tex(miss)}$.",
        f"All {tries} independent tries fail with probability $({tex(miss)})^{tries} = {tex(never)}$.",
        f"So at least one succeeds with probability $1 - {tex(never)} = {tex(chance)}$.",
    )


def _sample_arrangements(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {color: draw(rng, difficulty, (0, 0), (1, 5), (2, 7)) for color in ("red", "blue", "green")}


def _work_arrangements(note: Scratch, red: int, blue: int, green: int) -> Working:
    require(max(red, blue, green) <= 100, "at most 100 of a color")
    rest = note(blue + green)
    total = note(red + rest)
    for_red, for_blue = note(comb(total, red)), note(comb(rest, blue))
    ways = note(for_red * for_blue)
    return working(
        ways,
        f"There are {red} + {blue} + {green} = {total} positions.",
        rf"The red ones can take them in $\binom{{{total}}}{{{red}}} = {for_red}$ ways.",
        rf"Of the other {rest} the blue ones take theirs in $\binom{{{rest}}}{{{blue}}} = {for_blue}$ ways.",
        f"{product(for_red, for_blue, ways)}.",
    )


FAMILIES = (
    Family(
        "choices",
        _SUBJECT,
        (
            "At <place>, <who> offers <thing> in <kinds> designs, each in <sizes?> sizes, and <plain> more designs in one "
            "size only. How many different ones can be ordered?",
            "<Who> picks one of <thing> at <place>: either one of <kinds> colors in one of <sizes?> sizes, or one of <plain> "
            "special ones. In how many ways can this be done?",
        ),
        "Multiply for the independent choices, then add the other cases.",
        _sample_choices,
        _work_choices,
        "answer = <kinds> * <sizes> + <plain>",
    ),
    Family(
        "games",
        _SUBJECT,
        (
            "At <place>, <who> runs a contest about <thing> where each of <players> players meets every other player "
            "once. So far <played?> games are over. How many games are left?",
            "<Who> invites <players> players to <place> to play for <thing>. Everyone plays everyone else once, "
            "and <played?> games are done. How many are still to come?",
        ),
        "Each game joins two players, so count pairs and take away the games played.",
        _sample_games,
        _work_games,
        "games = <players> * (<players> - 1) // 2\nanswer = games - <played>",
        ("medium", "hard"),
    ),
    Family(
        "neither",
        _SUBJECT,
        (
            "<Who> asks <people> guests at <place> about <thing>. Of these, <first> like the old ones, "
            "<second> like the new ones, and <both?> like both. How many like neither?",
            "In a survey on <thing> at <place>, <who> hears from <people> people: <first> own a large one, "
            "<second> own a small one, and <both?> own both. How many own neither?",
        ),
        "Those who like at least one are the two groups together minus the overlap.",
        _sample_neither,
        _work_neither,
        "answer = <people> - (<first> + <second> - <both>)",
    ),
    Family(
        "draw",
        _SUBJECT,
        (
            "A bag at <place> holds <thing>: <red> red, <blue?> blue and <green> green. <Who> takes one at random. "
            "What is the probability that it is red?",
            "<Who> puts <red> red, <blue?> blue and <green> green <thing> in a box at <place> and picks one blindly. "
            "Find the probability of a red one.",
        ),
        "Divide the red ones by all of them.",
        _sample_draw,
        _work_draw,
        "from fractions import Fraction\n\nanswer = Fraction(<red>, <red> + <blue> + <green>)",
    ),
    Family(
        "expected",
        _SUBJECT,
        (
            "A wheel of <thing> at <place> has <sides> equal parts, one of them gold. <Who> spins <plays> times "
            "and earns <prize?> points for each gold. How many points are expected?",
            "<Who> plays <plays> rounds of a game about <thing> at <place>. Each round is won with probability 1 in "
            "<sides> and pays <prize?> points. What is the expected number of points?",
        ),
        "Find the expected number of wins, then multiply by the points.",
        _sample_expected,
        _work_expected,
        "from fractions import Fraction\n\nanswer = Fraction(<plays>, <sides>) * <prize>",
    ),
    Family(
        "committee",
        _SUBJECT,
        (
            "To judge <thing> at <place>, <who> forms a team of <seats> out of <experts> experts together with one of "
            "<helpers?> helpers. In how many ways can the team be chosen?",
            "<Who> must choose <seats> of <experts> members of <place> to look after <thing>, and one of <helpers?> "
            "volunteers to write the minutes. How many different choices are possible?",
        ),
        "Choose the group first, then the single person.",
        _sample_committee,
        _work_committee,
        "from math import comb\n\nanswer = comb(<experts>, <seats>) * <helpers>",
        ("medium", "hard"),
    ),
    Family(
        "at_least_one",
        _SUBJECT,
        (
            r"Each time <who> offers <thing> at <place>, a visitor takes one with probability $\frac{<top>}{<bottom>}$, "
            "independently. What is the probability that at least one of <tries?> visitors takes one?",
            r"<Who> tests <tries?> <thing> for <place>. Each passes with probability $\frac{<top>}{<bottom>}$, "
            "independently of the others. Find the probability that at least one passes, as a common fraction.",
        ),
        "It is easier to find the probability that none succeeds.",
        _sample_at_least_one,
        _work_at_least_one,
        "from fractions import Fraction\n\nanswer = 1 - (1 - Fraction(<top>, <bottom>)) ** <tries>",
        ("medium", "hard"),
    ),
    Family(
        "arrangements",
        _SUBJECT,
        (
            "<Who> hangs <red> red, <blue?> blue and <green> green <thing> in a row at <place>; those of one color look "
            "the same. How many different rows are possible?",
            "In how many distinguishable orders can <who> line up <thing> at <place> if <red> of them are alike in red, "
            "<blue?> are alike in blue and <green> are alike in green?",
        ),
        "Only the positions of the colors matter.",
        _sample_arrangements,
        _work_arrangements,
        "from math import comb\n\nanswer = comb(<red> + <blue> + <green>, <red>) * comb(<blue> + <green>, <blue>)",
        ("medium", "hard"),
    ),
)
