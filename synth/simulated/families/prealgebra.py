"""Prealgebra: shopping, grouping, means, percentages, rates and fractions."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from synth.simulated.grammar import Difficulty, Family, Scratch, Working, draw, product, tex, working

_SUBJECT = "Prealgebra"


def _sample_change(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    count = draw(rng, difficulty, (2, 9), (6, 40), (15, 90))
    price = draw(rng, difficulty, (2, 9), (4, 60), (25, 150))
    return {"count": count, "price": price, "paid": count * price + draw(rng, difficulty, (1, 9), (1, 90), (1, 900))}


def _work_change(note: Scratch, count: int, price: int, paid: int) -> Working:
    cost = note(count * price)
    change = note(paid - cost)
    return working(change, f"The cost is {product(count, price, cost)}.", f"The change is {paid} - {cost} = {change}.")


def _sample_seats(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "rows": draw(rng, difficulty, (2, 9), (8, 40), (20, 120)),
        "seats": draw(rng, difficulty, (2, 9), (8, 40), (20, 120)),
        "extra": draw(rng, difficulty, (1, 9), (10, 99), (100, 999)),
    }


def _work_seats(note: Scratch, rows: int, seats: int, extra: int) -> Working:
    filled = note(rows * seats)
    total = note(filled + extra)
    return working(total, f"The rows hold {product(rows, seats, filled)}.", f"In all {filled} + {extra} = {total}.")


def _sample_mean(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    while True:
        first, second, third = (draw(rng, difficulty, (1, 9), (15, 99), (80, 950)) for _ in range(3))
        if difficulty == "hard" or (first + second + third) % 3 == 0:
            return {"first": first, "second": second, "third": third}


def _work_mean(note: Scratch, first: int, second: int, third: int) -> Working:
    part = note(first + second)
    total = note(part + third)
    mean = note(Fraction(total, 3))
    return working(
        mean, f"{first} + {second} = {part}.", f"{part} + {third} = {total}.", f"The mean is {total} / 3 = {tex(mean)}."
    )


def _sample_discount(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    while True:
        price = 10 * rng.randint(2, 9) if difficulty == "easy" else draw(rng, difficulty, (0, 0), (30, 300), (80, 980))
        percent = 10 * rng.randint(1, 9) if difficulty == "easy" else rng.randint(3, 85)
        if price * percent % 100 == 0:
            return {"price": price, "percent": percent, "postage": draw(rng, difficulty, (1, 9), (3, 30), (5, 60))}


def _work_discount(note: Scratch, price: int, percent: int, postage: int) -> Working:
    off = note(Fraction(price * percent, 100))
    reduced = note(price - off)
    total = note(reduced + postage)
    return working(
        total,
        f"The discount is {price} * {percent} / 100 = {tex(off)}.",
        f"{price} - {tex(off)} = {tex(reduced)}.",
        f"{tex(reduced)} + {postage} = {tex(total)}.",
    )


def _sample_rate(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    made = draw(rng, difficulty, (2, 9), (6, 30), (12, 60))
    each = draw(rng, difficulty, (2, 9), (4, 30), (12, 90))
    return {"made": made, "minutes": made * each, "wanted": draw(rng, difficulty, (2, 9), (12, 60), (30, 200))}


def _work_rate(note: Scratch, made: int, minutes: int, wanted: int) -> Working:
    each = note(Fraction(minutes, made))
    needed = note(each * wanted)
    last = f"{tex(each)} * {wanted} = {tex(needed)}"
    if each.denominator == 1:
        last = product(int(each), wanted, int(needed)) if needed.denominator == 1 else last
    return working(needed, f"One takes {minutes} / {made} = {tex(each)}.", f"All take {last}.")


def _sample_share(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    bottom = draw(rng, difficulty, (3, 9), (4, 15), (7, 40))
    top = rng.randint(2, bottom - 1)
    return {"total": bottom * draw(rng, difficulty, (2, 9), (6, 30), (15, 90)), "top": top, "bottom": bottom}


def _work_share(note: Scratch, total: int, top: int, bottom: int) -> Working:
    part = note(Fraction(total, bottom))
    used = note(part * top)
    left = note(total - used)
    return working(
        left,
        f"{total} / {bottom} = {tex(part)}.",
        f"{tex(part)} * {top} = {tex(used)}.",
        f"{total} - {tex(used)} = {tex(left)}.",
    )


def _sample_two_fractions(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    top = (2, 12) if difficulty == "medium" else (9, 40)
    bottom, other_bottom = rng.randint(*top), rng.randint(*top)
    return {
        "top": rng.randint(1, bottom - 1),
        "bottom": bottom,
        "other_top": rng.randint(1, other_bottom - 1),
        "other_bottom": other_bottom,
    }


def _work_two_fractions(note: Scratch, top: int, bottom: int, other_top: int, other_bottom: int) -> Working:
    common = note(bottom * other_bottom)
    left, right = note(top * other_bottom), note(other_top * bottom)
    total = note(Fraction(left + right, common))
    return working(
        total,
        f"A common denominator is {product(bottom, other_bottom, common)}.",
        f"The numerators become {top} * {other_bottom} = {left} and {other_top} * {bottom} = {right}.",
        f"The sum is ({left} + {right}) / {common}, which reduces to {tex(total)}.",
    )


def _sample_growth(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    while True:
        old = draw(rng, difficulty, (0, 0), (20, 400), (60, 980))
        percent = rng.randint(5, 95) if difficulty == "medium" else rng.randint(12, 180)
        if old * percent % 100 == 0:
            return {"old": old, "new": old + old * percent // 100}


def _work_growth(note: Scratch, old: int, new: int) -> Working:
    rise = note(new - old)
    percent = note(Fraction(100 * rise, old))
    return working(
        rf"{tex(percent)}\%",
        f"The number rose by {new} - {old} = {rise}.",
        f"As a share of {old} this is 100 * {rise} / {old} = {tex(percent)} percent.",
    )


FAMILIES = (
    Family(
        "change",
        _SUBJECT,
        (
            "<Who> buys <count> <thing> at <place>. Each one costs <price?> dollars. "
            "How many dollars of change come back from <paid> dollars?",
            "At <place>, <who> picks <count> <thing> at <price?> dollars each and hands over <paid> dollars. "
            "How much change, in dollars, is due?",
            "<Who> has <paid> dollars for <place> and spends it on <count> <thing> that cost <price?> dollars each. "
            "How many dollars are not spent?",
        ),
        "Find the cost, then subtract it from the money paid.",
        _sample_change,
        _work_change,
        "cost = <count> * <price>\nanswer = <paid> - cost",
    ),
    Family(
        "seats",
        _SUBJECT,
        (
            "<Who> sets up <rows> rows of <seats?> chairs for a talk on <thing> at <place>. "
            "Another <extra> chairs stand at the back. How many chairs are there in all?",
            "For a show of <thing>, <who> fills a hall at <place> with <rows> rows of <seats?> chairs "
            "and <extra> loose chairs. What is the total number of chairs?",
        ),
        "Multiply rows by chairs, then add the rest.",
        _sample_seats,
        _work_seats,
        "answer = <rows> * <seats> + <extra>",
    ),
    Family(
        "mean",
        _SUBJECT,
        (
            "<Who> sells <thing> at <place>: <first?> on Monday, <second> on Tuesday and <third> on Wednesday. "
            "What is the mean number sold per day?",
            "On three days <who> counts <first?>, <second> and <third> visitors looking at <thing> at <place>. "
            "What is the average count per day?",
        ),
        "Add the numbers, then divide by 3.",
        _sample_mean,
        _work_mean,
        "from fractions import Fraction\n\nanswer = Fraction(<first> + <second> + <third>, 3)",
    ),
    Family(
        "discount",
        _SUBJECT,
        (
            "A set of <thing> at <place> costs <price?> dollars. <Who> gets <percent> percent off "
            "and then pays <postage> dollars for postage. How many dollars is that in all?",
            "<Who> orders <thing> priced at <price?> dollars from <place>, with a discount of <percent> percent, "
            "and adds <postage> dollars of postage. What is the full amount in dollars?",
        ),
        "Find the discount, subtract it, then add the postage.",
        _sample_discount,
        _work_discount,
        "from fractions import Fraction\n\n"
        "off = Fraction(<price> * <percent>, 100)\nanswer = <price> - off + <postage>",
    ),
    Family(
        "rate",
        _SUBJECT,
        (
            "<Who> makes <made> <thing> in <minutes?> minutes at <place>. "
            "At this pace, how many minutes do <wanted> of them take?",
            "At <place>, <who> needs <minutes?> minutes to finish <made> <thing>. "
            "Working steadily, how long in minutes would <wanted> of them need?",
        ),
        "Find the time for one, then multiply.",
        _sample_rate,
        _work_rate,
        "from fractions import Fraction\n\neach = Fraction(<minutes>, <made>)\nanswer = each * <wanted>",
    ),
    Family(
        "share",
        _SUBJECT,
        (
            r"<Who> brings <total?> <thing> to <place> and gives away $\frac{<top>}{<bottom>}$ of them. "
            "How many are left?",
            r"Of <total?> <thing> at <place>, <who> sells $\frac{<top>}{<bottom>}$. How many remain unsold?",
        ),
        "Find the part that is gone, then subtract it.",
        _sample_share,
        _work_share,
        "from fractions import Fraction\n\nanswer = <total> - Fraction(<top>, <bottom>) * <total>",
    ),
    Family(
        "two_fractions",
        _SUBJECT,
        (
            r"While sorting <thing> at <place>, <who> spends $\frac{<top>}{<bottom>}$ of an hour on the first box and "
            r"$\frac{<other_top?>}{<other_bottom>}$ of an hour on the second. "
            "What fraction of an hour is that altogether? Express your answer as a common fraction.",
            r"<Who> mixes $\frac{<top>}{<bottom>}$ litre of paint with $\frac{<other_top?>}{<other_bottom>}$ litre of "
            "water to colour <thing> for <place>. How many litres does the mixture hold, as a common fraction?",
        ),
        "Bring both fractions to a common denominator.",
        _sample_two_fractions,
        _work_two_fractions,
        "from fractions import Fraction\n\nanswer = Fraction(<top>, <bottom>) + Fraction(<other_top>, <other_bottom>)",
        ("medium", "hard"),
    ),
    Family(
        "growth",
        _SUBJECT,
        (
            "The number of <thing> that <who> keeps at <place> rises from <old?> in one year to <new> in the next. "
            "By what percent does the number increase?",
            "Last season <place> sold <old?> <thing>; this season, after advice from <who>, it sells <new>. "
            "What is the percent increase in sales?",
        ),
        "Compare the increase with the old number.",
        _sample_growth,
        _work_growth,
        'from fractions import Fraction\n\nanswer = f"{Fraction(100 * (<new> - <old>), <old>)}%"',
        ("medium", "hard"),
    ),
)
