"""Compares equations and inequalities: named values, functions, curves and chains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from personahub.core.answers.comparing.arithmetic import NoValue, context, divide, inexact, subtract
from personahub.core.answers.comparing.scalars import equal_values, same_scalar
from personahub.core.answers.comparing.values import evaluate, free_symbols, sample
from personahub.core.answers.policy import Policy
from personahub.core.answers.reading.nodes import (
    Call,
    NamedSet,
    Node,
    Number,
    Power,
    Product,
    Quantity,
    Ratio,
    Relation,
    Sequence,
    Sum,
    Symbol,
    Words,
    rebuilt,
)

_MIRRORED = {
    "<": ">", "<=": ">=", "<<": ">>", "subset": "supset", "psubset": "psupset", "in": "ni", "=>": "if", "to": "from",
    "prec": "succ", "preceq": "succeq", "=": "=", "!=": "!=", "~": "~", "equiv": "equiv", "perp": "perp",
    "parallel": "parallel", "nparallel": "nparallel", "propto": "propto", "<=>": "<=>",
}  # fmt: skip
_MIRRORED |= {there: here for here, there in _MIRRORED.items()}
_DERIVED = frozenset(("=>", "<=>"))
_FAMILIES = ("xyz", "abcd", "pqr", "mn", "uvw")  # letters that a tuple lists in alphabetical order
_FUNCTION_NAMES = frozenset("fghpqPQFGTSWuvyrsaRAV")


@dataclass(frozen=True, slots=True)
class Named:
    """Values with their names, in order of appearance. `variables` are the arguments of `f(x) =`."""

    value: Node
    names: tuple[Node, ...]
    variables: tuple[str, ...] = ()


def settled(node: Node) -> Node:
    """Drops appended approximations (`1/3 ~ 0.333`) and domain conditions (`k in Z`)."""
    if isinstance(node, Sequence):
        kept = _excluded(tuple(settled(item) for item in node.items if not _is_domain(item)))
        if node.kind == "list" and len(kept) == 1:
            return kept[0]
        return replace(node, items=kept) if kept else node
    if not isinstance(node, Relation):
        return node
    if _is_derivation(node):  # the conclusion
        cut = max(index for index, operator in enumerate(node.operators) if operator in _DERIVED)
        node = replace(node, sides=node.sides[cut + 1 :], operators=node.operators[cut + 1 :])
        return settled(node if node.operators else node.sides[0])
    if "~" in node.operators and not (node.sides[0] == Symbol("") and isinstance(node.sides[1], Symbol)):  # `\sim p`
        cut = node.operators.index("~")
        exact = cut == 0 and len(node.operators) == 1 and not _is_name(node.sides[0])
        if exact or cut > 0:
            node = replace(node, sides=node.sides[: cut + 1], operators=node.operators[:cut])
            return node if node.operators else node.sides[0]
        return replace(node, operators=tuple("=" if o == "~" else o for o in node.operators))
    return node


def _is_derivation(node: Relation) -> bool:
    """Returns whether the node is a derivation. `2x = 4 \\implies x = 2` is one, `p \\implies q` is a formula."""
    arrows = _DERIVED & set(node.operators)
    return bool(arrows) and (arrows < set(node.operators) or isinstance(node.sides[-1], (Relation, Sequence)))


def _excluded(items: tuple[Node, ...]) -> tuple[Node, ...]:
    """Reads `x != 1, 4` as `x != 1, x != 4`."""
    first = items[0] if items else None
    if not (isinstance(first, Relation) and first.operators == ("!=",)):
        return items
    rest = (item if isinstance(item, Relation) else replace(first, sides=(first.sides[0], item)) for item in items[1:])
    return (first, *rest)


def _is_domain(node: Node) -> bool:
    return (
        isinstance(node, Relation)
        and node.operators == ("in",)
        and isinstance(node.sides[1], NamedSet)
        and (node.sides[1].name in ("integers", "naturals"))
    )


def named(node: Node) -> Named | None:
    """Returns the value of `x = 5`, `f(x) = x^2` or `x = 1, y = 2`, else None. Also of `x in [0, 1]` and `or`."""
    if isinstance(node, Relation):
        return _named_relation(node)
    if isinstance(node, Sequence) and any(isinstance(item, Relation) for item in node.items):
        return _named_list(node)
    return None


def _named_relation(node: Relation) -> Named | None:
    if node.operators == ("in",):
        return Named(node.sides[1], (node.sides[0],))
    if any(operator != "=" for operator in node.operators):
        return None
    first, last = node.sides[0], node.sides[-1]
    if _is_name(first) and not (_is_name(last) and _is_plain_value(first)):
        return Named(last, (first,), _arguments(first))
    if len(node.sides) == 2 and _is_plain_value(first) and _is_name(last):
        return Named(first, (last,))
    if not free_symbols(last) and first != last and (len(node.sides) > 2 or _is_plain_value(first)):
        return Named(last, ())  # 3 * 3 = 9
    return None


def combined(node: Node) -> Named | None:
    """Returns the value of `m + n = 33` or `100m + n = 305`.

    The sum is what the question asked for. The left side has two variables and no constant term; the right side is a
    nonzero number.
    """
    if not (isinstance(node, Relation) and set(node.operators) == {"="}):
        return None
    first, last = node.sides[0], node.sides[-1]
    terms = first.terms if isinstance(first, Sum) else (first,)
    if len(free_symbols(first)) < 2 or not all(free_symbols(term) for term in terms):
        return None
    return Named(last, (first,)) if not free_symbols(last) and last != Number(Fraction(0)) else None


def _named_list(node: Sequence) -> Named | None:
    values: list[Node] = []
    names: list[Node] = []
    for item in node.items:
        found = _named_relation(item) if isinstance(item, Relation) else None
        if isinstance(item, Relation) and found is None:
            return None
        values.append(found.value if found else item)
        if found:
            names.extend(found.names)
    distinct = len(set(names))
    if distinct == 1 or len(names) < len(values):
        flat: list[Node] = []
        for value in values:
            flat.extend(value.items if isinstance(value, Sequence) and value.kind == "list" else (value,))
        chosen = node.disjunction and not all(
            isinstance(value, Symbol) for value in flat
        )  # x = p or x = q lists two values
        return Named(Sequence("list", tuple(flat), chosen), tuple(names[:1]) if distinct == 1 else ())
    if distinct < len(names):
        return _chunked(values, names, distinct)
    if node.disjunction:
        return None  # x = 1 or y = 2 is not a point
    return Named(Sequence("tuple", tuple(values)), tuple(names))


def _chunked(values: list[Node], names: list[Node], width: int) -> Named | None:
    """Reads `p=5, q=2; p=7, q=2` as (5, 2), (7, 2)."""
    if len(names) % width or any(name != names[index % width] for index, name in enumerate(names)):
        return None
    rows = [Sequence("tuple", tuple(values[i : i + width])) for i in range(0, len(values), width)]
    return Named(Sequence("list", tuple(rows)), ())


def _is_name(node: Node) -> bool:
    """Returns whether the node can be an answer's left side. A variable, `f(x)`, AB, |AB|, a ratio or a tuple."""
    if isinstance(node, (Symbol, Words)):
        return True
    if isinstance(node, Product):
        head, *rest = node.factors
        return _is_name(head) and len(rest) <= 12 and all(_is_name(f) or _is_argument(f) for f in rest)
    if isinstance(node, Power):
        return _is_name(node.base) and isinstance(node.exponent, Number)
    if isinstance(node, Call):
        return any(_is_name(argument) for argument in node.arguments)
    if isinstance(node, Quantity):
        return isinstance(node.value, Words) or (_is_name(node.value) and node.unit not in ("percent", "degree"))
    if isinstance(node, Ratio):
        return all(_is_name(part) for part in node.parts)
    if isinstance(node, Sequence):
        return node.kind in ("tuple", "list") and bool(node.items) and all(_is_name(item) for item in node.items)
    return False


