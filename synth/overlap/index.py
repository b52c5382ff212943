"""Index of benchmark problems that finds a problem with the same or similar words.

index = BenchmarkIndex([Item("math", "4656", "An equilateral triangle ...")])
index.find("An  equilateral triangle $ABC$ ...")        # Match(item, rule="text", score=...)
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from personahub.core.artifact import Artifact
from personahub.core.errors import UserError
from personahub.core.texts.words import classes, fold, runs, unspaced


@dataclass(frozen=True)
class Item:
    """A benchmark problem."""

    benchmark: str
    id: str
    problem: str


@dataclass(frozen=True)
class Match:
    """A benchmark item that a problem is too close to. `score` is a count of shared words or a similarity."""

    item: Item
    rule: str
    score: float

    def __str__(self) -> str:
        return f"{self.item.benchmark} item {self.item.id} ({self.rule}, {self.score:g})"


_COLUMNS = ("benchmark", "item", "problem")


def read_items(benchmarks: Iterable[Artifact]) -> list[Item]:
    """Reads all problems from artifacts of `eval.datasets`.

    Raises:
        UserError: an artifact is not a benchmark.
    """
    items = []
    for artifact in benchmarks:
        for row in artifact.rows(_COLUMNS):
            if len(row) < len(_COLUMNS):
                raise UserError(f"{artifact.path}: not a benchmark; use an artifact of eval.datasets")
            items.append(Item(row["benchmark"], row["item"], row["problem"]))
    return items


class BenchmarkIndex:
    """Benchmark problems, indexed for three rules. Takes about 250 bytes per indexed n-gram."""

    def __init__(
        self,
        items: Sequence[Item],
        ngram: int = 13,
        words: float = 0.7,
        mask_numbers: bool = True,
        boilerplate: int = 4,
    ) -> None:
        self._items = items
        self._ngram = ngram
        self._threshold = words
        self._mask = mask_numbers
        texts = [words_of(item.problem, mask_numbers) for item in items]
        self._texts = {tuple(text): i for i, text in reversed(list(enumerate(texts))) if text}
        self._ngrams = _index_ngrams(items, texts, ngram, boilerplate) if ngram else {}
        self._sets = [frozenset(text) for text in texts] if words else []
        self._frequency = Counter(word for words_of_item in self._sets for word in words_of_item)
        self._postings: dict[str, list[int]] = defaultdict(list)
        for i, words_of_item in enumerate(self._sets):
            for word in self._prefix(words_of_item):
                self._postings[word].append(i)

    def find(self, problem: str) -> Match | None:
        """Returns the benchmark item that `problem` is too close to. The strictest matching rule counts."""
        words = words_of(problem, self._mask)
        same = self._texts.get(tuple(words))
        if same is not None:
            return Match(self._items[same], "text", len(words))
        for gram in _ngrams(words, self._ngram) if self._ngram else ():
            if gram in self._ngrams:
                return Match(self._items[self._ngrams[gram]], "ngram", self._ngram)
        return self._nearest(frozenset(words)) if self._threshold else None

    def _prefix(self, words: frozenset[str]) -> list[str]:
        """Returns the rarest words, enough for two sets at the threshold to share one.

        The prefix filter of Chaudhuri et al. 2006 (https://doi.org/10.1109/ICDE.2006.9).
        """
        ordered = sorted(words, key=lambda word: (self._frequency[word], word))
        return ordered[: len(ordered) - math.ceil(self._threshold * len(ordered) - 1e-9) + 1]

    def _nearest(self, words: frozenset[str]) -> Match | None:
        if len(words) < _MIN_DISTINCT_WORDS:
            return None
        near = {i for word in self._prefix(words) for i in self._postings.get(word, ())}
        score, negated = max(((_jaccard(words, self._sets[i]), -i) for i in near), default=(0.0, 0))
        return Match(self._items[-negated], "words", round(score, 3)) if score >= self._threshold else None


_MIN_DISTINCT_WORDS = 8  # the words of "Find the value of x" do not identify a source


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def _ngrams(words: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    """Yields runs of `n` words with enough language to differ from any other formula."""
    for start in range(len(words) - n + 1):
        gram = tuple(words[start : start + n])
        if len({word for word in gram if len(word) > 1}) * 2 >= n:
            yield gram


def _index_ngrams(
    items: Sequence[Item], tokens: Sequence[Sequence[str]], n: int, boilerplate: int
) -> dict[tuple[str, ...], int]:
    first: dict[tuple[str, ...], int] = {}
    holders: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for i, words in enumerate(tokens):
        for gram in set(_ngrams(words, n)):
            first.setdefault(gram, i)
            holders[items[i].benchmark, gram] += 1
    for (_, gram), number in holders.items():
        if number > boilerplate:
            first.pop(gram, None)
    return first


_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL | re.IGNORECASE)
_LAYOUT = re.compile(
    r"\\(?:[,;:! ]|(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|quad|qquad|text|textbf|textit|mathrm|mathbf|mbox"
    r"|operatorname|begin|end|hspace|vspace|dots|ldots|cdots|cdot|times)(?![a-zA-Z]))"
)
_SHORT_FRACTION = re.compile(r"\\[dtc]?frac\s*(\d)\s*(\d)")
_FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_POSSESSIVE = re.compile(r"['’]s\b|’")
_NUMBER_WORD = re.compile(
    r"zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|million|billion"
)
_ANY_NUMBER = "0"
_ASCII_WORD = re.compile(r"\d+(?:[.,]\d+)*|[a-z]+")


@functools.cache
def _word() -> re.Pattern[str]:
    """A number with its separators, a run of letters, or a word of a script without spaces."""
    letters = classes().letters + r"\d_"
    return re.compile(rf"\d+(?:[.,]\d+)*|{runs(letters)}|{unspaced()}")


def words_of(text: str, mask_numbers: bool = True) -> list[str]:
    r"""Returns a problem's words and numbers in lower case.

    Drops punctuation, LaTeX layout and drawings. `\dfrac12\, x` and `\frac{1}{2}x` give the same words. With
    `mask_numbers` every number, in digits or in words, becomes "0".
    """
    text = unicodedata.normalize("NFKC", _DRAWING.sub(" ", text))
    text = _SHORT_FRACTION.sub(r" frac \1 \2 ", _LAYOUT.sub(" ", text))
    text = _FRACTION.sub(" frac", text).replace("\\", " ")
    text = fold(_POSSESSIVE.sub("", text).replace("'", ""))
    words = (_ASCII_WORD if text.isascii() else _word()).findall(text)
    if not mask_numbers:
        return words
    return [_ANY_NUMBER if word[0].isdigit() or _NUMBER_WORD.fullmatch(word) else word for word in words]
