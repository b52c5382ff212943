"""Charts stay inside their frame, escape their labels and carry their values."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report.charts import (
    BoxGroup,
    BoxRow,
    IntervalRow,
    Line,
    Scale,
    Segment,
    bar,
    box_chart,
    interval_chart,
    line_chart,
)

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_scale_stays_within_its_frame(a: float, b: float, value: float) -> None:
    scale = Scale(min(a, b), max(a, b))
    assert 0 <= scale.percent(value) <= 100
    ticks = scale.ticks()
    assert len(ticks) <= 12
    assert ticks == sorted(ticks)


def test_ticks_are_round() -> None:
    assert Scale(0, 1).ticks() == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert Scale(5, 295).ticks() == [100, 200]
    assert Scale(100, 1_000_000, log=True).ticks() == [100, 1000, 10_000, 100_000, 1_000_000]
    assert Scale(1, 100, log=True).percent(10) == 50


def test_an_interval_row_shows_its_numbers() -> None:
    html = str(interval_chart([IntervalRow("a <b>", 0.5, 0.25, 0.75, "after", "5 of 10")]))
    assert "<b>" not in html.replace("<b>50.0%</b>", "")
    assert "a &lt;b&gt;: 50.0%, 95% interval 25.0% to 75.0% (5 of 10)" in html
    assert 'x="25.0%"' in html
    assert 'width="50.000%"' in html


def test_a_fitted_scale_ends_above_the_largest_interval() -> None:
    rows = [IntervalRow("a", 0.15, 0.12, 0.2, "after"), IntervalRow("b", 0.1, 0.05, 0.14, "other")]
    html = str(interval_chart(rows, fitted=True))
    assert ">25%</text>" in html
    assert ">12.5%</text>" in html
    assert 'cx="60.0%"' in html
    assert ">100%</text>" in str(interval_chart([IntervalRow("a", 0.9, 0.8, 1.0, "after")], fitted=True))


def test_a_value_without_interval_has_no_bar() -> None:
    html = str(interval_chart([IntervalRow("paper", 0.794, None, None, "paper")]))
    assert 'class="range"' not in html
    assert "79.4%" in html


def test_a_box_has_quartiles_whiskers_and_its_mark() -> None:
    html = str(box_chart([BoxGroup("Personas at 0.4", 0.4, [BoxRow("ours", 0.2, 0.3, 0.5, "after", 0.1, 0.9)])]))
    assert "Q1 0.20, median 0.30, Q3 0.50, from 0.10 to 0.90" in html
    assert html.count("whisker") == 3
    assert 'class="reference" x1="40.0%"' in html


def test_a_bar_shows_slivers_and_hides_nothing_else() -> None:
    html = str(bar([Segment("kept", 99_999, "kept"), Segment("odd", 1, "c0"), Segment("none", 0, "c1")], 100_000))
    assert html.count("<rect") == 2
    assert "<title>odd: 1</title>" in html
    assert 'width="0.500%"' in html


def test_a_long_curve_is_thinned_to_its_last_point() -> None:
    points = [(float(x), float(x % 7)) for x in range(10_001)]
    html = str(line_chart([Line("loss", points, "after")], "step", "loss"))
    assert html.count("<circle") <= 402
    assert "step 10,000" in html


@pytest.mark.parametrize("points", [[(1.0, 2.0)], [(0.0, 0.0), (1.0, 0.0)], [(3.0, -1e-12), (3.0, 5e8)]])
def test_a_curve_of_little_still_draws(points: list[tuple[float, float]]) -> None:
    html = str(line_chart([Line("l", points, "after")], "x", "y"))
    places = [float(top) for top in re.findall(r'cy="([-0-9.]+)"', html)]
    assert len(places) == len(points)
    assert all(0 <= top <= 220 for top in places)
    assert line_chart([Line("l", [], "after")], "x", "y") == ""


def test_points_that_are_not_finite_are_left_out() -> None:
    nan, inf = float("nan"), float("inf")
    points = [(1.0, nan), (2.0, 3.0), (3.0, inf), (4.0, -inf), (5.0, 1.0), (nan, 1.0)]
    html = str(line_chart([Line("loss", points, "after")], "step", "loss"))
    assert html == str(line_chart([Line("loss", [(2.0, 3.0), (5.0, 1.0)], "after")], "step", "loss"))
    assert line_chart([Line("loss", [(1.0, nan), (2.0, inf)], "after")], "step", "loss") == ""
    band = Line("l", [(1.0, 2.0), (2.0, 2.0), (3.0, 2.5)], "after", ends=[(1.0, 3.0), (nan, 3.0), (2.0, inf)])
    assert str(line_chart([band], "x", "y")).count("<circle") == 1


def test_a_band_is_drawn_from_the_ends_and_said_in_the_titles() -> None:
    line = Line("personas", [(25.0, 2.0), (50.0, 3.0)], "after", ends=[(1.0, 4.0), (2.5, 3.5)])
    html = str(line_chart([line], "texts", "Vendi score"))
    (band,) = re.findall(r'<polygon points="([^"]+)" class="band after"', html)
    assert len(band.split()) == 4
    heights = [float(point.split(",")[1]) for point in band.split()]
    assert 0 <= min(heights) < max(heights) <= 220
    assert "texts 50: 3 (2.5 to 3.5)" in html
    assert "Vendi score</div>" not in str(line_chart([line], "texts", "Vendi score", y_named=False))
