"""Text of models in the report: formulas are rendered, or shown unchanged, and escaped."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.report.prose import formula, line, prose, tex


def test_formulae_are_set_with_their_source_as_alternative() -> None:
    html = str(prose("Half of $x^2$ is \\(\\frac{x^2}{2}\\), so \\[ \\int_0^1 x\\,dx = \\boxed{\\dfrac{1}{2}} \\]"))
    assert html.count("<math ") == 3
    assert 'display="block"' in html
    assert "<mfrac>" in html
    assert 'class="boxed"' in html
    assert 'alttext="\\frac{x^2}{2}"' in html
    assert "$" not in html
    assert "<mfrac>" in str(tex("\\frac{3}{4}"))
    assert 'display="block"' not in str(line("A sum $$1+1$$ in one line"))


def test_prices_are_no_formulae() -> None:
    text = "A loaf costs $5 and a roll costs $3, so $8 in all."
    assert str(prose(text)) == f'<p class="prose">{text}</p>'


def test_an_answer_boxed_without_dollars_is_set_with_braces_in_it() -> None:
    assert "<msqrt>" in str(prose("So \\boxed{\\frac{1}{\\sqrt{2}}}."))


@pytest.mark.parametrize(
    "latex",
    [
        "\\frac{",
        "\\left( 1",
        "\\unheard{x}",
        "\\def\\a{\\a\\a}\\a",
        "\\newcommand{\\x}{y}\\x",
        "{" * 500,
        "x" * 3000,
    ],
)
def test_what_cannot_be_set_is_shown_as_source(latex: str) -> None:
    assert str(formula(f"${latex}$")).startswith('<code class="tex">$')


def test_markup_and_links_do_not_get_in() -> None:
    html = str(prose('$\\href{javascript:alert(1)}{x} \\text{<img src=x onerror=alert(1)>} \\class{a" onclick="b}{y}$'))
    assert "<img" not in html
    assert "href=" not in re.sub(r'alttext="[^"]*"', "", html)
    assert not re.search(r'\son\w+="', html)


COMMANDS = st.sampled_from(
    [*"abxy0123456789+-=<>&^_{}()[]'\"|!, ", "\\frac", "\\sqrt", "\\left", "\\right", "\\text", "\\begin{matrix}", "\\\\", "\\end{matrix}", "\\color", "\\style", "\\over"]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(COMMANDS, max_size=25).map("".join))
def test_whatever_is_written_the_result_is_well_formed(latex: str) -> None:
    root = Xml.fromstring(str(formula(f"${latex}$")))
    for element in root.iter():
        assert element.tag == "code" or element.tag.startswith("m") or element.tag == "none"
        assert not {"href", "style", "id"} & set(element.attrib)


def test_names_of_functions_stand_apart_from_their_arguments() -> None:
    space = '<mspace width="0.167em"></mspace>'
    assert f"<mi>sin</mi>{space}<mi>t</mi>" in str(formula("$\\sin t$"))
    assert f"<msub><mi>log</mi><mn>2</mn></msub>{space}<mi>x</mi>" in str(formula("$\\log_2 x$"))
    assert space not in str(formula("$\\sin(t) + ab$"))
