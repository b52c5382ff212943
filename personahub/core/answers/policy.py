"""Policies for contested cases: two presets and a named switch for each case.

`Policy()` is lenient: it asks whether the mathematics is right, regardless of the form.
`Policy.strict()` also requires the form of the reference: units, percent signs, bases and exact values.
docs/answers.md lists the cases with examples.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from personahub.core.config import UNLESS_DEFAULT, FrozenModel


class Policy(FrozenModel):
    """Switches of the checker. All are part of a result's identity: record them with the numbers."""

    rounding_digits: int | None = Field(
        default=4,
        ge=2,
        description="A decimal stands for an exact value when it is that value rounded to its last place and shows "
        "at least this many significant digits (0.3333 for 1/3, not 0.33). null: never, decimals are exact.",
    )
    percent_as_fraction: bool = Field(default=True, description="28% and 0.28 are the same answer.")
    percent_optional: bool = Field(default=True, description="28% and 28 are the same answer.")
    units_optional: bool = Field(default=True, description="A unit or currency may be missing on either side.")
    labels_ignored: bool = Field(
        default=True, description="Words after a number that are not a known unit (5 apples) are ignored."
    )
    degrees_as_radians: bool = Field(default=False, description="45 degrees and pi/4 are the same answer.")
    base_optional: bool = Field(default=True, description="The subscript of a based numeral (204_5) may be missing.")
    name_optional: bool = Field(default=True, description="x = 5 and 5 are the same answer.")
    tuple_as_list: bool = Field(default=True, description="(1, 2) and 1, 2 are the same answer when in the same order.")
    vector_as_tuple: bool = Field(default=True, description="A column or row vector and a tuple are the same answer.")
    interval_as_inequality: bool = Field(default=True, description="x > 2 and (2, oo) are the same answer.")
    ratio_as_fraction: bool = Field(default=True, description="3:4, 6:8 and 3/4 are the same answer.")
    comma_as_decimal_point: bool = Field(
        default=True, description="2,74 may mean 2.74 where the other answer is a decimal."
    )
    math_verify: bool = Field(
        default=True, description="LaTeX that the parser rejects goes to math-verify, within tight limits."
    )
    ignore_case: bool = Field(default=True, description="Text answers are compared without case and articles.")
    fallbacks: Annotated[bool, UNLESS_DEFAULT] = Field(
        default=True,
        description="The last line, formula or number counts when a completion states no answer. false: no answer.",
    )

    @classmethod
    def strict(cls) -> Policy:
        """Requires the form of the reference as well as its value. Fits "answer in simplest exact form"."""
        return cls(
            rounding_digits=None,
            percent_as_fraction=False,
            percent_optional=False,
            units_optional=False,
            labels_ignored=False,
            base_optional=False,
            name_optional=True,
            tuple_as_list=False,
            vector_as_tuple=False,
            interval_as_inequality=True,
            ratio_as_fraction=False,
            comma_as_decimal_point=False,
            ignore_case=False,
            fallbacks=False,
        )
