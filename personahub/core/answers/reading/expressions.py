"""Parses answers, from lists down to sums, products and units."""

from __future__ import annotations

from fractions import Fraction
from typing import TypeGuard

from personahub.core.answers.reading import logic, powers
from personahub.core.answers.reading.cursor import END, Cursor
from personahub.core.answers.reading.nodes import (
    Call,
    NamedSet,
    Node,
    Number,
    PlusMinus,
    Power,
    Product,
    Quantity,
    Ratio,
    Relation,
    Sequence,
    SetOperation,
    Sum,
    Symbol,
    Words,
    negative,
)
from personahub.core.answers.reading.tokens import Unreadable
from personahub.core.answers.reading.units import dimension

_CLAUSE_WORDS = {"is", "are", "was", "because", "since", "so", "where", "when", "if", "which", "by", "it", "we"}
_SIGNS = ("percent", "degree")  # units attached to the value right before them
VALUES = {"number", "symbol", "constant", "function", "open", "{", "named_set", "begin", "bar over", "accent"}
_LIST_ENDS = ("close", "}", "&", "row", "end")


def listing(cursor: Cursor) -> Node:
    """Parses members separated by commas, semicolons, `and` or `or`. A single member is returned as is."""
    member = logic.formula if cursor.formula else comparison
    items = [member(cursor)]
    disjunction = False
    while cursor.peek().kind == "separator":
        while cursor.peek().kind == "separator":
            disjunction |= cursor.take().value == "or"
        if cursor.peek() is END or cursor.peek().kind in _LIST_ENDS:
            break
        items.append(member(cursor))
    if len(items) == 1:
        return items[0]
    return Call("written", tuple(items)) if cursor.quantified else Sequence("list", tuple(items), disjunction)


def comparison(cursor: Cursor, stop: tuple[str, ...] = ()) -> Node:
    """Parses a chain of equations or inequalities.

    The first side may be missing (`>= 5`), and a modulus may follow. Operators in `stop` end the chain.
    """
    sides: list[Node] = [Symbol("") if cursor.peek().kind == "relation" else _set_expression(cursor)]
    operators: list[str] = []
    while cursor.peek().kind == "relation" and cursor.peek().value not in stop:
        operators.append(cursor.take().value)
        sides.append(_set_expression(cursor))
    if _at_modulus(cursor):
        return _congruence(cursor, sides, operators)
    return Relation(tuple(sides), tuple(operators)) if operators else sides[0]


def _at_modulus(cursor: Cursor) -> bool:
    kind = cursor.peek().kind
    return kind == "modulus" or (kind == "open" and cursor.peek(1).kind == "modulus")


def _congruence(cursor: Cursor, sides: list[Node], operators: list[str]) -> Node:
    """Parses `x \\equiv 3 \\pmod{7}` and `n = 3 (mod 7)`. Returns a call of (expression, residue, modulus)."""
    if not operators or set(operators) - {"equiv", "="}:
        raise Unreadable("modulus")
    bracket = cursor.accept("open")
    cursor.take()
    modulus = addition(cursor)
    if bracket and not cursor.accept("close", ")"):
        raise Unreadable("modulus")
    what = sides[-2] if "=" in operators[:-1] else sides[0]  # n = 25 = 1 (mod 6)
    return Call("congruence", (what, sides[-1], modulus))


def _set_expression(cursor: Cursor) -> Node:
    node = _ratio(cursor)
    while cursor.peek().kind == "set_operator" or (
        cursor.peek().kind == "-" and isinstance(node, NamedSet) and cursor.peek(1).value in ("set", "{")
    ):
        token = cursor.take()
        operator = token.value if token.kind == "set_operator" else "difference"
        node = SetOperation(operator, (node, _ratio(cursor)))  # type: ignore[arg-type]
    return node


def _ratio(cursor: Cursor) -> Node:
    parts = [addition(cursor)]
    while cursor.peek().kind == ":" and not cursor.in_set:
        cursor.take()
        if isinstance(parts[-1], Words):
            parts.pop()  # `Answer: 5`
        parts.append(addition(cursor))
    return Ratio(tuple(parts)) if len(parts) > 1 else parts[0]