def is_size(name: Node) -> bool:
    """Returns whether the node is `|x|`, whose value does not determine x. `|AB|` is a length."""
    return isinstance(name, Call) and name.name == "abs" and isinstance(name.arguments[0], Symbol)


def _is_argument(node: Node) -> bool:
    """Returns whether the node is the bracket of `f(2)` or `f(x, y)`, which is not a factor."""
    return isinstance(node, (Number, Sequence)) or (isinstance(node, Sum) and len(node.terms) <= 3)


def _is_plain_value(node: Node) -> bool:
    return not free_symbols(node) and not isinstance(node, Words)


def _arguments(name: Node) -> tuple[str, ...]:
    if not (isinstance(name, Product) and len(name.factors) == 2):
        return ()
    function, argument = name.factors
    if not (isinstance(function, Symbol) and isinstance(argument, Symbol)):
        return ()
    return (argument.name,) if function.name[:1] in _FUNCTION_NAMES else ()


def compatible(a: tuple[Node, ...], b: tuple[Node, ...]) -> bool:
    """Returns whether two names may mean the same. Examples: words and a letter, `f(x)` and `y` or `f(t)`."""
    a, b = tuple(map(_without_bar, a)), tuple(map(_without_bar, b))
    if not a or not b or set(a) == set(b) or _flat(a) == _flat(b):
        return True
    if len(a) != 1 or len(b) != 1:
        return False
    left, right = a[0], b[0]
    return _said(left) or _said(right) or (is_function(left) and is_function(right))


def _without_bar(name: Node) -> Node:
    """Removes the bar from a mean or a vector. A barred capital is a complement, a barred z a conjugate."""
    letter = name.name.removeprefix("bar ") if isinstance(name, Symbol) else ""
    return Symbol(letter) if letter.islower() and letter not in ("z", "w") else name


def _flat(names: tuple[Node, ...]) -> list[Node]:
    """Splits the name `(x, y)` into the names x and y."""
    return [part for name in names for part in (name.items if isinstance(name, Sequence) else (name,))]


def _said(name: Node) -> bool:
    return (
        isinstance(name, Words) or (isinstance(name, Quantity) and isinstance(name.value, Words)) or name == Symbol("")
    )


