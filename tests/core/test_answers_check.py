"""Verdicts of the in-process check: labels, rules, policy, and safety."""

from __future__ import annotations

import builtins
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personahub.core.answers import LABELS, Policy, check, equivalent


def test_the_labels_are_five_and_a_verdict_explains_itself():
    assert LABELS == ("correct", "wrong", "no_answer", "timeout", "error")
    verdict = check(r"\frac{1}{2}", r"Thus it is \boxed{0.5}.")
    assert (verdict.label, verdict.extracted, verdict.extraction, verdict.rule) == ("correct", "0.5", "boxed", "exact")
    assert verdict.ms > 0
    assert set(verdict.as_dict()) == {"label", "extracted", "extraction", "rule", "ms"}


@pytest.mark.parametrize(
    ("gold", "pred", "label"),
    [
        ("5", "5", "correct"),
        ("5", "6", "wrong"),
        ("5", "", "no_answer"),
        ("5", "I cannot say what it would be, because something is missing here.", "no_answer"),
        ("", "5", "error"),
        ("  ", "5", "error"),
        ("5", "5" * 2_000, "wrong"),
        (
            "The midpoints of all the sides lie on one circle",
            "the midpoints of all the sides lie on one circle",
            "correct",
        ),
    ],
)
def test_labels(gold, pred, label):
    assert check(gold, pred).label == label


@pytest.mark.parametrize(
    "gold",
    ["42", "$42$", r"\boxed{42}", "6 * 7 = 42\n#### 42", r"Since $6 \cdot 7 = 42$, the answer is $\boxed{42}$."],
)
def test_a_reference_may_be_an_answer_or_a_solution(gold):
    assert check(gold, r"Multiply: \boxed{42}").correct
    assert not check(gold, r"Multiply: \boxed{24}").correct


@pytest.mark.parametrize(
    ("gold", "pred", "rule"),
    [
        ("5", "5", "same text"),
        ("2", "2.0", "exact"),
        (r"\sqrt{8}", r"2\sqrt{2}", "numeric"),
        ("x(x+1)", "x^2+x", "identity"),
        (r"\frac13", "0.3333", "rounded"),
        ("1, 2", "2, 1", "members"),
        ("x > 2", r"(2,\infty)", "set of reals"),
        ("28%", "0.28", "percent as fraction"),
        ("204_5", "204", "base omitted"),
        ("3:4", "3/4", "ratio"),
        ("C", "(C) 12", "choice"),
        ("7 a.m.", "7:00 AM", "time of day"),
        (r"\lim_{x \to 0} x", r"\lim_{x\to 0}x", "same text"),
        (r"\int_0^1 x\,dx", r"\int_{0}^{1} x dx", "symbolic"),
    ],
)
def test_the_verdict_names_the_rule(gold, pred, rule):
    verdict = check(gold, pred)
    assert verdict.correct
    assert verdict.rule == rule


def test_degrees_are_not_radians_unless_asked():
    assert not check(r"45^\circ", r"\frac{\pi}{4}").correct
    assert check(r"45^\circ", r"\frac{\pi}{4}", policy=Policy(degrees_as_radians=True)).correct


def test_the_strict_preset_keeps_what_is_certain():
    for gold, pred in [("0.5", r"\frac{1}{2}"), (r"x^2-1", "(x-1)(x+1)"), ("x = 5", "5"), ("1, 2", "2, 1")]:
        assert check(gold, pred, policy=Policy.strict()).correct, (gold, pred)


# No deadlines for hypothesis below: the first text that our parser cannot read imports math-verify.
FORMS = (
    "{n}/{d}",
    r"\frac{{{n}}}{{{d}}}",
    r"\dfrac{{{n}}}{{{d}}}",
    r"$\frac{{{n}}}{{{d}}}$",
    r"\frac{{{n2}}}{{{d2}}}",
    "{n} / {d}",
    r"x = \frac{{{n}}}{{{d}}}",
    r"\left( \frac{{{n}}}{{{d}}} \right)",
)


