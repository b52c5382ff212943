"""What the simulated teacher writes around a problem: titles, solutions, commentary and sentences that give it away."""

from __future__ import annotations

import re
from random import Random

# Additions that `synth.contracts.additions` cuts. Each is (in front of the problem, behind it).
_CUT = (
    ("", "\n\nTo solve this problem, we work through the conditions one by one. The answer is {answer}."),
    ("", "\n\n**Solution:** Working it through gives {answer}."),
    ("", " (Answer: {answer})"),
    ("", "\n\nThis problem is solvable by using arithmetic and a little patience."),
    ("", "\n\nI hope this helps! Would you like another one?"),
    ("Title: A Day at Work\nDescription: ", ""),
    ("**A Day at Work**\n\n", "\n\nAnswer: {answer}"),
    ('"', '"'),
)
# Sentences in the problem that give its answer away in words that no rule knows. A judge has to find them.
_GIVEAWAY = "Somebody had noted {answer} in the margin."
_FIND_GIVEAWAY = re.compile(r"\s*Somebody had noted (.+?) in the margin\.")


def attach(text: str, answer: str, rng: Random) -> tuple[str, str]:
    """Returns the problem and the reply with an addition. One in three is a sentence that stays in the problem."""
    if rng.random() < 1 / 3:
        text = f"{text} {_GIVEAWAY.format(answer=answer)}"
        return text, f"Math problem: {text}"
    before, behind = rng.choice(_CUT)
    return text, f"Math problem: {before}{text}{behind.replace('{answer}', answer)}"


def giveaway(text: str) -> tuple[str, str | None]:
    """Returns the problem without a sentence that gives its answer away, and the answer given in it or None."""
    found = _FIND_GIVEAWAY.search(text)
    return (text, None) if found is None else (_FIND_GIVEAWAY.sub("", text), found.group(1))