def is_function(name: Node) -> bool:
    """Returns whether the name is `f(x)` or the y that stands for it."""
    return bool(_arguments(name)) or name == Symbol("y")


def different_variables(a: Node, b: Node) -> bool:
    """Returns whether each side has variables and the two sets differ."""
    left, right = free_symbols(a) - {""}, free_symbols(b) - {""}
    return bool(left and right) and left != right


def in_order_of(found: Named, names: tuple[Node, ...]) -> Named:
    """Reorders values so that their names appear in the order of `names`."""
    if len(found.names) < 2 or set(found.names) != set(names) or not isinstance(found.value, Sequence):
        return found
    by_name = dict(zip(found.names, found.value.items, strict=True))
    return Named(replace(found.value, items=tuple(by_name[name] for name in names)), names)


def in_usual_order(found: Named) -> Named:
    """Reads `y = 3, x = -2` as (-2, 3), the order that an unnamed tuple implies."""
    letters = [name.name for name in found.names if isinstance(name, Symbol)]
    usual = any(set(letters) <= set(family) for family in _FAMILIES)
    return in_order_of(found, tuple(map(Symbol, sorted(letters)))) if usual and len(letters) > 1 else found


def renamed(a: Named, b: Named) -> tuple[Node, Node]:
    """Writes both right-hand sides in the same variables: f(t) = t^2 is f(x) = x^2."""
    if not (a.variables and b.variables):
        return a.value, b.value
    return a.value, substitute(b.value, dict(zip(b.variables, a.variables, strict=False)))


def substitute(node: Node, names: Mapping[str, str]) -> Node:
    """Returns the node with variables renamed."""
    return rebuilt(
        node, lambda part: Symbol(names[part.name]) if isinstance(part, Symbol) and part.name in names else None
    )


def same_relation(gold: Relation, pred: Relation, policy: Policy) -> str | None:
    """Compares two relations directly, mirrored, or as the same curve or half-space."""
    mirrored = _mirrored(pred)
    if _sides_equal(gold, pred, policy) or (mirrored and _sides_equal(gold, mirrored, policy)):
        return "relation"
    if len(gold.operators) != 1 or len(pred.operators) != 1:
        return None
    operator, other = gold.operators[0], pred.operators[0]
    if operator not in ("=", "!=", "<", ">", "<=", ">="):
        return None
    factor = _proportion(_difference(gold), _difference(pred))
    if factor is None and operator == other == "=":
        return "solved for a variable" if _solves(gold, pred) or _solves(pred, gold) else None
    if factor is None:
        return None
    if operator in ("=", "!="):
        return "same curve" if operator == other else None
    expected = other if factor > 0 else _MIRRORED.get(other)
    return "same half-space" if operator == expected else None


def _sides_equal(gold: Relation, pred: Relation, policy: Policy) -> bool:
    if gold.operators != pred.operators:
        return False
    pairs = zip(gold.sides, pred.sides, strict=True)
    return all(a == b or bool(same_scalar(a, b, policy)) for a, b in pairs)


def _mirrored(node: Relation) -> Relation | None:
    """Returns `b > a` for `a < b`. None if the operator cannot be reversed (3 divides n)."""
    if not _MIRRORED.keys() >= set(node.operators):
        return None
    operators = tuple(_MIRRORED[operator] for operator in reversed(node.operators))
    return Relation(tuple(reversed(node.sides)), operators)


def _difference(node: Relation) -> Node:
    return Sum((node.sides[0], Product((Number(Fraction(-1)), node.sides[1]))))


def _solves(solved: Relation, equation: Relation) -> bool:
    """Returns whether `solved` is y = g(x) and solves `equation`, linear in y. Example: y = 1/x solves xy = 1."""
    name, value = solved.sides
    if not isinstance(name, Symbol) or name.name in free_symbols(value) or not free_symbols(value):
        return False
    names = free_symbols(value)
    if free_symbols(equation) != names | {name.name}:
        return False
    difference = _difference(equation)
    for round_ in range(3):
        point = sample(names, round_)
        try:
            at = [evaluate(difference, {**point, name.name: Fraction(y)}) for y in (0, 1, 3)]
            slope = subtract(at[1], at[0])
            straight = equal_values(subtract(at[2], at[0]), 3 * slope)
            if not straight or equal_values(slope, Fraction(0)):
                return False
            if not equal_values(divide(-at[0], slope), evaluate(value, point)):
                return False
        except NoValue:
            return False
    return True


def _proportion(a: Node, b: Node) -> Any | None:
    """Returns the constant ratio of two expressions, or None. Both have the same variables."""
    names = free_symbols(a) | free_symbols(b)
    if not names or free_symbols(a) != free_symbols(b):
        return None
    ratio = None
    for round_ in range(4):
        point = sample(names, round_)
        try:
            bottom = evaluate(b, point)
            if equal_values(bottom, Fraction(0)):
                return None
            here = divide(evaluate(a, point), bottom)
        except NoValue:
            return None
        if isinstance(here, context().mpc) or equal_values(here, Fraction(0)):
            return None
        if ratio is not None and not equal_values(ratio, here):
            return None
        ratio = here
    return inexact(ratio)