@settings(deadline=None)
@given(st.integers(-9_999, 9_999), st.integers(1, 9_999), st.sampled_from(FORMS), st.sampled_from(FORMS))
def test_a_rational_equals_itself_in_every_form(n, d, first, second):
    values = {"n": n, "d": d, "n2": 3 * n, "d2": 3 * d}
    assert check(first.format(**values), second.format(**values)).correct


@settings(deadline=None)
@given(st.fractions(max_denominator=999), st.fractions(max_denominator=999), st.sampled_from(FORMS))
def test_different_rationals_differ_in_every_form(a, b, form):
    if a != b and abs(a - b) * 10_000 > max(abs(a), abs(b)):
        parts = [{"n": x.numerator, "d": x.denominator, "n2": 7 * x.numerator, "d2": 7 * x.denominator} for x in (a, b)]
        assert not check(form.format(**parts[0]), form.format(**parts[1])).correct


@settings(deadline=None)
@given(st.integers(0, 10**12))
def test_grouped_digits_are_the_same_number(n):
    assert check(str(n), f"{n:,}").correct
    assert check(str(n), f"{n:,}".replace(",", "{,}")).correct
    assert check(f"{n:,}", f"{n:,}".replace(",", r",\!")).correct


@settings(deadline=None)
@given(st.decimals(min_value=-999, max_value=999, places=3))
def test_decimals_are_exact_rationals(d):
    value = Fraction(d)
    assert check(str(d), f"{value.numerator}/{value.denominator}").correct
    assert not check(str(d), f"{value.numerator + 1}/{value.denominator}").correct


@settings(deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_gets_a_verdict(gold, pred):
    assert check(gold, pred).label in ("correct", "wrong", "no_answer", "error")


@settings(deadline=None)
@given(st.text(alphabet=r"\{}[]()|^_$&%0123456789.,+-*/=<>!:;' xyefracsqrtboxed", max_size=60))
def test_anything_that_looks_like_latex_is_the_same_as_itself(text):
    verdict = check(text, text)
    assert verdict.label in ("correct", "error")


def test_model_text_is_never_evaluated(monkeypatch):
    import sympy
    from latex2sympy2_extended import latex2sympy2
    from math_verify import parser
    from sympy.parsing import sympy_parser

    check(r"\int_0^1 x dx", r"\int_0^2 x dx")  # whatever is imported late is imported now

    def forbidden(*_args, **_kwargs):
        raise AssertionError("model text reached an evaluating parser")

    for module in (sympy_parser, latex2sympy2, parser, sympy):
        for name in ("parse_expr", "parse_expr_cached"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, forbidden)
    sympify = sympy.sympify

    def sympify_no_text(value, *args, **kwargs):
        if isinstance(value, str):
            forbidden()
        return sympify(value, *args, **kwargs)

    monkeypatch.setattr(sympy, "sympify", sympify_no_text)
    monkeypatch.setattr(builtins, "eval", forbidden)
    monkeypatch.setattr(builtins, "exec", forbidden)
    for text in (
        "__import__('os').getcwd()",
        "().__class__.__bases__",
        "sqrt(2)",
        "2**10",
        r"\int_0^2 x^2 dx",
        r"\lim_{x\to 0} \frac{\sin x}{x}",
        "1, 2, 3",
        "[x for x in (1,)]",
        r"\boxed{open('x').read()}",
    ):
        check("7", text)
        check(text, r"\int_0^1 x dx")


def test_fast_paths_load_no_computer_algebra():
    code = (
        "import sys; from personahub.core.answers import check; "
        "assert check('1/2', '0.5').correct and check('x = 3', '3').correct and not check('7', '8').correct; "
        "assert check(r'\\sqrt{8}', r'2\\sqrt{2}').correct; "
        "sys.exit([m for m in ('sympy', 'math_verify', 'torch', 'datasets') if m in sys.modules] or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_equivalence_of_answers_alone():
    assert equivalent("1/2", "0.5", Policy()) == "exact"
    assert equivalent("1/2", "0.6", Policy()) is None
