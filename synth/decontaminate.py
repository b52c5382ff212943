"""Problems that a benchmark already holds, word for word or thinly rewritten, are taken out.

    decontaminate:
      run: synth.decontaminate
      inputs: {problems: verified}
      config:
        benchmarks: [{name: math}, {name: gsm8k, path: gsm8k/test.jsonl}]

A problem is compared with every problem of every benchmark under three rules; the first that
matches rejects it as `contaminated`, with the rule, the benchmark and the item in the detail.

* `text`: both are the same sequence of words.
* `ngram`: they share `ngram` words in a row (default 13, as GPT-3's and Tulu 3's overlap checks:
  https://arxiv.org/abs/2005.14165 appendix C, https://arxiv.org/abs/2411.15124 section 3.2). Runs
  that more than `boilerplate` items of a benchmark share are its house style ("express your answer
  as a common fraction in lowest terms"), not its content, and do not count.
* `words`: the Jaccard similarity of their sets of words, whatever the order, is at least `words`.

What counts as a word is in `words_of`: LaTeX spacing, delimiters, case and, unless `mask_numbers`
is off, the numbers do not tell two problems apart. With `embedding` set, a problem whose embedding
is that similar to a benchmark item's goes too (rule `embedding`).
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from personahub.core.artifact import Artifact
from personahub.core.config import StageConfig
from personahub.core.errors import Rejected
from personahub.core.forecast import Forecast
from personahub.core.problem_sets import ProblemSetConfig, load_problems
from personahub.core.stage import Shard, Stage

VERSION = "1"
INPUTS = ("problems",)


class Config(StageConfig):
    """`words: null` or `ngram: null` turns a rule off."""

    benchmarks: tuple[ProblemSetConfig, ...] = Field(min_length=1)
    ngram: int | None = Field(default=13, gt=0, description="Words in a row that two problems may not share.")
    words: float | None = Field(default=0.8, gt=0, le=1, description="Jaccard similarity of the words, order-free.")
    mask_numbers: bool = Field(default=True, description="All numbers count as the same word.")
    boilerplate: int = Field(default=4, gt=0, description="An n-gram in more items of a benchmark than this is ignored.")


def run(stage: Stage[Config]) -> None:
    """Copy `problems` without the contaminated ones."""
    source = stage.input("problems")
    stage.map_shards(_process, source, schema_of(source))


def schema_of(source: Artifact) -> pa.Schema:
    """The schema of an artifact's records: problems pass in whatever state they are."""
    return pq.read_schema(source.path / f"{source.shard_names[0]}.parquet").remove_metadata()


def _process(stage: Stage[Config], shard: Shard) -> None:
    index = _index(stage.config)
    for row in shard.rows():
        match = index.find(row["problem"])
        if match is None:
            shard.write(row)
        else:
            shard.reject(row, Rejected("contaminated", str(match)))


@functools.lru_cache(maxsize=1)
def _index(config: Config) -> BenchmarkIndex:
    """One index per process, however many shards it works on."""
    items = [
        Item(benchmark.name, problem.id, problem.problem)
        for benchmark in config.benchmarks
        for problem in load_problems(benchmark, answers=False)
    ]
    return BenchmarkIndex(items, config.ngram, config.words, config.mask_numbers, config.boilerplate)


@dataclass(frozen=True)
class Item:
    """A benchmark problem."""

    benchmark: str
    id: str
    problem: str


@dataclass(frozen=True)
class Match:
    """A benchmark item that a problem is too close to. `score`: shared words, or similarity."""

    item: Item
    rule: str
    score: float

    def __str__(self) -> str:
        return f"{self.item.benchmark} item {self.item.id} ({self.rule}, {self.score:g})"


