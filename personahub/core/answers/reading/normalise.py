"""Normalizes spelling: Unicode to LaTeX, without layout commands and delimiters.

`normalise` keeps the mathematics parseable; `key` goes further and yields a string whose equality
means "the same answer, letter for letter".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from personahub.core.answers.reading.units import is_unit

_SUPERSCRIPT = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣʸ", "0123456789+-=()nixy", strict=True))
_SUBSCRIPT = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₖₗₘₙₚₛₜᵢⱼ", "0123456789+-=()aeoxklmnpstij", strict=True))
_VULGAR = {
    "½": (1, 2), "⅓": (1, 3), "⅔": (2, 3), "¼": (1, 4), "¾": (3, 4), "⅕": (1, 5), "⅖": (2, 5), "⅗": (3, 5),
    "⅘": (4, 5), "⅙": (1, 6), "⅚": (5, 6), "⅐": (1, 7), "⅛": (1, 8), "⅜": (3, 8), "⅝": (5, 8), "⅞": (7, 8),
    "⅑": (1, 9), "⅒": (1, 10),
}  # fmt: skip
_UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∙": r"\cdot ", "•": r"\cdot ", "∗": "*", "÷": r"\div ", "⁄": "/", "∕": "/", "±": r"\pm ", "∓": r"\mp ",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≅": r"\approx ",
    "≃": r"\approx ", "≡": r"\equiv ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ",
    "∈": r"\in ", "∉": r"\notin ", "∅": r"\emptyset ", "ø": r"\emptyset ", "⌀": r"\emptyset ", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "°": r"\degree ",
    "º": r"\degree ", "˚": r"\degree ", "′": "'", "″": "''", "’": "'", "‘": "'", "“": '"', "”": '"', "π": r"\pi ",
    "∠": r"\angle ", "△": r"\triangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
    "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ", "→": r"\to ", "⇒": r"\Rightarrow ",
    "⟶": r"\to ", "⟹": r"\Rightarrow ", "⇔": r"\iff ", "⟺": r"\iff ", "↔": r"\iff ", "←": r"\gets ", "⇐": r"\Leftarrow ",
    "↦": r"\mapsto ", "¬": r"\neg ", "∀": r"\forall ", "∃": r"\exists ", "∄": r"\nexists ", "⊕": r"\oplus ",
    "⊗": r"\otimes ", "⊂": r"\subset ", "⊆": r"\subseteq ", "⊃": r"\supset ", "⊇": r"\supseteq ", "⊊": r"\subsetneq ",
    "⊄": r"\nsubseteq ", "∋": r"\ni ", "∤": r"\nmid ", "∥": r"\parallel ", "∦": r"\nparallel ", "⊥": r"\perp ",
    "∝": r"\propto ", "∼": r"\sim ", "≪": r"\ll ", "≫": r"\gg ", "∘": r"\circ ", "∆": r"\triangle ",
    "∣": "|", "│": "|", "∶": ":", "∧": r"\land ", "∨": r"\lor ", "…": r"\dots ", "⋯": r"\dots ",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon ", "θ": r"\theta ",
    "λ": r"\lambda ", "μ": r"\mu ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\varphi ",
    "ϕ": r"\phi ", "ω": r"\omega ", "Δ": r"\Delta ", "Ω": r"\Omega ", "ξ": r"\xi ", "η": r"\eta ", "κ": r"\kappa ",
    "ψ": r"\psi ", "χ": r"\chi ", "ζ": r"\zeta ", "ν": r"\nu ", "Σ": r"\sum ", "∑": r"\sum ", "∏": r"\prod ",
    "∫": r"\int ", "€": r"\euro ", "£": r"\pounds ", "¥": r"\yen ", "￥": r"\yen ", "₹": r"\rupee ", "¢": r"\cent ",
    "、": ", ", "。": ". ", "，": ", ", "；": "; ", "：": ": ", "∴": "", "∵": "", "✓": "", "✅": "", "\u200b": "", "\ufeff": "", "\u2061": "",
    "\u2062": "", "\xad": "", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2005": " ", "\u3000": " ",
}  # fmt: skip
_TRANSLATE = str.maketrans(_UNICODE)
_OVERLINED_DIGITS = re.compile(r"((?:\d[\u0304\u0305])+)")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|[A-Za-z]|\([^()]*\)|\{[^{}]*\}|\\[a-z]+ ?)?")

_TEXT = r"text|textbf|textit|textrm|textnormal|textsf|texttt|textup|mbox|hbox|emph|underline|textsc|mathtext"
_FONT = r"mathrm|mathbf|mathit|mathsf|mathtt|boldsymbol|bm|mathcal|mathscr|mathfrak|bold|rm|pmb|mathnormal|mathop"
_FONT_WORDS = re.compile(  # words, or units: kg, m/s^2, m s^{-2}
    r"[A-Za-z]{2,}[A-Za-z .]*|[A-Za-z]+(?: [A-Za-z]+)+|[A-Za-z]+(?:\s*\^\{?-?\d\}?)?(?:\s*/\s*[A-Za-z]+(?:\s*\^\{?-?\d\}?)?|\s+[A-Za-z]+\s*\^\{?-?\d\}?)"
)
_ROMAN_GROUP = re.compile(r"\{\s*\\rm\s+([^{}]*)\}|\\rm\s+([A-Za-z]{2,})(?![A-Za-z])")
_POWER_OF_UNIT = re.compile(r"([A-Za-z]+)\s*\^\s*\{?\s*(-?\d)\s*\}?")
_MICRO = re.compile(
    r"(?<=[\d ])\\mu\s*(?:\\text\s*\{\s*([A-Za-z])\s*\}|\{?\s*([A-Za-z])\s*\}?(?=\s*$))|\\text\s*\{\s*\\mu\s*([A-Za-z])\s*\}"
)
_KILOOHM = re.compile(r"\\text\s*\{\s*k\s*\}\s*\\Omega")
_REAL_DOMAIN = re.compile(
    r"(?<=[^\s,;(])[,;]?\s*\(?\s*(?:\\text\s*\{\s*)?(?:(?:for|where)\s+(?:all|any|every)?\s*\}?\s*)?[a-z]\s*(?:\\in\s*\\mathbb\s*\{?\s*R\s*\}?\s*)\)?$"
    r"|[,;]?\s*(?:\\text\s*\{\s*)?for (?:all|any|every)(?: real)?\s*\}?\s*[a-z]$"
)
_UPRIGHT_UNIT = re.compile(r"(?<=\d)((?:\s|\\[,;: ]|~)*)\\mathrm\s*\{\s*([gmshlLJWNV])\s*(?:\^\s*\{?(-?\d)\}?\s*)?\}")
_TIMES = re.compile(r"(?<=\d) [xX] (?=\\?\$?\d)")  # 8 x $3
_IN_BASE = re.compile(r"^([\dA-F]+)\s*\(?\s*(?:in )?base[ -](\w+)\s*\)?$")
_LAYOUT = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|scriptscriptstyle|limits|nolimits|bf|it|rm|sf|tt|large|Large|huge|Huge"
    r"|small|tiny|normalsize|boldmath|centering|noindent|nonumber|notag|hfill|par|strut|null|allowbreak|nobreak"
    r"|left\s*\.|right\s*\.|[bB]igg?[lrm]?|middle)(?![a-zA-Z])"
)
_SIUNITX = (r"\num", r"\ang{", r"\SI", r"\qty", r"\si{", r"\unit")
_SIZED = re.compile(r"\\(left|right)(?![a-zA-Z])\s*")
_DROPPED_GROUPS = re.compile(
    r"\\(?:hspace|vspace|phantom|hphantom|vphantom|tag|label|color|textcolor|cssId|class|hskip|kern)\*?\s*\{[^{}]*\}"
)
_SPACES = re.compile(
    r"\\(?:[,;:!> ]|qquad|quad|thinspace|enspace|thickspace|medspace|negthinspace|space(?![a-zA-Z]))|~"
)
_GROUPED = re.compile(
    r"(?<![\d.])(\d{1,3})((?:\s?(?:\\[,!;: ]|\{\s*,\s*\}|\{\\,\}|,\s*\\!|\\!,|~|\{ \})+\s*\d{3})+)(?!\d)"
)
_ESCAPED = re.compile(r"(?<!\\)\\\\(?=(?:d?t?frac|sqrt|pi|text|left|right|begin|end|boxed|cdot|times|infty|cup|leq?|geq?|pm|circ|theta|alpha|beta|log|ln|sin|cos|tan|mathrm|mathbf|overline|binom|angle|quad|dots|in)(?![a-zA-Z]))")  # fmt: skip
_DOMAIN = re.compile(
    r"(?<=\S)[,;]?\s*\(?(?:\\text\{)?\s*(?:where|with|for|for (?:all|any|every|some)|any|and)\}?\s+(?:\\text\{\s*)?(?:all|any|every|some|an?|each)?\s*"
    r"(?:[a-zA-Z]\s+)?(?:is|are|be|\\in|∈)?\s*(?:an?|any|all)?\s*(?:\\text\{\s*)?(?:arbitrary |positive |nonnegative )?"
    r"(?:integers?|real(?: number)?s?|\\mathbb\s*\{?[ZRN]\}?|constants?)\s*\}?\s*\$?\s*[a-zA-Z]?\s*\$?\)?$"
)
_ORDINAL = re.compile(
    r"(?<=\d) ?\^? ?\{? ?(?:\\text\{ ?)?(?:st|nd|rd|th) ?\}{0,2}(?![a-zA-Z]| ?\w* ?(?:root|prime|term|power|digit|place|position|number))"
)
_BRACED_ARRAY = re.compile(
    r"\\left\s*\\(?:\{|lbrace)\s*\\begin\s*\{array\}\s*(?:\{[^{}]*\})?((?:[^\\]|\\(?!end))*)\\end\s*\{array\}\s*\\right\s*\."
)
_NEGATED = re.compile(r"\\not\s*(?:\\(in|subseteq|subset|mid|parallel)(?![a-zA-Z])|(=))")
_NEGATIONS = {"in": r"\notin ", "mid": r"\nmid ", "parallel": r"\nparallel ", "=": r"\ne "}
_VECTOR = r"\\(?:vec|overrightarrow|hat|mathbf|boldsymbol|bm)\s*\{?\s*[a-zA-Z](?![a-zA-Z])"
_CROSSED = re.compile(
    rf"(\\nabla\s*|{_VECTOR}\s*\}}?\s*)\\times(?=\s*(?:{_VECTOR}|[A-Z](?![a-zA-Z])))"
)  # a vector product, which does not commute
_PRIMES = re.compile(r"\^\s*(?:\{(?:\s*\\prime)+\s*\}|\\prime(?![a-zA-Z])\s*)")
_APOSTROPHES = re.compile(r"(?<![\d'])\d{1,3}(?:'\d{3})+(?![\d'])")  # 1'234'567, as the Swiss write it
_REMARK = re.compile(
    r"(?<=\S)\s*(?:\\text\{)?\s*\(\s*(?:\\text\{)?\s*(?:approximately|approx\b\.?|about|roughly|or about|or approximately|i\.e\.,?"
    r"|\\approx)[^()]*\)\s*\}?$"
)
_FRACTION_CALL = re.compile(r"^(?:Fraction|Rational)\((-?\d+), ?(\d+)\)$")  # as Python prints it
_ALL_REALS = re.compile(
    r"^(?:\\text\{)?\s*(?:all|any|every) reals?(?: numbers?| values?(?: of)?)?,?(?: (?:such that|with|where|for which))?\s*\}?\s*"
    r"(?=\$?[a-zA-Z] ?(?:\\[lg]e|[<>]))",
    re.IGNORECASE,
)
_CHOSEN = re.compile(
    r"(?:\{\}\s*)?[_^]\s*\{?(\d+)\}?\s*C\s*_\s*(?:(\d)|\{(\d+)\})|(?<![A-Za-z\\])C_\s*(?:(\d)|\{(\d+)\})\s*\^\s*(?:(\d)|\{(\d+)\})"
)
_MINUS = re.compile(r"^(?:\\text\{)?(?:minus|negative) \}?(?=[\d\\])")
_EXCEPT = re.compile(
    r"^(?:\\text\{)? ?(?:all|any|every) reals?(?: numbers?| values?)?(?: of [a-z])? except(?: for)? ?\}? ?(?:[a-z] ?= ?)?"
    r"([^a-z]+)$",
    re.IGNORECASE,
)
_UNIT_FRACTION = re.compile(r"\\frac\s?\{\s?\\text\{\s?(\w+)\s?\}\s?\}\s?\{\s?\\text\{\s?(\w+)\s?\}\s?\}")
_INEQUALITY = re.compile(r"[<>]|\\[lg]e(?![a-zA-Z])")
_UNION_OF_RELATIONS = re.compile(r"(?<![)\]}\s])\s*\\cup(?![a-zA-Z])\s*(?![(\[{\\])")  # x < 1 \cup x > 3
_FRENCH_END = re.compile(r"\[([^\[\]]*[,;][^\[\]]*)\[(?=\s*(?:$|\\cup|\\cap))")  # [a, b[
_SPACED_THOUSANDS = re.compile(r"^-?[1-9]\d{0,2}(?: \d{3})+(?:\.\d+)?$")
_WRAPPERS = [(r"\(", r"\)"), (r"\[", r"\]"), ("$$", "$$"), ("$", "$"), ("**", "**"), ("`", "`")]


def normalise(text: str) -> str:
    """Rewrites `text` in one spelling of LaTeX, without layout, delimiters or Unicode."""
    text = _from_unicode(text)
    text = _ESCAPED.sub(r"\\", text) if "\\\\" in text else text
    text = _strip_delimiters(text.strip())
    if "\\" in text or "{" in text or "~" in text:
        text = _plain_latex(text)
    if text.count("[") > 1:
        text = _FRENCH_END.sub(r"[\1)", text)
    if "begin" not in text:
        text = text.replace("&", " and ")
    text = re.sub(r"(?<=\d)\s?\.{3,}", r"\\dots ", text)
    if "'" in text:
        text = _APOSTROPHES.sub(lambda match: match.group().replace("'", ""), text)
    text = re.sub(r"\s+", " ", text).strip()
    text = _trim(_DOMAIN.sub("", _REMARK.sub("", text) if text.endswith((")", "}")) else text))
    text = _ORDINAL.sub("", _MINUS.sub("-", text))
    text = _TIMES.sub(r" \\times ", text)
    if "=" in text or r"\in" not in text.partition(",")[0]:
        text = _REAL_DOMAIN.sub("", text)
    text = _ALL_REALS.sub("", text)
    if "base" in text:
        text = _IN_BASE.sub(r"\1_{\2}", re.sub(r"\\text\s*\{([^{}]*base[^{}]*)\}", r"\1", text))
    if text.endswith(")") and text[:1] in "FR":
        text = _FRACTION_CALL.sub(r"\\frac{\1}{\2}", text)
    if "C" in text and "_" in text:
        text = _CHOSEN.sub(_binomial, text)
    text = _EXCEPT.sub(lambda match: r"\mathbb{R} \setminus \{" + match.group(1) + r"\}", text)
    return text.replace(" ", "") if _SPACED_THOUSANDS.match(text) else text


def _from_unicode(text: str) -> str:
    if text.isascii():
        return text
    text = _OVERLINED_DIGITS.sub(lambda m: r"\overline{" + re.sub(r"\D", "", m.group(1)) + "}", text)
    text = _runs(text, _SUPERSCRIPT, "^")
    text = _runs(text, _SUBSCRIPT, "_")
    text = "".join(rf"\frac{{{_VULGAR[c][0]}}}{{{_VULGAR[c][1]}}}" if c in _VULGAR else c for c in text)
    text = unicodedata.normalize("NFKC", text.translate(_TRANSLATE)).translate(_TRANSLATE)
    return _ROOT.sub(_root, text)


def _binomial(match: re.Match[str]) -> str:
    """Rewrites `{}_8C_3` and `C_8^3` as a binomial. `C_1^2` is the square of a constant."""
    top, bottom = [group for group in match.groups() if group is not None]
    return rf"\binom{{{top}}}{{{bottom}}}" if int(top[:9]) >= int(bottom[:9]) else match.group()


def _runs(text: str, table: dict[str, str], mark: str) -> str:
    """Replaces each run of superscripts by `^{...}`, and of subscripts by `_{...}`."""
    if not any(character in table for character in text):
        return text
    pattern = re.compile("[" + "".join(map(re.escape, table)) + "]+")
    return pattern.sub(lambda m: mark + "{" + "".join(table[c] for c in m.group()) + "}", text)


def _root(match: re.Match[str]) -> str:
    argument = match.group(2) or ""
    if argument.startswith(("(", "{")):
        argument = argument[1:-1]
    return _ROOTS[match.group(1)] + ("{" + argument + "}" if argument else " ")


def _strip_delimiters(text: str) -> str:
    """Removes `$...$`, `\\(...\\)` and `**...**`; an unpaired `$` is a currency sign."""
    for left, right in _WRAPPERS:
        if text.startswith(left) and text.endswith(right) and len(text) > len(left) + len(right):
            inner = text[len(left) : -len(right)]
            if left not in inner and right not in inner and not inner.endswith("\\"):
                text = inner.strip()
    text = re.sub(r"\\\((.*?)\\\)", r" \1 ", text, flags=re.DOTALL)
    text = re.sub(r"(?<!\\)\\\[(?![0-9.]+ *(?:pt|em|ex)\])|(?<!\\)\\\]", " ", text)
    text = text.replace("**", " ") if text.count("**") >= 2 and not re.search(r"[\w)]\*\*[\w(-]", text) else text
    bare = re.findall(r"(?<!\\)\$", text)
    if len(bare) == 1:
        return re.sub(r"(?<!\\)\$", r"\\$", text)
    return re.sub(r"(?<!\\)\$+", " ", text)


def _plain_latex(text: str) -> str:
    text = text.replace("{:}", ":")
    text = re.sub(r"(?<=\d)\{,\}(?=\d{1,2}(?!\d))", ".", text)  # a decimal comma, written without a space
    text = _GROUPED.sub(lambda m: m.group(1) + re.sub(r"\D", "", m.group(2)), text)
    text = re.sub(r"\\\\(?:\[[^\]]*\])?", r"\\cr ", text)  # so that no later rule mistakes its second half for a space
    text = _DROPPED_GROUPS.sub(" ", text)
    if "array" in text and r"\left" in text:
        text = _BRACED_ARRAY.sub(r"\\begin{cases}\1\\end{cases}", text)
    text = re.sub(r"\\left\s*\|", r"\\lvert ", text)
    text = re.sub(r"\\right\s*\|", r"\\rvert ", text)
    if r"\rm" in text:
        text = _ROMAN_GROUP.sub(lambda match: rf"\mathrm{{{match.group(1) or match.group(2)}}}", text)
    if r"\mathrm" in text:
        text = _UPRIGHT_UNIT.sub(lambda m: rf"\text{{ {m.group(2)}}}" + (f"^{m.group(3)}" if m.group(3) else ""), text)
    text = _LAYOUT.sub(" ", text)
    text = _SIZED.sub("", text)
    text = _rename(text)
    if r"\cup" in text and _INEQUALITY.search(text):
        text = _UNION_OF_RELATIONS.sub(" or ", text)
    text = re.sub(rf"\\(?:{_TEXT})(?![a-zA-Z])\s*", r"\\text", text)
    text = _unwrap(text, rf"(?:{_FONT})", _font)
    text = _UNIT_FRACTION.sub(r"\\text{\1/\2}", text)
    text = _unwrap(text, "operatorname", _operator)
    text = _unwrap(text, "(?:boxed|fbox|framebox|mathstrut)", lambda body: body)
    text = re.sub(r"\\text\s*([A-Za-z])(?![A-Za-z])", r"\\text{\1}", text)
    text = _SPACES.sub(" ", text)
    if r"\mu" in text or r"\Omega" in text:
        text = _MICRO.sub(lambda match: r"\text{ micro" + next(filter(None, match.groups())) + "}", text)
        text = _KILOOHM.sub(r"\\text{ kohm}", text)
    return text


def _rename(text: str) -> str:
    text = re.sub(r"\\(?:[dtcsx]|nice)frac(?![a-zA-Z])", r"\\frac", text)
    if any(command in text for command in _SIUNITX):
        text = re.sub(r"\\num\s*\{([^{}]*)\}", r"\1", text)
        text = re.sub(r"\\ang\s*\{([^{};]*)\}", r"\1\\degree ", text)
        text = re.sub(r"\\(?:SI|qty)\s*\{([^{}]*)\}\s*\{\\?([^{}\\]*)\}", r"\1\\text{ \2}", text)
        text = re.sub(r"\\(?:si|unit)\s*\{\\?([^{}\\]*)\}", r"\\text{ \1}", text)
    text = re.sub(r"\\[dt]binom(?![a-zA-Z])", r"\\binom", text)
    text = re.sub(r"\\(?:l?dots|cdots|dotsc|dotsb|ldots)(?![a-zA-Z])", r"\\dots ", text)
    text = re.sub(r"\\([lg])eq(?:slant|q)?(?![a-zA-Z])", r"\\\1e ", text)
    text = re.sub(r"\\neq(?![a-zA-Z])", r"\\ne ", text)
    if r"\not" in text:
        text = _NEGATED.sub(lambda match: _NEGATIONS.get(match.group(match.lastindex or 0), r"\nsubseteq "), text)
    if r"\times" in text:
        text = _CROSSED.sub(r"\1\\crossed ", text)
    text = re.sub(r"\\(?:oslash|varnothing)(?![a-zA-Z])", r"\\emptyset ", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![a-zA-Z])|\^\s*\{?\s*\\degree\s*\}?", r"\\degree ", text)
    text = _PRIMES.sub(lambda match: "'" * match.group().count("prime"), text)
    text = re.sub(r"\\operatorname\s*\*?(?=\{)|\\operatorname\*", r"\\operatorname", text)
    text = text.replace(r"\%", "%").replace(r"\#", "#").replace(r"\&", " and ")
    return text.replace(r"\lbrace", r"\{").replace(r"\rbrace", r"\}").replace(r"\_", "_")


def _operator(body: str) -> str:
    """Reads `\\operatorname{lcm}` as a function and `\\operatorname{cm}` as a unit."""
    name = body.strip()
    return rf"\text{{{name}}}" if is_unit(name) and name != "min" else f"\\{name} "


def _font(body: str) -> str:
    """Reads `\\mathrm{cm}` as words, but `\\mathrm{e}` and `\\mathbf{v}` as the letter."""
    inner = re.sub(r"~|\\[,;: ]|\\cdot(?![a-zA-Z])", " ", body).strip()
    if (power := _POWER_OF_UNIT.fullmatch(inner)) and is_unit(power.group(1)):
        return rf"\text{{{power.group(1)}}}^{power.group(2)}"
    if _FONT_WORDS.fullmatch(inner):
        return r"\text{" + inner + "}"
    return " " + inner + " " if len(inner) <= 1 else "{" + inner + "}"


def _unwrap(text: str, command: str, change: Callable[[str], str]) -> str:
    """Replaces every `\\command{body}` by `change(body)`, innermost last. Unbalanced ones stay unchanged."""
    opening = re.compile(rf"\\{command}(?![a-zA-Z])\s*\{{")
    position = 0
    while (match := opening.search(text, position)) is not None:
        end = closing_brace(text, match.end() - 1)
        if end is None:
            return text
        text = text[: match.start()] + change(text[match.end() : end]) + text[end + 1 :]
        position = match.start()
    return text


def closing_brace(text: str, opening: int) -> int | None:
    """Returns the index of the `}` that closes the `{` at `opening`, or None. `\\{` and `\\}` do not count."""
    depth = 0
    position = opening
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 2
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return position
        position += 1
    return None


def _trim(text: str) -> str:
    """Removes punctuation of the sentence around the answer."""
    previous = None
    while text != previous:
        previous = text
        text = text.strip().strip("\"'`" if text.count("'") != 1 else '"`')
        if text.endswith((".", ",", ";", ":", "\\")):
            text = text[:-1]
        text = text.removesuffix(r"\cr")
        if text.startswith((":", ";", ",", "= ", "#")):
            text = text[1:]
    return text


_TEXT_GROUP = re.compile(r"\\text\{([^{}\\]*)\}")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)\s+(?=[\d.])")
_LIST_COMMA = re.compile(r",\s+(?=\d{3}(?!\d))")  # 1, 234 is two numbers
_COMMAND_SPACE = re.compile(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])")


def key(normal: str) -> str:
    """Returns a normalised answer without spaces and text commands.

    Equal keys are equal answers. Keeps case. Braces stay, because \\frac{12}{5} is not \\frac{1}{25}; so does a space
    between digits (3 1/2).
    """
    text = _LIST_COMMA.sub(",_", _TEXT_GROUP.sub(r"\1", normal))
    text = _COMMAND_SPACE.sub(r"\1{}", _BETWEEN_DIGITS.sub("_", text))
    return re.sub(r"\s+|\\\$", "", text).rstrip(".")
