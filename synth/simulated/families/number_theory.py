"""Number Theory families: remainders, divisors, multiples, bases and congruences."""

from __future__ import annotations

from math import gcd
from random import Random

from synth.simulated.grammar import Difficulty, Family, Scratch, Working, draw, product, require, working

_SUBJECT = "Number Theory"


def _sample_leftover(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    size = draw(rng, difficulty, (3, 9), (7, 30), (13, 99))
    full = draw(rng, difficulty, (2, 9), (8, 40), (25, 90))
    return {"total": size * full + rng.randint(1, size - 1), "size": size}


def _work_leftover(note: Scratch, total: int, size: int) -> Working:
    full = total // size
    packed = note(full * size)
    left = note(total - packed)
    return working(left, f"{product(full, size, packed)}.", f"{total} - {packed} = {left}.")


def _sample_equal_sets(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    while True:
        first, second = (draw(rng, difficulty, (1, 9), (3, 20), (8, 40)) for _ in range(2))
        if first != second and gcd(first, second) == 1:
            sets = draw(rng, difficulty, (2, 9), (4, 20), (9, 60))
            return {"first": first * sets, "second": second * sets}


def _work_equal_sets(note: Scratch, first: int, second: int) -> Working:
    common = note(gcd(first, second))
    left, right = first // common, second // common
    return working(
        common,
        f"{first} = {left} * {common}.",
        f"{second} = {right} * {common}.",
        f"{left} and {right} share no factor, so {common} is the greatest common divisor.",
    )


def _sample_together(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    while True:
        first, second = (draw(rng, difficulty, (2, 9), (6, 40), (18, 120)) for _ in range(2))
        if first != second:
            return {"first": first, "second": second, "start": draw(rng, difficulty, (1, 9), (5, 90), (30, 500))}


def _work_together(note: Scratch, first: int, second: int, start: int) -> Working:
    common = note(gcd(first, second))
    multiple = note(first * second // common)
    time = note(start + multiple)
    return working(
        time,
        f"The greatest common divisor of {first} and {second} is {common}.",
        f"{first} * {second} / {common} = {multiple}.",
        f"{start} + {multiple} = {time}.",
    )


def _sample_from_base(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    base = rng.randint(3, 9)
    digits = draw(rng, difficulty, (2, 2), (3, 3), (4, 5))
    number = rng.randint(1, base - 1)
    for _ in range(digits - 1):
        number = 10 * number + rng.randint(0, base - 1)
    return {"number": number, "base": base}


def _work_from_base(note: Scratch, number: int, base: int) -> Working:
    require(number >= 0, "the number must not be negative")
    digits = [int(digit) for digit in str(number)]
    require(max(digits) < base, f"{number} is not written in base {base}")
    value, steps = digits[0], []
    for digit in digits[1:]:
        scaled = note(value * base)
        total = note(scaled + digit)
        steps.append(f"{value} * {base} = {scaled} and {scaled} + {digit} = {total}.")
        value = total
    return Working(value, tuple(steps))


def _sample_divisors(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    twos, threes = (draw(rng, difficulty, (1, 8), (2, 12), (6, 40)) for _ in range(2))
    return {"twos": twos, "threes": threes, "fives": draw(rng, difficulty, (1, 2), (2, 12), (6, 40))}


def _work_divisors(note: Scratch, twos: int, threes: int, fives: int) -> Working:
    a, b, c = note(twos + 1), note(threes + 1), note(fives + 1)
    pairs = note(a * b)
    count = note(pairs * c)
    return working(
        count,
        f"{twos} + 1 = {a}, {threes} + 1 = {b}, {fives} + 1 = {c}.",
        f"{product(a, b, pairs)}.",
        f"{product(pairs, c, count)}.",
    )


def _sample_multiples(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    factor = draw(rng, difficulty, (3, 9), (6, 25), (11, 60))
    low = draw(rng, difficulty, (5, 25), (30, 300), (200, 3000))
    return {
        "factor": factor,
        "low": low,
        "high": low + factor * 2 + draw(rng, difficulty, (1, 20), (50, 500), (400, 5000)),
    }


def _work_multiples(note: Scratch, factor: int, low: int, high: int) -> Working:
    upper, lower = note(high // factor), note(low // factor)
    count = note(upper - lower)
    return working(
        count,
        f"{upper} * {factor} = {upper * factor}, so {upper} of them up to {high}.",
        f"{lower} * {factor} = {lower * factor}, so {lower} of them up to {low}.",
        f"{upper} - {lower} = {count}.",
    )


def _sample_last_digit(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    return {
        "base": draw(rng, difficulty, (0, 0), (2, 29), (12, 199)),
        "power": draw(rng, difficulty, (0, 0), (11, 99), (100, 2999)),
    }


def _work_last_digit(note: Scratch, base: int, power: int) -> Working:
    last = note(base % 10)
    place = note((power - 1) % 4 + 1)
    digit = note(last**place % 10)
    return working(
        digit,
        f"Only the last digit {last} of {base} matters, and last digits of powers repeat with period 4 or less.",
        f"The exponent {power} stands at place {place} of the cycle.",
        f"The last digit of {last}^{place} is {digit}.",
    )


def _sample_congruence(rng: Random, difficulty: Difficulty) -> dict[str, int]:
    while True:
        first, second = (draw(rng, difficulty, (0, 0), (3, 12), (7, 40)) for _ in range(2))
        if first != second and gcd(first, second) == 1:
            return {
                "first": first,
                "left": rng.randint(1, first - 1),
                "second": second,
                "other": rng.randint(1, second - 1),
            }


def _work_congruence(note: Scratch, first: int, left: int, second: int, other: int) -> Working:
    gap = note((other - left) % second)
    inverse = note(pow(first, -1, second))
    count = note(gap * inverse % second)
    total = note(left + first * count)
    return working(
        total,
        f"Write the number as {left} + {first}k. Then {first}k leaves {gap} when divided by {second}.",
        f"Modulo {second} the inverse of {first} is {inverse}, so k is {gap} * {inverse}, which leaves {count}.",
        f"The number is {left} + {first} * {count} = {total}.",
    )


FAMILIES = (
    Family(
        "leftover",
        _SUBJECT,
        (
            "<Who> packs <total> <thing> at <place> into boxes of <size?>, filling as many boxes as possible. "
            "How many are left over?",
            "At <place>, <who> deals <total> <thing> into full groups of <size?>. How many do not fit into any group?",
        ),
        "Find the largest full multiple, then subtract.",
        _sample_leftover,
        _work_leftover,
        "answer = <total> % <size>",
    ),
    Family(
        "equal_sets",
        _SUBJECT,
        (
            "<Who> splits <first?> <thing> and <second> ribbons from <place> into equal sets with nothing left. "
            "What is the greatest possible number of sets?",
            "What is the largest number of identical gift bags that <who> can fill with <first?> <thing> and <second> "
            "sweets at <place>, using all of them?",
        ),
        "Find the greatest common divisor.",
        _sample_equal_sets,
        _work_equal_sets,
        "from math import gcd\n\nanswer = gcd(<first>, <second>)",
    ),
    Family(
        "together",
        _SUBJECT,
        (
            "At <place>, <who> restocks <thing> every <first> days and posters every <second?> days. Both happen on day "
            "<start>. On which day do both happen next?",
            "<Who> rings one bell for <thing> every <first> minutes and another every <second?> minutes at <place>. "
            "Both ring at minute <start>. At what minute do both ring again?",
        ),
        "Find the least common multiple and add it to the start.",
        _sample_together,
        _work_together,
        "from math import lcm\n\nanswer = <start> + lcm(<first>, <second>)",
    ),
    Family(
        "from_base",
        _SUBJECT,
        (
            "<Who> labels <thing> at <place> in base <base?>. One label reads $<number>$. "
            "What is this number in base ten?",
            "Written in base <base?>, the number of <thing> at <place> is $<number>$, says <who>. "
            "Write it in base ten.",
        ),
        "Take the digits from the left, multiplying by the base each time.",
        _sample_from_base,
        _work_from_base,
        'answer = int("<number>", <base>)',
    ),
    Family(
        "divisors",
        _SUBJECT,
        (
            r"<Who> numbers <thing> at <place> up to $2^{<twos>} \cdot 3^{<threes>} \cdot 5^{<fives?>}$. "
            "How many positive divisors does this number have?",
            r"The count of <thing> at <place> is $2^{<twos>} \cdot 3^{<threes>} \cdot 5^{<fives?>}$, <who> jokes. "
            "Find the number of its positive factors.",
        ),
        "Add one to every exponent and multiply.",
        _sample_divisors,
        _work_divisors,
        "answer = 1\nfor exponent in (<twos>, <threes>, <fives>):\n    answer *= exponent + 1",
    ),
    Family(
        "multiples",
        _SUBJECT,
        (
            "<Who> stamps <thing> at <place> that carry a multiple of <factor?>. "
            "How many of the whole numbers greater than <low> and at most <high> are stamped?",
            "How many multiples of <factor?> are greater than <low> and not greater than <high>? "
            "<Who> gives that many <thing> to <place>.",
        ),
        "Count the multiples up to each end and subtract.",
        _sample_multiples,
        _work_multiples,
        "answer = sum(1 for n in range(<low> + 1, <high> + 1) if n % <factor> == 0)",
    ),
    Family(
        "last_digit",
        _SUBJECT,
        (
            "<Who> jokes that <place> will one day own $<base>^{<power?>}$ <thing>. "
            "What is the units digit of this number?",
            "Find the last digit of $<base>^{<power?>}$, the prize question that <who> prints on <thing> for <place>.",
        ),
        "Look at last digits only.",
        _sample_last_digit,
        _work_last_digit,
        "answer = pow(<base>, <power>, 10)",
        ("medium", "hard"),
    ),
    Family(
        "congruence",
        _SUBJECT,
        (
            "When <who> packs the <thing> of <place> in boxes of <first>, <left> are left over; in boxes of "
            "<second>, <other?> are left over. What is the smallest possible number of them?",
            "Find the least positive integer that leaves remainder <left> on division by <first> and remainder <other?> "
            "on division by <second>; <who> hides that many <thing> at <place>.",
        ),
        "Solve the two conditions one after the other.",
        _sample_congruence,
        _work_congruence,
        "answer = next(n for n in range(1, <first> * <second> + 1) "
        "if n % <first> == <left> and n % <second> == <other>)",
        ("medium", "hard"),
    ),
)