def addition(cursor: Cursor) -> Node:
    """Parses terms joined by signs. Quantities may follow each other directly (2 hours 30 minutes)."""
    terms = [_signed_term(cursor)]
    if isinstance(terms[0], NamedSet):
        return terms[0]  # a minus after a set removes members
    while cursor.peek().kind in ("+", "-", "+-", "-+") or (cursor.peek().kind == "number" and _is_measure(terms[-1])):
        terms.append(_signed_term(cursor))
    if len(terms) == 1:
        return terms[0]
    if any(isinstance(term, Words) for term in terms):
        raise Unreadable("words in a sum")
    last = terms[-1]
    if _is_measure(last) and isinstance(last, Quantity) and not any(isinstance(t, Quantity) for t in terms[:-1]):
        return Quantity(Sum((*terms[:-1], last.value)), last.unit)  # `2x - 1 feet`
    return Sum(tuple(terms))


def _signed_term(cursor: Cursor) -> Node:
    kind = cursor.peek().kind
    if kind not in ("+", "-", "+-", "-+"):
        return term(cursor)
    cursor.take()
    if kind == "+" and cursor.accept("-"):  # `+ -`, and `+-` as ASCII for plus-minus
        return PlusMinus(term(cursor)) if cursor.position == 2 else negative(_signed_or_term(cursor))
    if kind == "+" and cursor.peek().kind == "/" and cursor.peek(1).kind == "-":
        cursor.position += 2
        return PlusMinus(term(cursor))
    cursor.deeper()
    inner = _signed_or_term(cursor)
    cursor.depth -= 1
    if kind == "-":
        return negative(inner)
    return inner if kind == "+" else PlusMinus(inner, lower=kind == "-+")


def _signed_or_term(cursor: Cursor) -> Node:
    return _signed_term(cursor) if cursor.peek().kind in ("+", "-", "+-", "-+") else term(cursor)


def term(cursor: Cursor) -> Node:
    """Parses multiplied or divided factors, and the unit after them. Juxtaposition multiplies."""
    factors: list[Node] = [powers.power(cursor)]
    while True:
        kind = cursor.peek().kind
        if kind == "*":
            cursor.take()
            factors.append(signed_factor(cursor))
        elif kind in ("/", "over"):
            cursor.take()
            factors.append(Power(signed_factor(cursor), Number(Fraction(-1))))
        elif kind == "choose":
            cursor.take()
            factors = [Call("binomial", (_product(factors), signed_factor(cursor)))]
        elif kind == "exponent":
            cursor.take()
            factors.append(Power(Number(Fraction(10)), signed_factor(cursor)))
        elif starts_factor(cursor):
            multiply(cursor, factors)
        else:
            break
    ordered = logic.in_order(tuple(factors)) if cursor.ordered else None
    return ordered or _with_unit(cursor, _lift_unit(factors))


def multiply(cursor: Cursor, factors: list[Node]) -> None:
    """Combines juxtaposed factors into a product. `3 1/2` and `3\\frac{1}{2}` are sums."""
    previous = factors[-1]
    start = cursor.position
    if isinstance(previous, Words) and (cursor.peek().kind != "open" or cursor.peek().spaced):
        raise Unreadable("words in front of a value")
    if cursor.peek().value == "(" and cursor.peek(1).kind == "word":
        if isinstance(powers.power(cursor), Words):
            return  # a remark: `5 (five)`
        raise Unreadable("words in brackets")
    applied = isinstance(previous, Symbol) and cursor.peek().value == "(" and not cursor.peek().spaced
    following = powers.power(cursor)
    if applied and isinstance(previous, Symbol) and isinstance(following, Number):
        factors[-1] = Symbol(f"{previous.name}({following.value})")  # f(2) is a value of f, not 2f
        return
    if applied and previous == Symbol("C") and _two_numbers(following):
        factors[-1] = Call("binomial", following.items)  # C(10, 3)
        return
    whole = _whole(previous) if len(factors) == 1 else None
    if whole is not None:
        unit = following.unit if isinstance(following, Quantity) else ""
        fraction = _proper_fraction(following.value if isinstance(following, Quantity) else following)
        if fraction is None and isinstance(following, Number) and cursor.tokens[start].spaced:
            fraction = _slashed(cursor, following)
        if fraction is not None:
            mixed = Number(whole + fraction)
            factors[-1] = Quantity(mixed, unit) if unit else mixed
            return
    if isinstance(previous, Number) and isinstance(following, Number) and cursor.tokens[start].kind == "number":
        raise Unreadable("two numbers side by side")
    factors.append(following)


