"""The nodes of a parsed answer, and two functions that traverse them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Number:
    """An exact rational.

    `places` is the number of decimals as written (None: an integer or an exact form). `digits` keeps the digits as
    written, for numerals with or without a base.
    """

    value: Fraction
    places: int | None = None
    significant: int = 0
    digits: str = ""


@dataclass(frozen=True, slots=True)
class Symbol:
    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    name: Literal["pi", "e", "i", "oo"]


@dataclass(frozen=True, slots=True)
class Sum:
    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Product:
    factors: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Power:
    base: Node
    exponent: Node


@dataclass(frozen=True, slots=True)
class Root:
    radicand: Node
    degree: Node


@dataclass(frozen=True, slots=True)
class Call:
    """A named function with its arguments; `log` with two arguments is (value, base)."""

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class PlusMinus:
    """A term with a plus-minus sign. `lower` is True for \\mp, whose upper sign is minus."""

    term: Node
    lower: bool = False


@dataclass(frozen=True, slots=True)
class Based:
    """A numeral in a base other than ten; digits as written, in upper case."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with the words after it (or a currency sign before it)."""

    value: Node
    unit: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """Comma-separated members: a bare list, or one in round, square or curly brackets.

    `disjunction` is True if the members of a bare list were joined by `or`.
    """

    kind: Literal["list", "tuple", "bracket", "set"]
    items: tuple[Node, ...]
    disjunction: bool = False


@dataclass(frozen=True, slots=True)
class Interval:
    left: Node
    right: Node
    left_closed: bool
    right_closed: bool


@dataclass(frozen=True, slots=True)
class SetOperation:
    operator: Literal["union", "intersection", "difference"]
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class NamedSet:
    """`reals`, `integers`, `naturals`, `rationals`, `complexes` or `empty`."""

    name: str


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain `sides[0] operators[0] sides[1] ...`; operators are = != < <= > >= ~ in."""

    sides: tuple[Node, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day; `meridiem` is `am`, `pm` or empty."""

    hour: int
    minute: int
    meridiem: str


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, or text that is not mathematics in a known notation."""

    text: str


Node = (
    Number | Symbol | Constant | Sum | Product | Power | Root | Call | PlusMinus | Based | Quantity | Sequence
    | Interval | SetOperation | NamedSet | Matrix | Relation | Ratio | Clock | Words
)  # fmt: skip


def walk(node: Any) -> Iterator[Node]:
    """Yields a node or tuple of nodes and all its descendants, in no particular order."""
    waiting = [node]
    while waiting:
        here = waiting.pop()
        if isinstance(here, tuple):
            waiting.extend(here)
        elif type(here) in _BELOW:
            yield here
            waiting.extend(getattr(here, field) for field in _BELOW[type(here)])


def rebuilt(node: Any, change: Callable[[Node], Node | None]) -> Any:
    """Applies `change` from the top down. A node that `change` replaces is not traversed further."""
    if isinstance(node, tuple):
        return tuple(rebuilt(item, change) for item in node)
    if type(node) not in _BELOW:
        return node
    changed = change(node)
    if changed is not None:
        return changed
    below = _BELOW[type(node)]
    return replace(node, **{field: rebuilt(getattr(node, field), change) for field in below}) if below else node


# The fields of each node type that hold nodes or tuples of nodes.
_BELOW: dict[type, tuple[str, ...]] = {
    Number: (), Symbol: (), Constant: (), Based: (), NamedSet: (), Clock: (), Words: (), Sum: ("terms",),
    Product: ("factors",), Power: ("base", "exponent"), Root: ("radicand", "degree"), Call: ("arguments",),
    PlusMinus: ("term",), Quantity: ("value",), Sequence: ("items",), Interval: ("left", "right"),
    SetOperation: ("operands",), Matrix: ("rows",), Relation: ("sides",), Ratio: ("parts",),
}  # fmt: skip


def negative(node: Node) -> Node:
    """Returns the negative of `node`, folded into a number."""
    if isinstance(node, Number):
        return Number(-node.value, node.places, node.significant, _negated(node.digits))
    if isinstance(node, Quantity):
        return Quantity(negative(node.value), node.unit)
    if isinstance(node, Based):
        return Based(_negated(node.digits), node.base)
    return Product((Number(Fraction(-1)), node))


def _negated(digits: str) -> str:
    return digits.removeprefix("-") if digits.startswith("-") else "-" + digits if digits else ""
