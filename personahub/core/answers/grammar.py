"""A recursive-descent parser from tokens to nodes, for LaTeX and plain notation alike.

It never evaluates anything and never calls another parser; its work is linear in the tokens, and its
depth is bounded by `guards.refusal`, which callers apply first.
"""

from __future__ import annotations

from fractions import Fraction

from personahub.core.answers.nodes import (
    Based,
    Call,
    Constant,
    Interval,
    Matrix,
    NamedSet,
    Node,
    Number,
    PlusMinus,
    Power,
    Product,
    Quantity,
    Ratio,
    Relation,
    Root,
    Sequence,
    SetOperation,
    Sum,
    Symbol,
    Words,
)
from personahub.core.answers.tokens import Token, Unreadable, tokenise
from personahub.core.answers.units import dimension

MAX_LEVELS = 30  # of brackets, groups, functions and signs within each other
_MAX_POSTFIX = 6
_CLOSES = {"(": ")", "[": "]", "set": "set", "<": ">", "|": "|", "floor": "floor", "ceil": "ceil", "{": "}"}
_END = Token("end_of_text", "", False)
_VALUES = {"number", "symbol", "constant", "function", "open", "{", "command", "named_set", "begin"}
_BASE_WORDS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "binary": 2, "octal": 8, "hex": 16,
}  # fmt: skip
_ALIASES = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "arsinh": "arcsinh", "arcosh": "arccosh",
    "artanh": "arctanh", "cosec": "csc", "ctg": "cot", "tg": "tan", "arctg": "arctan", "gcf": "gcd", "sgn": "sign",
}  # fmt: skip
_INVERSES = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sec": "arcsec", "csc": "arccsc",
             "sinh": "arcsinh", "cosh": "arccosh", "tanh": "arctanh"}  # fmt: skip


