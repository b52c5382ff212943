"""Reference answers as data sets write them."""

from __future__ import annotations

from typing import Any

import pytest

from personahub.core.answers import check
from personahub.core.texts.references import reference_text


@pytest.mark.parametrize(
    ("value", "pred"),
    [
        (["$17$"], "\\boxed{17}"),
        (["17"], "\\boxed{17}"),
        ([17], "\\boxed{17}"),
        (("\\frac{1}{2}",), "\\boxed{0.5}"),
        ('["$17$"]', "\\boxed{17}"),
        (["$2$", "$3$"], "\\boxed{3, 2}"),
        ([2, 3], "\\boxed{2, 3}"),
        (["(1,2)", "(3,4)"], "\\boxed{(3,4), (1,2)}"),
        ('["x=1", "x=2"]', "\\boxed{1, 2}"),
        (0.5, "\\boxed{1/2}"),
        (" 17 ", "17"),
    ],
)
def test_lists_are_read(value: Any, pred: str) -> None:
    assert check(reference_text(value), pred).correct
    assert not check(reference_text(value), "\\boxed{99}").correct


def test_a_list_of_several_wants_all_of_them() -> None:
    assert not check(reference_text(["$2$", "$3$"]), "\\boxed{2}").correct
    assert not check(reference_text(["$2$", "$3$"]), "\\boxed{2, 3, 4}").correct


@pytest.mark.parametrize("value", [[], True, None, {"a": 1}, [["1", "2"], ["3"]], ["1", None], "['17']", [True]])
def test_what_is_no_answer_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="reference"):
        reference_text(value)


@pytest.mark.parametrize("text", ["[1, 2]", "[1, 2)", "{1, 2}", "['a", "(3, 4)"])
def test_notation_stays_as_it_is(text: str) -> None:
    assert reference_text(text) == text
