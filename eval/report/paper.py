"""Numbers printed in the Persona Hub paper (arXiv 2406.20094v1).

Accuracies are shares in [0, 1]. The paper's synthetic test has other problems than the tests of runs of this project, so
its numbers show the scale but are not a baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

STUDENT = "Qwen2-7B + 1.07M persona problems"

SYNTHETIC_TEST = {  # table 1: 11.6k in-distribution problems, Llama-3-70B-Instruct as the judge
    "gpt-4o-2024-05-13": 0.912,
    "gpt-4-turbo-2024-04-09": 0.881,
    STUDENT: 0.794,
    "Qwen2-72B-Instruct": 0.772,
    "Qwen1.5-110B-Chat": 0.730,
    "Qwen2-7B-Instruct": 0.721,
    "Yi-1.5-34B-Chat": 0.704,
    "Phi-3-Mini-4K-Instruct": 0.683,
    "Llama-3-70B-Instruct": 0.635,
    "Qwen1.5-72B-Chat": 0.607,
    "DeepSeek LLM 67B Chat": 0.532,
    "Llama-3-8B-Instruct": 0.398,
}

MATH = {  # table 2: all 5,000 test problems, greedy
    "gpt-4o-2024-05-13": 0.766,
    "DeepSeek-Coder-V2-Instruct": 0.757,
    "gpt-4-turbo-2024-04-09": 0.734,
    "Claude 3.5 Sonnet": 0.711,
    STUDENT: 0.649,
    "gpt-4-turbo-0125-preview": 0.645,
    "gpt-4-turbo-1106-preview": 0.643,
    "Claude 3 Opus": 0.638,
    "Qwen2-72B-Instruct": 0.597,
    "Llama-3-70B-Instruct": 0.528,
    "Qwen2-7B-Instruct": 0.496,
}

SCALING = ((65_000, 0.575), (131_000, 0.610), (262_000, 0.626), (524_000, 0.638), (1_050_000, 0.649))
"""Figure 9, read from the plot: (training problems, MATH accuracy)."""


@dataclass(frozen=True, slots=True)
class PaperQuartiles:
    """Cosines of problem pairs at one persona similarity. From text-embedding-3-small at 512 dimensions."""

    prompt: str
    q1: float
    median: float
    q3: float


SIMILARITY: dict[float, tuple[PaperQuartiles, ...]] = {  # figure 10
    0.4: (
        PaperQuartiles("no focus", 0.21, 0.28, 0.34),
        PaperQuartiles("finance and probability", 0.36, 0.40, 0.46),
    ),
    0.6: (
        PaperQuartiles("no focus", 0.38, 0.45, 0.55),
        PaperQuartiles("finance and probability", 0.49, 0.56, 0.62),
    ),
    0.8: (
        PaperQuartiles("no focus", 0.51, 0.59, 0.68),
        PaperQuartiles("finance and probability", 0.59, 0.68, 0.76),
    ),
    0.9: (
        PaperQuartiles("gpt-4o", 0.61, 0.67, 0.74),
        PaperQuartiles("gpt-3.5-turbo", 0.57, 0.68, 0.76),
    ),
}


def paper_similarity(level: float) -> tuple[PaperQuartiles, ...]:
    """Returns figure 10 at `level`; empty if the paper has no such level."""
    return next((rows for known, rows in SIMILARITY.items() if abs(known - level) < 1e-9), ())
