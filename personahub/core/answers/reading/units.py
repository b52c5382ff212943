"""Units of answers: their names, synonyms and conversion factors."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

# name -> (dimension, factor to the dimension's base unit)
_BASE: dict[str, tuple[str, Fraction]] = {}


def _define(dimension: str, table: dict[str, str | int | Fraction]) -> None:
    for names, factor in table.items():
        for name in names.split():
            _BASE[name] = (dimension, Fraction(factor))


_define("length", {
    "mm millimeter millimetre": "0.001", "cm centimeter centimetre": "0.01", "dm decimeter decimetre": "0.1",
    "m meter metre": 1, "km kilometer kilometre": 1000, "in inch": "0.0254", "ft foot feet": "0.3048",
    "yd yard": "0.9144", "mi mile": "1609.344", "nm nanometer nanometre": Fraction(1, 10**9),
    "micrometer micrometre micron microm": Fraction(1, 10**6), "angstrom": Fraction(1, 10**10),
})  # fmt: skip
_define("time", {
    "ms millisecond": "0.001", "micros microsecond": Fraction(1, 10**6), "s sec second": 1, "min minute": 60, "h hr hour": 3600, "day": 86400,
    "week": 604800, "month": Fraction(2629800), "yr year": Fraction(31557600),
})  # fmt: skip
_define("mass", {
    "mg milligram": "0.001", "microg microgram": Fraction(1, 10**6), "g gm gram": 1, "kg kilogram": 1000, "lb pound-mass": "453.59237", "oz ounce": "28.349523125",
    "ton tonne": 1000000,
})  # fmt: skip
_define("volume", {
    "ml milliliter millilitre": "0.000001", "microl microliter": Fraction(1, 10**9), "l liter litre": "0.001",
    "gal gallon": "0.003785411784",
})  # fmt: skip
_define("substance", {"mol mole": 1, "mmol": "0.001"})
_define("angle", {"degree deg": 1})
_define("radian", {"radian rad": 1})
_define("money", {"dollar usd buck": 1, "cent": "0.01"})
_define("euro", {"euro eur": 1})
_define("pound", {"pound gbp quid": 1})
_define("yen", {"yen jpy": 1})
_define("yuan", {"yuan rmb cny": 1})
_define("rupee", {"rupee inr rs": 1})
_define("percent", {"percent pct percentage": 1})
_define("generic", {"unit": 1})
_define("speed", {"mph": "0.44704", "kph kmh kmph": Fraction(5, 18)})
_define("energy", {"j joule": 1, "kj kilojoule": 1000, "megajoule": 1000000, "kwh": 3600000})
_define("power", {"w watt": 1, "kw kilowatt": 1000, "megawatt": 1000000})
_define("force", {"n newton": 1, "kn kilonewton": 1000})
_define("frequency", {"hz hertz": 1, "khz kilohertz": 1000, "mhz megahertz": 1000000, "ghz gigahertz": 10**9})
_define("voltage", {"v volt": 1, "microv microvolt": Fraction(1, 10**6)})
_define("temperature", {"celsius": 1})
_define("fahrenheit", {"fahrenheit": 1})
_define("resistance", {"ohm": 1, "kohm kiloohm": 1000, "megaohm": 1000000})
_define("pressure", {"pa pascal": 1, "kpa kilopascal": 1000, "atm atmosphere": 101325})
_define("kelvin", {"k kelvin": 1})
_define("electronvolt", {"ev electronvolt": 1, "kev": 1000, "megaelectronvolt": 1000000})
_define("current", {"ampere amp": 1, "microa microampere": Fraction(1, 10**6)})
_define("charge", {"coulomb": 1, "microc microcoulomb": Fraction(1, 10**6)})
_define("magnetism", {"tesla": 1})
_define("capacitance", {"farad": 1, "microf microfarad": Fraction(1, 10**6)})
_define("volume", {"pint": "0.000473176473", "quart": "0.000946352946"})

# Words after a value that make it another value or a statement about it, so they are neither units nor labels.
CHANGES_VALUE = re.compile(
    r"(?:th|st|nd|rd|of|out|or|and|to|over|by|times|plus|minus|squared|cubed|factorial|choose|mod|modulo|percent|more|less|fewer|greater"
    r"|larger|smaller|is|are|was|were|does|do|did|can|cannot|could|divides?|works?|fails?|if|when|where|but|except|not|than"
    r"|as|that|with|halves|thirds?|quarters?|tenths?|in(?! (?:total|all)\b)|at (?:most|least)|for(?= \w ?=))\b",
    re.IGNORECASE,
)
_PLURALS = {"inches": "inch", "feet": "foot", "centuries": "century", "days": "day"}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_AMBIGUOUS = {"m", "s", "g", "h", "l", "j", "w", "n", "v"}  # variables as often as units


def is_unit(word: str) -> bool:
    """Returns whether a word of two or more letters names a unit. Single letters are variables."""
    return len(word) > 1 and (_singular(word.lower()) in _BASE or word.lower() in _POWERS)


def is_unit_letter(letter: str) -> bool:
    """Returns whether a single letter after a number may be a unit (5 m)."""
    return letter.lower() in _AMBIGUOUS


def _singular(word: str) -> str:
    if word in _BASE:
        return word
    if word in _PLURALS:
        return _PLURALS[word]
    for ending, replacement in (("ches", "ch"), ("ies", "y"), ("s", "")):
        if word.endswith(ending):
            return word[: -len(ending)] + replacement
    return word


@lru_cache(maxsize=4096)
def dimension(unit: str) -> tuple[tuple[tuple[str, int], ...], Fraction] | None:
    """Maps `km/h` to ((("length", 1), ("time", -1)), 5/18). Returns None if a word in it is not a unit."""
    parts = _parts(unit)
    if not parts:
        return None
    powers: dict[str, int] = {}
    factor = Fraction(1)
    for name, size, power in parts:
        powers[name] = powers.get(name, 0) + power
        factor *= size**power
    return _reduced(powers), factor


def _parts(unit: str) -> list[tuple[str, Fraction, int]] | None:
    """Returns the unit words of `square feet per hour` with dimension, size and power."""
    parts: list[tuple[str, Fraction, int]] = []
    sign = pending = 1
    for token in re.findall(r"[a-z]+|\^?-?\d+|/", unit.lower().replace(".", "")):
        exponent = _POWERS.get(token) or (int(token.lstrip("^")) if token.lstrip("^-").isdigit() else 0)
        if token in ("/", "per"):
            sign, pending = -1, 1
        elif token in _POWERS and token not in ("squared", "cubed"):
            pending = exponent
        elif exponent:  # after the word it belongs to
            if not parts or abs(exponent) > 4:
                return None
            name, size, power = parts.pop()
            parts.append((name, size, exponent if power > 0 else -exponent))
        elif _singular(token) in _BASE:
            name, size = _BASE[_singular(token)]
            parts.append((name, size or Fraction(1), sign * pending))
            sign = pending = 1
        else:
            return None
    return parts


def _reduced(powers: dict[str, int]) -> tuple[tuple[str, int], ...]:
    """Rewrites volumes as cubic lengths and speeds as length over time."""
    if "volume" in powers:
        powers["length"] = powers.get("length", 0) + 3 * powers.pop("volume")
    if powers.get("speed") == 1:
        powers.pop("speed")
        powers["length"] = powers.get("length", 0) + 1
        powers["time"] = powers.get("time", 0) - 1
    return tuple(sorted((name, power) for name, power in powers.items() if power))