def parse(text: str, grouped: bool = True) -> Node:
    """The node that a normalised answer stands for.

    Raises:
        Unreadable: it is not mathematics in any form we know.
    """
    tokens = tokenise(text, grouped)
    if not tokens:
        raise Unreadable("empty")
    parser = _Parser(tokens)
    node = parser.listing()
    if parser.peek() is not _END:
        raise Unreadable(f"at {parser.peek().value!r}")
    return node


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.bars = 0  # open |absolute value| bars, which look the same at both ends
        self.in_set = 0
        self.french = 0  # inside of ]a, b[
        self.depth = 0

    def peek(self, ahead: int = 0) -> Token:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else _END

    def take(self) -> Token:
        token = self.peek()
        self.position += 1
        return token

    def deeper(self) -> None:
        """Called where the grammar recurses; whoever calls it takes the level back."""
        self.depth += 1
        if self.depth > MAX_LEVELS:
            raise Unreadable("nested too deeply")

    def accept(self, kind: str, value: str | None = None) -> bool:
        token = self.peek()
        if token.kind == kind and (value is None or token.value == value):
            self.position += 1
            return True
        return False

    def expect(self, kind: str) -> None:
        if not self.accept(kind):
            raise Unreadable(f"expected {kind} at {self.peek().value!r}")

    # Lists and relations -------------------------------------------------------------------

    def listing(self) -> Node:
        """Members separated by commas, semicolons, `and` or `or`; one member is itself."""
        items = [self.relation()]
        disjunction = False
        while self.peek().kind == "separator":
            while self.peek().kind == "separator":
                disjunction |= self.take().value == "or"
            if self.peek() is _END or self.peek().kind in ("close", "}"):
                break
            items.append(self.relation())
        return items[0] if len(items) == 1 else Sequence("list", tuple(items), disjunction)

    def relation(self) -> Node:
        sides: list[Node] = [Symbol("") if self.peek().kind == "relation" else self.set_expression()]  # `>= 5`
        operators: list[str] = []
        while self.peek().kind == "relation":
            operators.append(self.take().value)
            sides.append(self.set_expression())
        return Relation(tuple(sides), tuple(operators)) if operators else sides[0]

    def set_expression(self) -> Node:
        node = self.ratio()
        while self.peek().kind == "set_operator" or (
            self.peek().kind == "-" and isinstance(node, NamedSet) and self.peek(1).value in ("set", "{")
        ):
            token = self.take()
            operator = token.value if token.kind == "set_operator" else "difference"
            node = SetOperation(operator, (node, self.ratio()))  # type: ignore[arg-type]
        return node

    def ratio(self) -> Node:
        parts = [self.sum()]
        while self.peek().kind == ":" and not self.in_set:
            self.take()
            if isinstance(parts[-1], Words):
                parts.pop()  # `Answer: 5`
            parts.append(self.sum())
        return Ratio(tuple(parts)) if len(parts) > 1 else parts[0]

    # Arithmetic ----------------------------------------------------------------------------

    def sum(self) -> Node:
        terms = [self.signed_term()]
        while self.peek().kind in ("+", "-", "+-", "-+") or (
            self.peek().kind == "number" and _is_measure(terms[-1])  # 2 hours 30 minutes
        ):
            terms.append(self.signed_term())
        return Sum(tuple(terms)) if len(terms) > 1 else terms[0]

    def signed_term(self) -> Node:
        kind = self.peek().kind
        if kind not in ("+", "-", "+-", "-+"):
            return self.term()
        self.take()
        if kind == "+" and self.accept("-"):  # `+ -`, and the ASCII spelling `+-` of plus or minus
            return PlusMinus(self.term()) if self.position == 2 else negative(self.signed_or_term())
        if kind == "+" and self.peek().kind == "/" and self.peek(1).kind == "-":
            self.position += 2
            return PlusMinus(self.term())
        self.deeper()
        inner = self.signed_or_term()
        self.depth -= 1
        if kind == "-":
            return negative(inner)
        return inner if kind == "+" else PlusMinus(inner, lower=kind == "-+")

    def signed_or_term(self) -> Node:
        return self.signed_term() if self.peek().kind in ("+", "-", "+-", "-+") else self.term()

    def term(self) -> Node:
        node = self.power()
        factors: list[Node] = [node]
        while True:
            kind = self.peek().kind
            if kind == "*":
                self.take()
                factors.append(self.signed_factor())
            elif kind in ("/", "over"):
                self.take()
                factors.append(Power(self.signed_factor(), Number(Fraction(-1))))
            elif kind == "exponent":
                self.take()
                factors.append(Power(Number(Fraction(10)), self.signed_factor()))
            elif self.starts_factor():
                self.multiply(factors)
            else:
                break
        return self.with_unit(_lift_unit(factors))

    def multiply(self, factors: list[Node]) -> None:
        """Juxtaposition: a product, except `3 1/2` and `3\\frac{1}{2}`, which are sums."""
        previous = factors[-1]
        start = self.position
        if isinstance(previous, Words) and (self.peek().kind != "open" or self.peek().spaced):
            raise Unreadable("words in front of a value")
        following = self.power()
        whole = _whole(previous) if len(factors) == 1 else None
        if whole is not None:
            unit = following.unit if isinstance(following, Quantity) else ""
            fraction = _proper_fraction(following.value if isinstance(following, Quantity) else following)
            if fraction is None and isinstance(following, Number) and self.tokens[start].spaced:
                fraction = self.slashed(following)
            if fraction is not None:
                mixed = Number(whole + fraction)
                factors[-1] = Quantity(mixed, unit) if unit else mixed
                return
        if isinstance(previous, Number) and isinstance(following, Number) and self.tokens[start].kind == "number":
            raise Unreadable("two numbers side by side")
        factors.append(following)

    def slashed(self, numerator: Number) -> Fraction | None:
        """The `/2` of `3 1/2`."""
        denominator = self.peek(1).number
        if self.peek().kind != "/" or denominator is None or numerator.places or denominator.places:
            return None
        if not 0 < numerator.value < denominator.value:
            return None
        self.position += 2
        return numerator.value / denominator.value

    def signed_factor(self) -> Node:
        sign = 1
        while self.peek().kind in ("+", "-"):
            sign *= -1 if self.take().kind == "-" else 1
        factor = self.power()
        return factor if sign == 1 else negative(factor)

    def starts_factor(self) -> bool:
        token = self.peek()
        if token.kind == "bar":
            return self.bars == 0 and self.in_set == 0
        if token.kind == "open" and token.value == "[" and self.french:
            return False
        return token.kind in _VALUES

    def power(self) -> Node:
        self.deeper()
        node = self.raised()
        self.depth -= 1
        return node

    def raised(self) -> Node:
        base = self.postfix(self.atom())
        if self.accept("^"):
            exponent = self.exponent()
            base = Power(base, exponent)
            base = self.postfix(base)
            if self.peek().kind == "^":
                self.take()
                base = Power(base, self.exponent())
        return base

    def exponent(self) -> Node:
        if self.peek().kind == "{":
            return self.group()
        if self.accept("*"):
            return Symbol("*")
        sign = 1
        while self.peek().kind in ("+", "-"):
            sign *= -1 if self.take().kind == "-" else 1
        self.deeper()
        node = self.postfix(self.atom())
        if self.accept("^"):
            node = Power(node, self.exponent())
        self.depth -= 1
        return node if sign == 1 else negative(node)

    def postfix(self, node: Node) -> Node:
        for _ in range(_MAX_POSTFIX):
            if self.accept("!"):
                node = Call("factorial", (node,))
            elif self.accept("%"):
                node = Quantity(node, "percent")
            elif self.accept("degree"):
                if self.peek().kind == "symbol" and self.peek().value in ("C", "F"):
                    node = Quantity(node, "celsius" if self.take().value == "C" else "fahrenheit")
                else:
                    node = Quantity(node, "degree")
            elif self.peek().kind == "'" and isinstance(node, Symbol):
                self.take()
                node = Symbol(node.name + "'")
            elif self.peek().kind == "_":
                node = self.subscript(node)
            else:
                return node
        raise Unreadable("too many signs behind a value")

    def subscript(self, node: Node) -> Node:
        self.take()
        text = self.raw_group()
        if isinstance(node, Number) and node.digits:
            return Based(node.digits, _base(text))
        if isinstance(node, Symbol):
            return Symbol(f"{node.name}_{text}")
        if isinstance(node, (Constant, Product, Call, Sequence)):
            return Symbol(f"{node}_{text}") if isinstance(node, Constant) else node
        raise Unreadable("subscript")

    def raw_group(self) -> str:
        """The text of `{...}` or of one token, for subscripts."""
        if not self.accept("{"):
            return self.take().value
        parts: list[str] = []
        depth = 1
        while depth:
            token = self.take()
            if token is _END:
                raise Unreadable("open brace")
            depth += (token.kind == "{") - (token.kind == "}")
            if depth:
                parts.append(token.value)
        return "".join(parts)

    def with_unit(self, node: Node) -> Node:
        if self.peek().kind == "currency" and not isinstance(node, Words):  # 5$
            return Quantity(node, self.take().value)
        words: list[str] = []
        while self.peek().kind == "word" or (words and self.peek().kind in ("^", "/") and self.unit_goes_on()):
            token = self.take()
            if token.kind == "^":
                words.append("^" + self.raw_group())
            elif token.kind == "/":
                words += ["/", self.take().value]
            else:
                words.append(token.value)
        return Quantity(node, " ".join(words)) if words else node

    def unit_goes_on(self) -> bool:
        following = self.peek(1)
        if self.peek().kind == "^":
            return following.kind in ("number", "{")
        return following.kind == "word" or (following.kind == "symbol" and following.value in ("h", "s", "m"))

    # Atoms ---------------------------------------------------------------------------------

    def atom(self) -> Node:
        token = self.take()
        if token.kind == "number" and token.number is not None:
            return self.numeral(token.number)
        if token.kind == "symbol":
            return Symbol(token.value)
        if token.kind == "constant":
            return Constant(token.value)  # type: ignore[arg-type]
        if token.kind == "named_set":
            return NamedSet(token.value)
        if token.kind == "function":
            return self.function(token.value)
        if token.kind == "{":
            self.position -= 1
            return self.group()
        if token.kind == "open":
            return self.bracketed(token.value)
        if token.kind == "bar":
            return self.absolute()
        if token.kind == "begin":
            return self.environment(token.value)
        if token.kind == "currency":
            return self.money(token.value)
        if token.kind == "word":
            return self.word(token.value)
        if token.kind == "close" and token.value == "]":
            return self.french_interval()
        raise Unreadable(f"{token.kind} {token.value!r}")

    def numeral(self, number: Number) -> Node:
        """A number; digits mixed with letters before a subscript (`1A3_{16}`) are one numeral."""
        ahead, digits = 0, number.digits
        while digits and self.peek(ahead).kind in ("symbol", "number", "constant") and not self.peek(ahead).spaced:
            digits += self.peek(ahead).value
            ahead += 1
        if ahead and self.peek(ahead).kind == "_" and self.peek(ahead + 1).kind in ("number", "{") and digits.isalnum():
            self.position += ahead + 1
            return Based(digits.upper(), _base(self.raw_group()))
        return number

    def money(self, currency: str) -> Node:
        if self.peek().kind not in _VALUES and self.peek().kind != "-":
            raise Unreadable("currency sign alone")
        node = self.signed_factor()
        factors = [node]
        while self.starts_factor():
            self.multiply(factors)
        value = factors[0] if len(factors) == 1 else Product(tuple(factors))
        return Quantity(value, currency)

    def word(self, first: str) -> Node:
        """Words in front: `Area = 5` names a quantity, anything else is an answer in words."""
        words = [first]
        while self.peek().kind == "word":
            words.append(self.take().value)
        return Words(" ".join(words))

    def group(self) -> Node:
        """`{...}`: a LaTeX group, also of a list: sets written without the backslashes are lists."""
        self.expect("{")
        if self.accept("}"):
            return NamedSet("empty")
        bars, self.bars = self.bars, 0
        node = self.listing()
        self.bars = bars
        self.expect("}")
        return node

    def bracketed(self, opening: str) -> Node:
        if opening == "|":
            self.bars += 1
        if self.peek().kind == "close":
            return self.empty(opening)
        bars, self.bars = self.bars, 0
        if opening == "set":
            node = self.set_body()
        else:
            in_set, self.in_set = self.in_set, 0
            node = self.listing()
            self.in_set = in_set
        self.bars = bars
        closing = self.take()
        if closing.kind != "close":
            raise Unreadable(f"open bracket {opening}")
        return _in_brackets(opening, node, closing.value)

    def empty(self, opening: str) -> Node:
        closing = self.take()
        if opening == "set" and closing.value == "set":
            return NamedSet("empty")
        if closing.value == _CLOSES[opening] and opening in "([":
            return Sequence("tuple" if opening == "(" else "bracket", ())
        raise Unreadable("empty brackets")

    def set_body(self) -> Node:
        """`{1, 2}` or `{x | x > 2}`; the condition is all that a builder over the reals says."""
        self.in_set += 1
        node = self.listing()
        self.in_set -= 1
        if self.peek().kind in ("bar", "mid", ":"):
            self.take()
            condition = self.listing()
            return condition if not isinstance(condition, Sequence) else condition
        items = node.items if isinstance(node, Sequence) and node.kind == "list" else (node,)
        return Sequence("set", items)

    def absolute(self) -> Node:
        self.bars += 1
        node = self.listing()
        if self.peek().kind not in ("bar", "mid"):
            raise Unreadable("open bar")
        self.take()
        self.bars -= 1
        return Call("abs", (node,))

    def french_interval(self) -> Node:
        """`]a, b[`."""
        self.french += 1
        node = self.listing()
        self.french -= 1
        if not (isinstance(node, Sequence) and node.kind == "list" and len(node.items) == 2):
            raise Unreadable("bracket")
        closing = self.take()
        if closing.value not in ("[", "]"):
            raise Unreadable("bracket")
        return Interval(node.items[0], node.items[1], False, closing.value == "]")

    def environment(self, name: str) -> Node:
        if not (name.endswith("matrix") or name in ("array", "cases", "aligned", "align", "split", "gathered")):
            raise Unreadable(name)
        rows: list[tuple[Node, ...]] = []
        row: list[Node] = []
        while not self.accept("end"):
            if self.accept("row"):
                rows, row = [*rows, tuple(row)] if row else rows, []
            elif not self.accept("&"):
                row.append(self.listing())
                if self.peek().kind not in ("&", "row", "end"):
                    raise Unreadable("matrix")
        rows = [*rows, tuple(row)] if row else rows
        if not rows:
            raise Unreadable("empty matrix")
        if not name.endswith("matrix") and name != "array":
            items = tuple(cell for cells in rows for cell in cells)
            return Sequence("list", items) if len(items) > 1 else items[0]
        if name in ("vmatrix", "Vmatrix"):
            return Call("det", (Matrix(tuple(rows)),))
        return Matrix(tuple(rows))

    # Functions -----------------------------------------------------------------------------

    def function(self, name: str) -> Node:
        if name in ("frac", "binom", "dbinom"):
            top, bottom = self.argument(), self.argument()
            if name == "frac":
                return Product((top, Power(bottom, Number(Fraction(-1)))))
            return Call("binomial", (top, bottom))
        if name in ("sqrt", "cbrt"):
            return self.root(3 if name == "cbrt" else 2)
        if name in ("mod", "bmod", "pmod"):
            raise Unreadable("modulus")
        if name in ("sum", "prod"):
            return self.series(name)
        return self.applied(_ALIASES.get(name, name))

    def series(self, name: str) -> Node:
        """`\\sum_{k=1}^{n} body` as a call of (variable, first, last, body)."""
        bounds: dict[str, Node] = {}
        while self.peek().kind in ("_", "^"):
            kind = self.take().kind
            bounds[kind] = self.group() if self.peek().kind == "{" else self.atom()
        start = bounds.get("_")
        if not isinstance(start, Relation) or start.operators != ("=",) or "^" not in bounds:
            raise Unreadable("series without bounds")
        body = self.term()
        return Call(name, (start.sides[0], start.sides[1], bounds["^"], body))

    def root(self, degree: int) -> Node:
        index: Node = Number(Fraction(degree))
        if self.peek().value == "[" and self.peek().kind == "open":
            self.take()
            index = self.sum()
            if self.take().value != "]":
                raise Unreadable("root index")
        return Root(self.argument(), index)

    def argument(self) -> Node:
        """One LaTeX argument: `{...}`, or the next token, of which a number gives one digit (`\\frac12`)."""
        token = self.peek()
        if token.kind == "number" and token.number is not None and len(token.number.digits) > 1:
            digit, rest = token.value[0], token.value[1:]
            if self.position and self.tokens[self.position - 1].value in ("sqrt", "cbrt"):
                return self.atom()  # \sqrt12 in the wild means the root of 12
            self.tokens[self.position] = Token("number", rest, False, _integer(rest))
            return _integer(digit)
        if token.kind == "-":
            self.take()
            return negative(self.atom())
        return self.group() if token.kind == "{" else self.atom()

    def applied(self, name: str) -> Node:
        exponent = base = None
        while self.peek().kind in ("^", "_"):
            if self.accept("^"):
                exponent = self.exponent()
            else:
                self.take()
                base = self.group() if self.peek().kind == "{" else self.atom()
        if exponent == Number(Fraction(-1), digits="1") or exponent == Product((_integer("-1"),)):
            name, exponent = _INVERSES.get(name, name), None
        elif _is_minus_one(exponent) and name in _INVERSES:
            name, exponent = _INVERSES[name], None
        call = Call(name, self.arguments(base))
        if exponent is not None:
            return Power(call, exponent)
        return call

    def arguments(self, base: Node | None) -> tuple[Node, ...]:
        """In brackets, or the product that follows (`\\sin 2x`), up to the next function."""
        if self.peek().kind in ("open", "{") and self.peek().value in ("(", "[", "{"):
            node = self.atom()
            items = node.items if isinstance(node, Sequence) else (node,)
            if not items:
                raise Unreadable("no argument")
        else:
            items = (self.bare_argument(),)
        return (*items, base) if base is not None else tuple(items)

    def bare_argument(self) -> Node:
        factors = [self.signed_factor()]
        while (
            (self.starts_factor()
            and self.peek().kind != "function")
            or (self.peek().kind == "function" and self.peek().value in ("frac", "sqrt"))
        ):
            if self.peek().kind in ("open", "bar"):
                break
            factors.append(self.power())
        if self.peek().kind == "/" and self.peek(1).kind == "number" and isinstance(factors[-1], (Constant, Symbol)):
            self.take()
            factors.append(Power(self.power(), Number(Fraction(-1))))
        return factors[0] if len(factors) == 1 else Product(tuple(factors))


