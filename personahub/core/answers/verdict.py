"""The outcome of a check: one of five labels, with its reasons."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Label = Literal["correct", "wrong", "no_answer", "timeout", "error"]
EMPTY_REFERENCE = "the reference is empty"  # the rule of an `error` that a second check cannot fix
FALLBACK = "last_"  # prefix of the extraction rules for a text that states no answer
LABELS: tuple[Label, ...] = ("correct", "wrong", "no_answer", "timeout", "error")


@dataclass(frozen=True, slots=True)
class Extracted:
    """An answer found in a text.

    Attributes:
        answer: the answer as written, or None if the text has none.
        rule: how the answer was found: `boxed`, `boxed_unclosed`, `tagged`, `hashes`, `answer_is`, `bare`, `last_line`,
            `last_words`, `last_bold`, `last_math`, `last_number`, `last_letter`, `none`, or `thinking` (cut off
            inside a thought).
    """

    answer: str | None
    rule: str

    @property
    def is_fallback(self) -> bool:
        """Whether the text states no answer, so that something else in it was taken."""
        return self.rule.startswith(FALLBACK)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        label: `correct`; `wrong`; `no_answer` (nothing to compare in the prediction); `timeout` (the
            deadline passed and the worker was killed); `error` (the reference has no answer, or the
            worker died).
        extracted: the predicted answer as written.
        extraction: the extraction rule that found it.
        rule: the equivalence rule that matched, or why none did: `different` (both sides were read),
            `unread: ...` (one side was not, so "wrong" is the best guess), `refused: ...` (too large to parse).
        ms: wall milliseconds, without queueing.
    """

    label: Label
    extracted: str | None
    extraction: str
    rule: str
    ms: float

    @property
    def correct(self) -> bool:
        return self.label == "correct"

    def as_dict(self) -> dict[str, Any]:
        """Returns the five fields as plain JSON values."""
        return asdict(self)
