"""Numbers printed in the Persona Hub paper (arXiv 2406.20094v1), from `paper.yaml`.

Accuracies are shares in [0, 1]. The paper's synthetic test has other problems than the tests of runs of this project, so
its numbers show the scale but are not a baseline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_PAPER: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))

STUDENT: str = _PAPER["student"]
SYNTHETIC_TEST: dict[str, float] = _PAPER["synthetic_test"]
MATH: dict[str, float] = _PAPER["math"]
SCALING: list[tuple[int, float]] = [(problems, accuracy) for problems, accuracy in _PAPER["scaling"]]


def paper_similarity(level: float) -> list[dict[str, Any]]:
    """Returns the quartiles of figure 10 at `level`, with their `prompt`; empty if the paper has no such level."""
    return next((rows for known, rows in _PAPER["similarity"].items() if abs(known - level) < 1e-9), [])