def negative(node: Node) -> Node:
    """Minus `node`, folded into a number."""
    if isinstance(node, Number):
        return Number(-node.value, node.places, node.significant, "-" + node.digits if node.digits else "")
    if isinstance(node, Quantity):
        return Quantity(negative(node.value), node.unit)
    if isinstance(node, Based):
        return Based("-" + node.digits, node.base)
    return Product((Number(Fraction(-1)), node))


def _lift_unit(factors: list[Node]) -> Node:
    """`270/7 degrees` is a quantity, not a product of one: a sign behind the last factor belongs to them all."""
    if len(factors) == 1:
        return factors[0]
    last = factors[-1]
    if isinstance(last, Quantity):
        return Quantity(Product((*factors[:-1], last.value)), last.unit)
    if isinstance(last, Power) and isinstance(last.base, Quantity) and _is_minus_one(last.exponent):
        return Quantity(Product((*factors[:-1], Power(last.base.value, last.exponent))), last.base.unit)
    return Product(tuple(factors))


def _is_measure(node: Node) -> bool:
    return isinstance(node, Quantity) and dimension(node.unit) is not None


def _is_minus_one(node: Node | None) -> bool:
    return isinstance(node, Number) and node.value == -1


def _integer(digits: str) -> Number:
    return Number(Fraction(int(digits)), None, len(digits.lstrip("0")), digits)