def _two_numbers(node: Node) -> TypeGuard[Sequence]:
    return isinstance(node, Sequence) and len(node.items) == 2 and all(isinstance(n, Number) for n in node.items)


def _product(factors: list[Node]) -> Node:
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _slashed(cursor: Cursor, numerator: Number) -> Fraction | None:
    """Parses the `/2` of `3 1/2`."""
    denominator = cursor.peek(1).number
    if cursor.peek().kind != "/" or denominator is None or numerator.places or denominator.places:
        return None
    if not 0 < numerator.value < denominator.value:
        return None
    cursor.position += 2
    return numerator.value / denominator.value


def signed_factor(cursor: Cursor) -> Node:
    """Parses a factor that may have its own sign: `2 * -3`."""
    sign = 1
    while cursor.peek().kind in ("+", "-"):
        sign *= -1 if cursor.take().kind == "-" else 1
    factor = powers.power(cursor)
    return factor if sign == 1 else negative(factor)


def starts_factor(cursor: Cursor) -> bool:
    """Returns whether the next token starts a factor, which means multiplication."""
    token = cursor.peek()
    if token.kind == "bar":
        return cursor.bars == 0 and cursor.in_set == 0
    if token.kind == "open" and ((token.value == "[" and cursor.french) or cursor.peek(1).kind == "modulus"):
        return False
    return token.kind in VALUES


def _with_unit(cursor: Cursor, node: Node) -> Node:
    if cursor.peek().kind == "currency" and not isinstance(node, Words):  # 5$
        return Quantity(node, cursor.take().value)
    if cursor.peek().kind == "word" and cursor.peek().value.lower() in _CLAUSE_WORDS:
        raise Unreadable("a sentence goes on")
    words: list[str] = []
    while cursor.peek().kind == "word" or (words and _unit_goes_on(cursor)):
        token = cursor.take()
        if token.kind == "^":
            words.append("^" + powers.raw_group(cursor))
        elif token.kind == "/":
            words += ["/", cursor.take().value]
        else:
            words.append(token.value)
    return Quantity(node, " ".join(words)) if words else node


def _unit_goes_on(cursor: Cursor) -> bool:
    following = cursor.peek(1)
    if cursor.peek().kind == "symbol":
        return cursor.peek().value in ("h", "s", "m") and following.kind == "^"  # km h^{-1}
    if cursor.peek().kind == "^":
        return following.kind in ("number", "{")
    letter = following.kind == "symbol" and following.value in ("h", "s", "m")
    return cursor.peek().kind == "/" and (following.kind == "word" or letter)


def _lift_unit(factors: list[Node]) -> Node:
    """Lifts a unit after the last factor to the product. `270/7 degrees` is one quantity."""
    if len(factors) == 1:
        return factors[0]
    last = factors[-1]
    if isinstance(last, Quantity):
        return Quantity(Product((*factors[:-1], last.value)), last.unit)
    if isinstance(last, Power) and isinstance(last.base, Quantity) and is_minus_one(last.exponent):
        return Quantity(Product((*factors[:-1], Power(last.base.value, last.exponent))), last.base.unit)
    return Product(tuple(factors))


def _is_measure(node: Node) -> bool:
    return isinstance(node, Quantity) and node.unit not in _SIGNS and dimension(node.unit) is not None


def is_minus_one(node: Node | None) -> bool:
    """Returns whether a node is the number -1."""
    return isinstance(node, Number) and node.value == -1


def _whole(node: Node) -> Fraction | None:
    return node.value if isinstance(node, Number) and _is_integer(node) and node.value >= 0 else None


def _is_integer(number: Number) -> bool:
    return bool(number.digits) and number.places is None


def _proper_fraction(node: Node) -> Fraction | None:
    """Returns the value of `\\frac{1}{2}` with plain integers, for mixed numbers."""
    if not (isinstance(node, Product) and len(node.factors) == 2):
        return None
    top, bottom = node.factors
    if not (isinstance(top, Number) and isinstance(bottom, Power) and isinstance(bottom.base, Number)):
        return None
    if not (_is_integer(top) and _is_integer(bottom.base) and is_minus_one(bottom.exponent)):
        return None
    return top.value / bottom.base.value if 0 < top.value < bottom.base.value else None
