"""Splits a normalised answer into tokens; tells words from products of letters."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from personahub.core.answers.reading.nodes import Number
from personahub.core.answers.reading.units import dimension, is_unit

FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc", "asin",
    "acos", "atan", "sinh", "cosh", "tanh", "coth", "arcsinh", "arccosh", "arctanh", "arsinh", "arcosh", "artanh",
    "ln", "log", "lg", "exp", "sqrt", "cbrt", "abs", "floor", "ceil", "gcd", "lcm", "max", "min", "sgn", "sign",
    "Re", "Im", "det", "cosec", "ctg", "tg", "arctg", "Gamma", "sech", "csch", "cis", "factorial", "binomial",
    "gcf", "binom", "frac", "sum", "prod",
}  # fmt: skip
_PLAIN_FUNCTIONS = FUNCTIONS - {"Re", "Im", "det", "Gamma", "frac", "sign", "sum", "prod"}
_RUN_TOGETHER = {"pi", "cdot", "times", "pm", "theta", "alpha", "beta", "infty", "degree"}
_UNREAD = {
    "int",
    "iint",
    "oint",
    "lim",
    "limsup",
    "liminf",
    "bigcup",
    "bigcap",
    "dots",
    "vdots",
    "ddots",
    "mod",
    "prime",
}
_WORD_CONSTANTS = {"pi": "pi", "infinity": "oo", "inf": "oo", "infty": "oo", "oo": "oo"}
GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "zeta", "eta", "theta", "vartheta", "iota", "kappa",
    "lambda", "mu", "nu", "xi", "omicron", "rho", "varrho", "sigma", "varsigma", "tau", "upsilon", "phi", "varphi",
    "chi", "psi", "omega", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega", "ell",
    "hbar", "nabla", "partial", "aleph", "imath", "jmath",
}  # fmt: skip
_OPERATORS = {
    "times": "*", "cdot": "*", "div": "/", "pm": "+-", "mp": "-+", "ast": "*", "star": "*", "over": "over",
    "slash": "/", "bullet": "*", "cdotp": "*", "choose": "choose",
}  # fmt: skip
_RELATIONS = {
    "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "ne": "!=", "neq": "!=",
    "lt": "<", "gt": ">", "approx": "~", "equiv": "equiv", "simeq": "~", "sim": "~", "cong": "equiv",
    "doteq": "~", "leqq": "<=", "geqq": ">=", "implies": "=>", "Rightarrow": "=>", "iff": "<=>", "Longrightarrow": "=>",
    "Leftrightarrow": "<=>", "Longleftrightarrow": "<=>", "leftrightarrow": "<=>", "impliedby": "if", "Leftarrow": "if",
    "rightarrow": "to", "to": "to", "mapsto": "mapsto", "longrightarrow": "to", "leftarrow": "from", "gets": "from",
    "longleftarrow": "from", "coloneqq": "=", "in": "in", "ni": "ni", "notin": "notin", "subset": "subset",
    "subseteq": "subset", "supset": "supset", "supseteq": "supset", "subsetneq": "psubset", "supsetneq": "psupset",
    "nsubseteq": "nsubset", "perp": "perp", "parallel": "parallel", "nparallel": "nparallel", "propto": "propto",
    "nmid": "nmid", "prec": "prec", "succ": "succ", "preceq": "preceq", "succeq": "succeq", "ll": "<<", "gg": ">>",
}  # fmt: skip
_SETS = {"cup": "union", "cap": "intersection", "setminus": "difference", "backslash": "difference",
         "smallsetminus": "difference"}  # fmt: skip
_IGNORED = {
    "angle", "measuredangle", "vec", "overrightarrow", "mathring", "boxed", "displaystyle", "square", "therefore", "because", "blacksquare", "checkmark",
    "ensuremath", "underbrace", "overbrace", "text", "stackrel", "mathstrut", "degree_sign", "underline", "cancel",
    "quad", "Box", "overleftrightarrow", "overset", "underset",
}  # fmt: skip
_BRACKETS = {
    "langle": ("open", "<"), "rangle": ("close", ">"), "lvert": ("open", "|"), "rvert": ("close", "|"),
    "lfloor": ("open", "floor"), "rfloor": ("close", "floor"), "lceil": ("open", "ceil"), "rceil": ("close", "ceil"),
    "{": ("open", "set"), "}": ("close", "set"), "lbrack": ("open", "["), "rbrack": ("close", "]"),
    "lparen": ("open", "("), "rparen": ("close", ")"), "vert": ("bar", "|"), "mid": ("mid", "|"), "|": ("bar", "|"),
    "Vert": ("bar", "|"), "lVert": ("open", "|"), "rVert": ("close", "|"),
}  # fmt: skip
_CONNECTIVES = {"AND": "land", "OR": "lor"}
_SIGNS = {
    "land": ("land", "and"), "wedge": ("land", "and"), "lor": ("lor", "or"), "vee": ("lor", "or"),
    "neg": ("symbol", r"\neg"), "lnot": ("symbol", r"\neg"), "bar": ("bar over", ""), "overline": ("bar over", ""),
    "hat": ("accent", "hat"), "widehat": ("accent", "hat"), "tilde": ("accent", "tilde"), "widetilde": ("accent", "tilde"),
    "mod": ("modulus", ""), "bmod": ("modulus", ""), "pmod": ("modulus", ""),
}  # fmt: skip
_NAMED_SETS = {"R": "reals", "Z": "integers", "N": "naturals", "Q": "rationals", "C": "complexes"}
_CURRENCY = {"$": "dollar", "euro": "euro", "pounds": "pound", "yen": "yen", "rupee": "rupee"}
_SMALL_WORDS = {
    "so",
    "it",
    "is",
    "we",
    "to",
    "of",
    "be",
    "by",
    "he",
    "as",
    "an",
    "us",
    "on",
    "if",
    "do",
    "go",
    "no",
    "at",
}
_ARTICLES = {"the", "for", "are", "has", "was", "its", "any", "all"}  # three-letter words that are not products
_SEPARATING_WORDS = {"and", "or"}
_ENDS_VALUE = ("number", "close", "}", "symbol", "constant")

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<repeat>(?:\d+)?\.\d*(?:\\(?:overline|bar|dot|overbar|overrightarrow|mathring)\s*(?:\{\d+\}|\d)\s*\d*)+
        |(?:\d+)?\.\d*\(\d+\)(?!\s*[\^/])|\d+\.\d+(?:\s*\\dots|\s*\.{3,}))
    |(?P<number>(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{1,3}(?![\dA-Za-z]))?)
    |(?P<blackboard>\\(?:mathbb|Bbb)\s*\{?\s*[RZNQC]\s*\}?(?:\^\s*\{?[+*]\}?|_\s*\{?[+]\}?|\^\s*\{?\d\}?)?)
    |(?P<environment>\\(?:begin|end)\s*\{[a-zA-Z]+\*?\}(?:\s*(?:\[[lcr|]+\]|\{[lcr|\s]+\}))?)
    |(?P<text>\\text\{(?:[^{}]|\{[^{}]*\})*\})
    |(?P<row>\\\\|\\cr(?![a-z]))
    |(?P<command>\\(?:[a-zA-Z]+|[{}|$]))
    |(?P<word>[A-Za-z]+)
    |(?P<relation><=|>=|!=|==|=>|=<|<|>|=|~)
    |(?P<power>\*\*|\^)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """One token. `kind` is its class in the grammar; `spaced` says whether white space precedes it."""

    kind: str
    value: str
    spaced: bool
    number: Number | None = None


class Unreadable(Exception):
    """Raised when the text is not mathematics in a known notation."""


def tokenise(text: str, grouped: bool = True) -> list[Token]:
    """Returns the tokens of a normalised answer. With `grouped`, `1,234` is one number, otherwise two."""
    tokens: list[Token] = []
    spaced = False
    for match in _TOKEN.finditer(text):
        kind, value = str(match.lastgroup), match.group()
        if kind == "space":
            spaced = True
            continue
        tokens.extend(_read(kind, value, spaced, tokens, grouped))
        spaced = False
    return tokens


def _read(kind: str, value: str, spaced: bool, before: list[Token], grouped: bool) -> list[Token]:
    if kind == "number":
        return _number(value, spaced, grouped)
    if kind == "repeat":
        return [Token("number", value, spaced, _repeating(value))]
    if kind == "word":
        return _word(value, spaced, before)
    if kind == "text":
        return _text(value[6:-1], spaced, before)
    if kind == "command":
        return _command(value[1:], spaced, before)
    if kind == "blackboard":
        return [Token("named_set", _NAMED_SETS[re.sub(r"\\[A-Za-z]+", "", value).strip(" {")[0]], spaced)]
    if kind == "environment":
        name = re.sub(r"\\(?:begin|end)\s*", "", value).strip("{}").split("}")[0].rstrip("*")
        return [Token("begin" if value.startswith("\\begin") else "end", name, spaced)]
    if kind == "row":
        return [Token("row", value, spaced)]
    if kind == "relation":
        return [Token("relation", {"==": "=", "=<": "<=", "=>": "=>"}.get(value, value), spaced)]
    if kind == "power":
        return [Token("^", "^", spaced)]
    return [_single(value, spaced)]


def _single(value: str, spaced: bool) -> Token:
    if value in "([":
        return Token("open", value, spaced)
    if value in ")]":
        return Token("close", value, spaced)
    if value in ",;":
        return Token("separator", value, spaced)
    if value in "+-*/{}_!%':&":
        return Token(value, value, spaced)
    if value == "|":
        return Token("bar", value, spaced)
    if value == "$":
        return Token("currency", "dollar", spaced)
    if value in '"?`#.\\' or ord(value) > 0x2E7F or (value.isalpha() and not value.isascii()):
        return Token("word", value, spaced)
    raise Unreadable(value)


def _number(value: str, spaced: bool, grouped: bool) -> list[Token]:
    if "," in value and not (grouped and value[0] != "0"):
        tokens: list[Token] = []
        for part in value.split(","):
            tokens += ([Token("separator", ",", False)] if tokens else []) + _number(part, spaced, False)
        return tokens
    plain = value.replace(",", "")
    if "e" in plain.lower():
        mantissa, _, exponent = plain.lower().partition("e")
        scaled = Fraction(mantissa) * Fraction(10) ** int(exponent)
        return [Token("number", value, spaced, Number(scaled, None, len(mantissa.replace(".", "").lstrip("0"))))]
    whole, _, decimals = plain.partition(".")
    places = len(decimals) if decimals else None
    significant = len((whole + decimals).lstrip("0"))
    number = Number(Fraction(plain if whole else "0" + plain), places, significant, plain)
    return [Token("number", value, spaced, number)]


def _repeating(value: str) -> Number:
    """Reads repeating decimals as fractions. `0.1\\overline{6}`, `0.\\dot{1}4\\dot{2}`, `0.(3)`, `0.333...`."""
    whole, _, tail = value.partition(".")
    if value.rstrip(" .").endswith("dots") or value.endswith("..."):
        digits = re.sub(r"\D", "", tail)
        return _ellipsis(whole, digits)
    fixed = re.match(r"\d*", tail)
    head = fixed.group() if fixed else ""
    cycle = re.sub(r"\D", "", tail[len(head) :])
    value_of_cycle = Fraction(int(cycle), 10 ** len(head) * (10 ** len(cycle) - 1))
    return Number(Fraction((whole or "0") + "." + (head or "0")) + value_of_cycle)


def _ellipsis(whole: str, digits: str) -> Number:
    """Finds the repeating part of `0.1666...`. It is the shortest tail written twice (a single digit, three times)."""
    for period in range(1, len(digits) // 2 + 1):
        cycle = digits[-period:]
        if digits.endswith(cycle * (3 if period == 1 else 2)):
            head = digits
            while head.endswith(cycle):
                head = head[:-period]
            tail = Fraction(int(cycle), 10 ** len(head) * (10**period - 1))
            return Number(Fraction((whole or "0") + "." + (head or "0")) + tail)
    return Number(Fraction(whole + "." + digits), len(digits), len((whole + digits).lstrip("0")))


def _command(name: str, spaced: bool, before: list[Token]) -> list[Token]:
    if name in FUNCTIONS or name == "dbinom":
        return [Token("function", name, spaced)]
    if name in GREEK:
        return [Token("symbol", name, spaced)]
    if name in ("pi", "infty"):
        return [Token("constant", "pi" if name == "pi" else "oo", spaced)]
    if name in _OPERATORS:
        return [Token(_OPERATORS[name], name, spaced)]
    if name in _RELATIONS:
        return [Token("relation", _RELATIONS[name], spaced)]
    if name in _SETS:
        return [Token("set_operator", _SETS[name], spaced)]
    if name in _BRACKETS:
        kind, value = _BRACKETS[name]
        return [Token(kind, value, spaced)]
    if name in ("emptyset", "varnothing"):
        return [Token("named_set", "empty", spaced)]
    if name in ("R", "Z", "N", "Q", "C", "reals"):
        return [Token("named_set", _NAMED_SETS[name[0].upper()], spaced)]
    if name in _SIGNS:
        return [Token(*_SIGNS[name], spaced)]
    if name == "degree":
        return [Token("degree", name, spaced)]
    if name in _CURRENCY:
        return [Token("currency", _CURRENCY[name], spaced)]
    if name == "cent":
        return [Token("word", "cents", spaced)]
    if name in _IGNORED or (name == "triangle" and not (before and before[-1].kind in _ENDS_VALUE)):
        return []  # before a value it is a label; between two sets it is their difference
    if name == "e":
        return [Token("constant", "e", spaced)]
    if name in _UNREAD or len(name) > 12:
        raise Unreadable(name)
    for size in (1, 2):  # `\tanx`, `\pir`: a space is missing
        if name[:-size] in FUNCTIONS or name[:-size] in _RUN_TOGETHER:
            return _command(name[:-size], spaced, before) + _letters(name[-size:], False)
    return [Token("symbol", "\\" + name, spaced)]


def _text(body: str, spaced: bool, before: list[Token]) -> list[Token]:
    """Tokenizes the inside of `\\text{...}`.

    Words stay words, single letters and numbers keep their meaning. The letters of a unit after a value (`5\\text{
    m/s}`) are words too.
    """
    measure = bool(before) and before[-1].kind in _ENDS_VALUE and dimension(body) is not None
    tokens: list[Token] = []
    for match in re.finditer(r"(\s+)|([A-Za-z](?:\.[A-Za-z])+\.?|[A-Za-z'’-]{2,})|([^\sA-Za-z]+|[A-Za-z])", body):
        if match.group(1):
            spaced = True
            continue
        word = match.group(2)
        if word is not None and word.lower() in _SEPARATING_WORDS:
            tokens.append(Token("separator", word.lower(), True))
        elif word == "to" and body.strip() == "to" and before and before[-1].kind == "number":
            tokens.append(Token(":", word, True))  # 2 to 3
        elif measure and match.group(3) is not None and match.group(3).isalpha():
            tokens.append(Token("word", match.group(3), True))
        elif word is not None:
            constant = _WORD_CONSTANTS.get(word.lower())
            tokens.append(Token("constant", constant, spaced) if constant else Token("word", word, True))
        else:
            tokens.extend(t._replace(spaced=t.spaced or spaced) for t in tokenise(match.group(3)))
        spaced = False
    return tokens


def _word(word: str, spaced: bool, before: list[Token]) -> list[Token]:
    """Tokenizes letters outside `\\text`. A function, constant, separator, word or product of variables."""
    if len(word) == 1 and word not in "eEU":
        return [_letter(word, spaced)]
    lower = word.lower()
    if word == "min" and before and before[-1].kind == "number":
        return [Token("word", word, spaced)]  # 120 min
    if word in _PLAIN_FUNCTIONS:
        return [Token("function", word, spaced)]
    if word in _CONNECTIVES:
        return [Token(_CONNECTIVES[word], word, spaced)]
    if lower in _SEPARATING_WORDS:
        return [Token("separator", lower, spaced)]
    if word == "mod":
        return [Token("modulus", word, spaced)]
    if word == "to" and spaced and before and before[-1].kind == "number":
        return [Token(":", word, spaced)]  # 2 to 3
    if re.match(r"(and|or)[A-Z]$", word) and before and before[-1].kind in ("number", "close") and not spaced:
        return [Token("separator", word[:-1], spaced), _letter(word[-1], False)]
    if word == "U" and before and before[-1].kind == "close":
        return [Token("set_operator", "union", spaced)]
    if word == "in" and before and before[-1].kind == "symbol" and spaced:
        return [Token("relation", "in", spaced)]
    if word in _WORD_CONSTANTS:
        return [Token("constant", _WORD_CONSTANTS[word], spaced)]
    if word in ("e", "E") and before and before[-1].kind == "number" and not spaced and word == "E":
        return [Token("exponent", word, spaced)]
    if len(word) == 1:
        return [_letter(word, spaced)]
    if _is_word(word, spaced, before):
        return [Token("word", word, spaced)]
    if word in GREEK:
        return [Token("symbol", word, spaced)]
    return _letters(word, spaced)


def _is_word(word: str, spaced: bool, before: list[Token]) -> bool:
    after_value = bool(before) and before[-1].kind in ("number", "close", "}", "symbol", "constant", "word", "%", "/")
    cased = word.islower() or not before or before[-1].kind == "word"  # `y = Be^x` is a product
    if cased and word.lower() in (_SMALL_WORDS if len(word) == 2 else _ARTICLES) and (spaced or not before):
        return True
    if len(word) == 2:
        return after_value and before[-1].kind != "symbol" and is_unit(word)
    if is_unit(word) and after_value:
        return True
    return (
        (len(word) >= 4 and word not in GREEK)
        or (spaced and after_value)
        or (bool(before) and before[-1].kind == "word")
    )


def _letter(letter: str, spaced: bool) -> Token:
    if letter in ("e", "i"):
        return Token("constant", letter, spaced)
    return Token("symbol", letter, spaced)


def _letters(word: str, spaced: bool) -> list[Token]:
    """Splits a run of letters: `sinx` is sin x, `pir` is pi r, `xy` is x y."""
    for prefix in ("arcsin", "arccos", "arctan", "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln"):
        if word.startswith(prefix) and len(word) <= len(prefix) + 2:
            return [Token("function", prefix, spaced), *_letters(word[len(prefix) :], False)]
    if word.startswith("pi") and len(word) == 3:
        return [Token("constant", "pi", spaced), _letter(word[2], False)]
    return [_letter(letter, spaced and index == 0) for index, letter in enumerate(word)]
