"""Compares parsed answers: which shapes are interchangeable, how parts compare.

Every rule returns its name, which the verdict reports, or None. The reference is always the first
argument, because some leniency is one-sided: a missing unit is accepted, a wrong one is not.
"""

from __future__ import annotations

from fractions import Fraction

from personahub.core.answers.comparing import families, relations, signs
from personahub.core.answers.comparing.matrices import folded, in_components
from personahub.core.answers.comparing.members import without_common
from personahub.core.answers.comparing.numerals import same_numeral
from personahub.core.answers.comparing.quantities import same_quantity
from personahub.core.answers.comparing.realsets import (
    NotASet,
    infinity_sign,
    is_the_rest,
    listed_integers,
    real_set,
    same_set,
)
from personahub.core.answers.comparing.scalars import same_scalar, same_structure, uses_bare_log, with_common_log
from personahub.core.answers.comparing.values import free_symbols
from personahub.core.answers.policy import Policy
from personahub.core.answers.reading.nodes import (
    Based,
    Call,
    Interval,
    Matrix,
    NamedSet,
    Node,
    Number,
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
)
from personahub.core.answers.reading.wording import number_word, words_key

_MANY = 30  # most members matched in any order when they are not all plain numbers


def same(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Returns the rule by which `pred` equals `gold`, or None.

    Args:
        gold: the reference answer.
        pred: the predicted answer.
        policy: contested cases.
    """
    if gold == pred:
        return "same expression"
    if isinstance(gold, Number) and isinstance(pred, Number):
        return same_scalar(gold, pred, policy)
    if isinstance(gold, Call) or isinstance(pred, Call):
        gold, pred = listed_integers(gold), listed_integers(pred)
    rule = _by_shape(gold, pred, policy)
    if rule is None and (signs.has_plus_minus(gold) or signs.has_plus_minus(pred)):
        return _both_signs(gold, pred, policy)
    if rule is None and uses_bare_log(gold) != uses_bare_log(pred):
        rule = _by_shape(with_common_log(gold), with_common_log(pred), policy)
    if rule is None:
        renamed = (relations.substitute(pred, names) for names in families.parameter_renamings(gold, pred))
        rule = next((rule for node in renamed if (rule := _by_shape(gold, node, policy))), None)
    return rule or families.same_antiderivative(gold, pred) or families.same_multiples(gold, pred)


def _by_shape(gold: Node, pred: Node, policy: Policy) -> str | None:
    if isinstance(gold, Words) or isinstance(pred, Words):
        return _words(gold, pred, policy)
    if isinstance(gold, Call) or isinstance(pred, Call):
        named = {node.name for node in (gold, pred) if isinstance(node, Call)}
        if "congruence" in named:
            return families.same_residues(gold, pred, policy)
        if "cases" in named and not (_has_relation(gold) or _has_relation(pred)):
            return _piecewise(gold, pred, policy)
    if _has_relation(gold) or _has_relation(pred):
        return _relations(gold, pred, policy)
    if _is_set_like(gold) or _is_set_like(pred):
        return _sets(gold, pred, policy)
    if _has_matrix(gold) or _has_matrix(pred):
        return _matrices(gold, pred, policy)
    if isinstance(gold, Sequence) or isinstance(pred, Sequence):
        return _sequences(gold, pred, policy)
    if isinstance(gold, Ratio) or isinstance(pred, Ratio):
        return _ratios(gold, pred, policy)
    if isinstance(gold, Based) or isinstance(pred, Based):
        return same_numeral(gold, pred, policy)
    if infinity_sign(gold) or infinity_sign(pred):
        return "infinity" if infinity_sign(gold) == infinity_sign(pred) else None
    return same_quantity(gold, pred, policy)


def _words(gold: Node, pred: Node, policy: Policy) -> str | None:
    if isinstance(gold, Words) and isinstance(pred, Words):
        same_key = words_key(gold.text, policy.ignore_case) == words_key(pred.text, policy.ignore_case)
        return "words" if same_key else None
    text, other = (gold.text, pred) if isinstance(gold, Words) else (getattr(pred, "text", ""), gold)
    number = number_word(text)
    if number is not None:
        return "number word" if same(Number(number, digits=str(number)), other, policy) else None
    said = words_key(text, True)
    if isinstance(other, NamedSet):
        return "words" if {"none": "empty", "reals": "reals"}.get(said) == other.name else None
    if said == "infinity":
        return "words" if infinity_sign(other) == 1 else None
    if said == "reals":
        return _real_sets(NamedSet("reals"), other)
    return None


def _piecewise(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Compares values under conditions, in any order. `otherwise` covers what the other conditions leave."""
    if not (isinstance(gold, Call) and isinstance(pred, Call) and len(gold.arguments) == len(pred.arguments) <= _MANY):
        return None
    unmatched, rest = [], [row.items for row in pred.arguments if isinstance(row, Sequence)]
    for row in (row.items for row in gold.arguments if isinstance(row, Sequence)):
        index = next((i for i, other in enumerate(rest) if _ordered(row, other, policy)), None)
        if index is None:
            unmatched.append(row)
        else:
            del rest[index]
    if not unmatched:
        return "cases"
    (value, condition), (other, said) = unmatched[0], rest[0]
    if len(unmatched) > 1 or isinstance(condition, Words) == isinstance(said, Words) or not same(value, other, policy):
        return None
    whole, stated = (pred, said) if isinstance(condition, Words) else (gold, condition)
    conditions = [row.items[1] for row in whole.arguments if isinstance(row, Sequence)]  # type: ignore[union-attr]
    conditions.remove(stated)
    return "cases" if is_the_rest(stated, conditions) else None


def _has_relation(node: Node) -> bool:
    return isinstance(node, Relation) or (
        isinstance(node, Sequence) and any(isinstance(i, Relation) for i in node.items)
    )


def _relations(gold: Node, pred: Node, policy: Policy) -> str | None:
    gold, pred = relations.settled(gold), relations.settled(pred)
    if gold == pred:
        return "same relation"
    if policy.name_optional or (_has_relation(gold) and _has_relation(pred)):
        named = _named_values(gold, pred, policy)
        if named is not None:
            return named or None
    if isinstance(gold, Relation) and isinstance(pred, Relation):
        rule = relations.same_relation(gold, pred, policy)
        if rule is not None:
            return rule
    both = _has_relation(gold) and _has_relation(pred)
    if (policy.interval_as_inequality or both) and not (both and relations.different_variables(gold, pred)):
        rule = _real_sets(gold, pred)
        if rule is not None:
            return rule
    if isinstance(gold, Sequence) and isinstance(pred, Sequence) and gold.kind == pred.kind == "list":
        if gold.disjunction != pred.disjunction and not (_equations(gold) and _equations(pred)):
            return None  # x > 1 or x < 5
        return "relations" if _unordered(gold.items, pred.items, policy) else None
    return None


def _equations(node: Sequence) -> bool:
    """Returns whether all members are equations that allow several values. Then `or` and a comma mean the same."""
    lists = [free_symbols(item) for item in node.items if not isinstance(item, Relation) or "=" in item.operators]
    return len(lists) == len(node.items) and (not node.disjunction or len(set(lists)) == 1)


def _named_values(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Compares `x = 5` with `5`. Returns "" when both sides name values and the names or values differ."""
    left, right = relations.named(gold), relations.named(pred)
    if left is None and right is None and not _has_relation(gold):
        right = relations.combined(pred)
    if left is None and right is None:
        return None
    if left is not None and right is not None:
        if left.names and right.names and not relations.compatible(left.names, right.names):
            return "" if not (isinstance(gold, Relation) and isinstance(pred, Relation)) else None
        right = relations.in_order_of(right, left.names)
    elif right is not None:
        right = relations.in_usual_order(right)
    elif left is not None:
        left = relations.in_usual_order(left)
    if left is None and right is not None and any(map(relations.is_size, right.names)):
        return None  # |x| = 3 leaves two values
    a, b = (left.value if left else gold), (right.value if right else pred)
    if a == gold and b == pred:
        return None
    if _has_relation(a) or _has_relation(b):
        return None
    rule = same(a, b, policy)
    if rule is None and left is not None and right is not None:
        a, b = relations.renamed(left, right)
        rule = same(a, b, policy)
    return f"named value, {rule}" if rule else None


def _is_set_like(node: Node) -> bool:
    return isinstance(node, (Interval, SetOperation, NamedSet))


def _sets(gold: Node, pred: Node, policy: Policy) -> str | None:
    rule = _real_sets(gold, pred)
    if rule is None and type(gold) is type(pred) and same_structure(gold, pred, policy):
        return "structure"
    return rule or _same_ends(gold, pred, policy)


def _same_ends(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Compares intervals whose ends are expressions, such as `(-a, 0)` and `[0, 2b)`."""
    if not (isinstance(gold, Interval) and isinstance(pred, Interval)):
        return None
    if (gold.left_closed, gold.right_closed) != (pred.left_closed, pred.right_closed):
        return None
    ends = same(gold.left, pred.left, policy) and same(gold.right, pred.right, policy)
    return "interval" if ends else None


def _real_sets(gold: Node, pred: Node) -> str | None:
    try:
        return "set of reals" if same_set(real_set(gold), real_set(pred)) else None
    except NotASet:
        return None


def _matrices(gold: Node, pred: Node, policy: Policy) -> str | None:
    gold, pred = folded(gold), folded(pred)
    if not (_has_matrix(gold) or _has_matrix(pred)):
        return same(gold, pred, policy)
    a, b = _rows(gold), _rows(pred)
    if a is None or b is None:
        if not policy.vector_as_tuple:
            return None
        left, right = _vector(gold), _vector(pred)
        left, right = left or in_components(gold, right), right or in_components(pred, left)
        if left is None or right is None or len(left) != len(right) or len(left) < 2:
            return None
        return "vector" if all(same(x, y, policy) for x, y in zip(left, right, strict=True)) else None
    if [len(row) for row in a] != [len(row) for row in b]:
        return None
    cells = ((x, y) for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True))
    return "matrix" if all(same(x, y, policy) for x, y in cells) else None


def _has_matrix(node: Node) -> bool:
    parts = node.terms if isinstance(node, Sum) else node.factors if isinstance(node, Product) else ()
    if isinstance(node, Call):
        parts = node.arguments
    if isinstance(node, Power):
        parts = (node.base,)
    return isinstance(node, Matrix) or any(_has_matrix(part) for part in parts)


def _rows(node: Node) -> tuple[tuple[Node, ...], ...] | None:
    if isinstance(node, Matrix):
        return node.rows
    if isinstance(node, Sequence) and node.kind in ("bracket", "list", "tuple"):
        rows = [item for item in node.items if isinstance(item, Sequence) and item.kind in ("bracket", "tuple")]
        if len(rows) == len(node.items) and rows:
            return tuple(row.items for row in rows)
    return None


def _vector(node: Node) -> tuple[Node, ...] | None:
    if isinstance(node, Matrix):
        if len(node.rows) == 1:
            return node.rows[0]
        return tuple(row[0] for row in node.rows) if all(len(row) == 1 for row in node.rows) else None
    return node.items if isinstance(node, Sequence) and node.kind != "set" else None


def _sequences(gold: Node, pred: Node, policy: Policy) -> str | None:
    a, b = _as_sequence(gold, pred), _as_sequence(pred, gold)
    if (a or b) and not (a and b) and policy.vector_as_tuple:
        items = (a or b or Sequence("list", ())).items
        parts = in_components(pred if a else gold, items)  # 4i - j + 2k
        if parts:
            return "vector" if _ordered(items, parts, policy) else None
    if a is None or b is None:
        return _restated(gold, pred, policy)
    kinds = {a.kind, b.kind}
    if kinds <= {"list", "set"}:
        if a.disjunction != b.disjunction and all(isinstance(item, Symbol) for item in (*a.items, *b.items)):
            return None  # p or q
        distinct = "set" in kinds or all(isinstance(item, Sequence) for item in a.items)  # solutions, not values
        return "members" if _unordered(a.items, b.items, policy, distinct) else None
    if a.kind == b.kind:
        return "ordered" if _ordered(a.items, b.items, policy) else None
    if kinds == {"tuple", "bracket"}:
        longer = len(a.items) > 2  # two members in brackets are an interval
        return "ordered" if longer and policy.tuple_as_list and _ordered(a.items, b.items, policy) else None
    if "bracket" in kinds:
        if kinds == {"bracket", "set"} and len(a.items) == 2:
            return None  # {0, 1} is no interval
        fits = policy.tuple_as_list and b.kind == "bracket" and _unordered(a.items, b.items, policy)
        return "members" if fits else None
    if "set" in kinds:
        return None
    return "ordered" if policy.tuple_as_list and _ordered(a.items, b.items, policy) else None


def _restated(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Compares a value written twice or in parts. Examples: `3/4 or 0.75`, `3 dollars and 50 cents`."""
    if isinstance(gold, Sequence) and not isinstance(pred, Sequence):
        if gold.disjunction:
            return "restated" if all(same(item, pred, policy) for item in gold.items) else None
        return same_quantity(Sum(gold.items), pred, policy) if _in_parts(gold) else None
    if not (isinstance(pred, Sequence) and pred.kind == "list") or isinstance(gold, Sequence):
        return None
    if pred.disjunction:
        return "restated" if all(same(gold, item, policy) for item in pred.items) else None
    return same_quantity(gold, Sum(pred.items), policy) if _in_parts(pred) else None


def _in_parts(node: Sequence) -> bool:
    return node.kind == "list" and not node.disjunction and all(isinstance(item, Quantity) for item in node.items)


def _as_sequence(node: Node, other: Node) -> Sequence | None:
    """Treats a single value as a list of one: `{5}` and `[5]` may mean 5."""
    if isinstance(node, Sequence):
        return node
    if isinstance(node, Product) and len(node.factors) == 2:
        label, point = node.factors  # A(3, -2)
        if isinstance(label, Symbol) and label.name.isupper() and isinstance(point, Sequence) and point.kind == "tuple":
            return point
    if isinstance(other, Sequence) and len(other.items) == 1 and other.kind != "tuple":
        return Sequence(other.kind, (node,))
    return None


def _ordered(a: tuple[Node, ...], b: tuple[Node, ...], policy: Policy) -> bool:
    return len(a) == len(b) and all(same(x, y, policy) for x, y in zip(a, b, strict=True))


def _unordered(a: tuple[Node, ...], b: tuple[Node, ...], policy: Policy, distinct: bool = False) -> bool:
    left, right = without_common(a, b, distinct)
    if max(len(left), len(right)) > _MANY:
        return False
    if distinct:
        left, right = _without_repeats(left, policy), _without_repeats(right, policy)
    if len(left) != len(right):
        return False
    rest = list(right)
    for item in left:
        for index, other in enumerate(rest):
            if same(item, other, policy):
                del rest[index]
                break
        else:
            return False
    return True


def _without_repeats(items: list[Node], policy: Policy) -> list[Node]:
    kept: list[Node] = []
    for item in items:
        if not any(same(item, other, policy) for other in kept):
            kept.append(item)
    return kept


def _ratios(gold: Node, pred: Node, policy: Policy) -> str | None:
    if isinstance(gold, Ratio) and isinstance(pred, Ratio):
        if len(gold.parts) != len(pred.parts):
            return None
        if not policy.ratio_as_fraction:
            return "ratio" if _ordered(gold.parts, pred.parts, policy) else None
        crossed = (
            same_scalar(Product((gold.parts[0], y)), Product((x, pred.parts[0])), policy)
            for x, y in zip(gold.parts[1:], pred.parts[1:], strict=True)
        )
        return "ratio" if all(crossed) else None
    parts, other = (gold.parts, pred) if isinstance(gold, Ratio) else (getattr(pred, "parts", ()), gold)
    if not policy.ratio_as_fraction or len(parts) != 2 or isinstance(other, (Sequence, Quantity)):
        return None
    fraction = Product((parts[0], Power(parts[1], Number(Fraction(-1)))))
    return "ratio" if same_scalar(fraction, other, policy) else None


def _both_signs(gold: Node, pred: Node, policy: Policy) -> str | None:
    """Expands `1 \\pm 2` to the list of 3 and -1. In a list or set it stands for two members."""
    for expand in (signs.expanded, signs.independent):
        a, b = expand(gold), expand(pred)
        if (a, b) == (gold, pred) or signs.has_plus_minus(a) or signs.has_plus_minus(b):
            continue
        if rule := same(a, b, policy):
            return f"plus or minus, {rule}"
    return None
