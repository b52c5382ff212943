"""Renders the text of models and data sets as HTML, with LaTeX as MathML.

    prose("The sum is $\\frac{1}{2} + 1$.")     # a paragraph that contains a <math>
    tex("\\frac{3}{4}")                        # a short answer

Browsers render MathML without a script. LaTeX that cannot be converted, or that defines macros, is shown as source. The
output of the converter is not trusted: only presentational MathML elements and attributes are kept, and all text is
escaped.
"""

from __future__ import annotations

import html
import itertools
import re
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert_to_element
from markupsafe import Markup, escape

_FENCE = re.compile(r"```[ \t]*[\w+-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
# $5 and $7 are prices: a formula does not begin or end with a space, and no digit follows it
_MATH = re.compile(
    r"(\$\$(?:\\.|[^$\\])+\$\$|(?<!\\)\$(?!\s)(?:\\.|[^$\\\n])+(?<!\s)\$(?!\d)|\\\[.+?\\\]|\\\(.+?\\\)"
    r"|\\boxed\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})",
    re.DOTALL,
)
_DELIMITERS = (("$$", "$$", True), ("\\[", "\\]", True), ("\\(", "\\)", False), ("$", "$", False))
_LONGEST = 2000  # characters of a formula
_DEFINES = re.compile(r"\\(?:[egx]?def|let|(?:re)?newcommand|providecommand|Declare\w+)\b")
_LATEX = re.compile(r"[\\^_]")
# fmt: off
_ELEMENTS = frozenset((
    "mfrac", "mi", "mmultiscripts", "mn", "mo", "mover", "mpadded", "mphantom", "mprescripts", "mroot", "mrow",
    "ms", "mspace", "msqrt", "mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext", "mtr", "munder",
    "munderover", "none",
))
_ROWS = frozenset(("math", "mpadded", "mrow", "mstyle", "mtd"))  # elements with any number of children
_ATTRIBUTES = frozenset((
    "accent", "accentunder", "columnalign", "depth", "displaystyle", "fence", "form", "height", "largeop",
    "linethickness", "lspace", "mathvariant", "maxsize", "minsize", "movablelimits", "rspace", "scriptlevel",
    "separator", "stretchy", "symmetric", "voffset", "width",
))
# fmt: on


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """Returns an element. `class_` becomes `class`; text is escaped."""
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{shown}>{''.join(escape(child) for child in children)}</{name}>")  # noqa: S704


def prose(text: str) -> Markup:
    """Renders text with its line breaks, fenced code as code, and LaTeX as formulas."""
    parts, end = [], 0
    for match in _FENCE.finditer(text):
        parts.append(_paragraph(text[end : match.start()]))
        parts.append(tag("pre", tag("code", match.group(1).rstrip("\n"))))
        end = match.end()
    parts.append(_paragraph(text[end:]))
    return Markup("").join(parts)


def line(text: str) -> Markup:
    """Renders text as one line with its formulas."""
    pieces = _MATH.split(text)
    return Markup("").join(
        formula(piece, display=False) if i % 2 else tag("span", piece) for i, piece in enumerate(pieces) if piece
    )


def _paragraph(text: str) -> Markup:
    if not text.strip():
        return Markup("")
    pieces = _MATH.split(text.strip("\n"))
    return tag("p", *(formula(piece) if i % 2 else piece for i, piece in enumerate(pieces)), class_="prose")


def tex(text: str) -> Markup:
    """Renders a short answer: as a formula if it is LaTeX, else unchanged."""
    return tag("span", formula(text, display=False), class_="answer") if _LATEX.search(text) else _source(text)


@lru_cache(maxsize=4096)
def formula(source: str, display: bool | None = None) -> Markup:
    """Renders LaTeX as MathML with its source as alternative text.

    Falls back to inline code.

    Args:
        source: the formula, with or without delimiters.
        display: whether it gets its own line; None to let the delimiters decide.
    """
    latex, own_line = source.strip(), False
    for start, end, block in _DELIMITERS:
        if latex.startswith(start) and latex.endswith(end) and len(latex) >= len(start) + len(end):
            latex, own_line = latex[len(start) : -len(end)].strip(), block
            break
    drawn = _drawn(latex)
    if drawn is None:
        return _source(source)
    own_line = own_line if display is None else display
    return tag("math", drawn, display="block" if own_line else "inline", alttext=latex)


def _source(text: str) -> Markup:
    return tag("code", text, class_="tex")


def _drawn(latex: str) -> Markup | None:
    if not latex or len(latex) > _LONGEST or _DEFINES.search(latex):
        return None
    try:
        root = convert_to_element(latex)
        return Markup("").join(_children(root))
    except Exception:  # noqa: BLE001 - models write anything: what the parser cannot handle is shown as source
        return None


def _children(element: Element) -> list[Markup]:
    """Renders the children of an element. Puts a space between a function name and its argument."""
    drawn: list[Markup] = []
    for child, following in itertools.zip_longest(element, element[1:]):
        drawn.append(_element(child))
        name = child[0] if child.tag in ("msub", "msup", "msubsup") and len(child) else child
        named = name.tag == "mi" and len(name.text or "") > 1 and element.tag in _ROWS
        if named and following is not None and following.tag != "mo":
            drawn.append(tag("mspace", width="0.167em"))
    return drawn


def _element(element: Element) -> Markup:
    """Renders an element with the allowed attributes and children.

    Raises:
        ValueError: the converter left an unknown command as text.
    """
    text = html.unescape(element.text or "")
    if element.tag != "mtext" and text.startswith("\\") and len(text) > 1:
        raise ValueError(f"unknown command {text}")
    children = _children(element)
    if element.tag == "menclose":  # browsers no longer draw this element; the style sheet draws the box
        return tag("mrow", text, *children, class_="boxed")
    if element.tag not in _ELEMENTS:
        return tag("mrow", text, *children)
    kept = {name: value for name, value in element.attrib.items() if name in _ATTRIBUTES}
    return tag(element.tag, text, *children, **kept)
