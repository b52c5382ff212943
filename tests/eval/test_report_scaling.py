"""Accuracy by number of training problems."""

from __future__ import annotations

from typing import Any

from eval.report.scaling import scaling_panels, scaling_series


def benchmark(
    stage: str, model: str, correct: int, role: str = "after", name: str = "synthetic_test"
) -> dict[str, Any]:
    result = {"n": 100, "correct": correct, "accuracy": correct / 100, "low": 0.0, "high": 1.0}
    return {"stage": stage, "role": role, "model": model, "results": {name: result}}


TRAININGS = [{"stage": "model_512", "examples": 512}, {"stage": "model_128", "examples": 128}, {"stage": "no_number"}]


def test_students_are_put_in_order_of_what_they_were_trained_on() -> None:
    benchmarks = [
        benchmark("before", "base", 1, role="before"),
        benchmark("after_512", "model_512", 40),
        benchmark("after_128", "model_128", 20),
        benchmark("after_none", "no_number", 30),
    ]
    (series,) = scaling_series(benchmarks, TRAININGS)
    assert series["benchmark"] == "synthetic_test"
    assert [(point["examples"], point["accuracy"]) for point in series["points"]] == [(128, 0.2), (512, 0.4)]


def test_series_is_drawn_beside_the_papers() -> None:
    benchmarks = [benchmark("after_512", "model_512", 40), benchmark("after_128", "model_128", 20)]
    (panel,) = scaling_panels({"scaling": scaling_series(benchmarks, TRAININGS)})
    assert panel.title == "Synthetic test by number of training problems"
    chart = str(panel.chart)
    assert "training problems 512: 40%" in chart
    assert "paper, Qwen2-7B on MATH, training problems 65,000: 57%" in chart or "65,000: 58%" in chart
    assert panel.folds[0].table.rows[0][:3] == ("128", "after_128", "20 of 100")


def test_one_student_makes_a_series_on_math_only() -> None:
    assert scaling_panels({"scaling": scaling_series([benchmark("after", "model_512", 40)], TRAININGS)}) == []
    (panel,) = scaling_panels(
        {"scaling": scaling_series([benchmark("after", "model_512", 40, name="math")], TRAININGS)}
    )
    assert panel.title == "MATH by number of training problems"