class BenchmarkIndex:
    """All benchmark problems, indexed for the three rules. Some 250 bytes per indexed n-gram."""

    def __init__(
        self,
        items: Sequence[Item],
        ngram: int | None = 13,
        words: float | None = 0.8,
        mask_numbers: bool = True,
        boilerplate: int = 4,
    ) -> None:
        self._items = items
        self._ngram = ngram
        self._threshold = words
        self._mask = mask_numbers
        tokens = [words_of(item.problem, mask_numbers) for item in items]
        self._texts = {tuple(words): i for i, words in reversed(list(enumerate(tokens))) if words}
        self._ngrams = _index_ngrams(items, tokens, ngram, boilerplate) if ngram else {}
        self._sets = [frozenset(words) for words in tokens] if words else []
        self._frequency = Counter(word for words in self._sets for word in words)
        self._postings: dict[str, list[int]] = defaultdict(list)
        for i, words_i in enumerate(self._sets):
            for word in self._prefix(words_i):
                self._postings[word].append(i)

    def find(self, problem: str) -> Match | None:
        """The first benchmark item that `problem` matches, by the strictest rule that does."""
        words = words_of(problem, self._mask)
        same = self._texts.get(tuple(words))
        if same is not None:
            return Match(self._items[same], "text", len(words))
        if self._ngram:
            for gram in _ngrams(words, self._ngram):
                if gram in self._ngrams:
                    return Match(self._items[self._ngrams[gram]], "ngram", self._ngram)
        return self._nearest(frozenset(words)) if self._threshold else None

    def _prefix(self, words: frozenset[str]) -> list[str]:
        """The rarest words, so many that sets of similarity >= threshold must share one of them.

        The prefix filter of Chaudhuri et al. 2006 (https://doi.org/10.1109/ICDE.2006.9).
        """
        ordered = sorted(words, key=lambda word: (self._frequency[word], word))
        return ordered[: len(ordered) - math.ceil((self._threshold or 1) * len(ordered)) + 1]

    def _nearest(self, words: frozenset[str]) -> Match | None:
        if len(words) < _MIN_DISTINCT_WORDS:
            return None
        candidates = {i for word in self._prefix(words) for i in self._postings.get(word, ())}
        scored = [(_jaccard(words, self._sets[i]), -i) for i in candidates]
        score, index = max(scored, default=(0.0, 0))
        return Match(self._items[-index], "words", round(score, 3)) if score >= (self._threshold or 1) else None


_MIN_DISTINCT_WORDS = 8  # the words of "Find the value of x" say nothing about where it comes from


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def _ngrams(words: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    """Runs of `n` words that hold enough language to be told from any other formula."""
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
_FRACTION = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
# A number with its separators; a run of letters (CJK, which puts no spaces, by character).
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[\u3040-\u30ff\u3400-\u9fff]|[^\W\d_\u3040-\u30ff\u3400-\u9fff]+")
_NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion".split()
)
_ANY_NUMBER = "0"


def words_of(text: str, mask_numbers: bool = True) -> list[str]:
    r"""Words and numbers of a problem, lower-case, without punctuation, LaTeX layout and drawings.

    `\dfrac12\, x` and `\frac{1}{2}x` give the same words. With `mask_numbers` every number, in
    digits or in words, becomes "0".
    """
    text = unicodedata.normalize("NFKC", _DRAWING.sub(" ", text))
    text = _FRACTION.sub(r"\\frac", _LAYOUT.sub(" ", text)).replace("\\", " ").lower()
    words = _WORD.findall(text.replace("'", "").replace("’", ""))
    if not mask_numbers:
        return words
    return [_ANY_NUMBER if word[0].isdigit() or word in _NUMBER_WORDS else word for word in words]


def forecast(config: Config, rows_in: Mapping[str, int]) -> Forecast:  # noqa: ARG001  (same signature for all stages)
    """Asks no engine. Few synthetic problems match a benchmark, so all are expected to stay."""
    return Forecast(rows_out=rows_in["problems"], disk_bytes=rows_in["problems"] * 3000)