def _whole(node: Node) -> Fraction | None:
    return node.value if isinstance(node, Number) and node.digits and node.value >= 0 else None


def _proper_fraction(node: Node) -> Fraction | None:
    """The value of `\\frac{1}{2}` with bare integers, for mixed numbers."""
    if not (isinstance(node, Product) and len(node.factors) == 2):
        return None
    top, bottom = node.factors
    if not (isinstance(top, Number) and isinstance(bottom, Power) and isinstance(bottom.base, Number)):
        return None
    if not (top.digits and bottom.base.digits and _is_minus_one(bottom.exponent)):
        return None
    return top.value / bottom.base.value if 0 < top.value < bottom.base.value else None


def _base(text: str) -> int:
    word = text.strip("()").lower().removeprefix("base").strip()
    base = _BASE_WORDS.get(word) or (int(word) if word.isdigit() and len(word) <= 3 else 0)
    if not 2 <= base <= 36:
        raise Unreadable(f"base {text}")
    return base


def _in_brackets(opening: str, node: Node, closing: str) -> Node:
    items = node.items if isinstance(node, Sequence) and node.kind == "list" else None
    if (opening == "set" and closing == "set") or (isinstance(node, Matrix) and opening in "(["):
        return node
    if opening in ("floor", "ceil") and closing == opening:
        return Call(opening, (node,))
    if opening == "|" and closing == "|":
        return Call("abs", (node,))
    if opening == "<" and closing == ">":
        return Sequence("tuple", items or (node,))
    if {opening, closing} - set("()[]"):
        raise Unreadable("brackets do not match")
    if items is None:
        if opening + closing in ("()", "[]"):
            return node if opening == "(" else Sequence("bracket", (node,))
        raise Unreadable("brackets do not match")
    if opening + closing == "()":
        return Sequence("tuple", items)
    if opening + closing == "[]":
        return Sequence("bracket", items)
    if len(items) != 2:
        raise Unreadable("half-open list")
    return Interval(items[0], items[1], opening == "[", closing == "]")
