"""Topics of a collection: clusters of embeddings, named by the words that set them apart.

    topics = find_topics(vectors, texts, count=50, seed=0)
    topics.names[3]                 # "orchard, apples, picked"
    coverage(topics.labels[:100], 50)   # what a hundred of them cover

Spherical k-means (Dhillon & Modha 2001) with k-means++ seeding (Arthur & Vassilvitskii 2007). What is
compared must be clustered together: topics of two runs of this are not the same topics.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 30
_WORD = re.compile(r"[^\W\d_]{3,}")
_NAMED_BY = 3


@dataclass(frozen=True)
class Topics:
    """A topic for each row, and a name for each topic. Topics without a row exist where rows coincide."""

    labels: NDArray[np.int64]  # (rows,)
    names: Sequence[str]  # (topics,)


def find_topics(vectors: NDArray[np.float32], texts: Sequence[str], count: int, seed: int) -> Topics:
    """Cluster the rows into `count` topics, or as many as there are rows.

    Args:
        vectors: (rows, dimensions), unit norm.
        texts: of the rows, for the names.
    """
    count = min(count, len(vectors))
    centres = _spread(vectors, count, np.random.default_rng(seed))
    labels = np.full(len(vectors), -1, dtype=np.int64)
    for _ in range(_ROUNDS):
        nearest = np.argmax(vectors @ centres.T, axis=1)
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        for topic in range(count):
            total = vectors[labels == topic].sum(axis=0)
            if norm := float(np.linalg.norm(total)):
                centres[topic] = total / norm
    return Topics(labels, _names(labels, texts, count))


def _spread(vectors: NDArray[np.float32], count: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """First centres: each row chosen with a probability that grows with its distance from those before."""
    chosen = [int(generator.integers(len(vectors)))]
    distance = 1 - vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        weight = np.clip(distance, 0, None).astype(np.float64)
        total = float(weight.sum())
        pick = generator.choice(len(vectors), p=weight / total) if total > 0 else generator.integers(len(vectors))
        chosen.append(int(pick))
        distance = np.minimum(distance, 1 - vectors @ vectors[chosen[-1]])
    return vectors[chosen].copy()


def _names(labels: NDArray[np.int64], texts: Sequence[str], count: int) -> list[str]:
    """The words of each topic that are frequent in its texts and rarer in the others.

    A word's weight is its share of the topic's texts times the logarithm of how many times larger that is
    than its share of all texts.
    """
    everywhere: Counter[str] = Counter()
    within: list[Counter[str]] = [Counter() for _ in range(count)]
    for label, text in zip(labels, texts, strict=True):
        words = set(_WORD.findall(text.lower()))
        everywhere.update(words)
        within[label].update(words)
    sizes = np.bincount(labels, minlength=count)
    names = []
    for topic, counter in enumerate(within):

        def weight(word: str, counter: Counter[str] = counter, size: int = int(sizes[topic])) -> float:
            share = counter[word] / size
            return share * math.log(share * len(texts) / everywhere[word])

        best = sorted(counter, key=lambda word, weight=weight: (-weight(word), word))[:_NAMED_BY]
        names.append(", ".join(best))
    return names


def coverage(labels: NDArray[np.int64], count: int) -> tuple[float, float]:
    """Share of the `count` topics that occur in `labels`, and how many topics they amount to.

    The second is the exponential of the entropy of the topics' shares (Hill's number of order 1, Hill 1973):
    k topics that are equally frequent give k.
    """
    shares = np.bincount(labels, minlength=count) / max(len(labels), 1)
    present = shares[shares > 0]
    return len(present) / count, float(np.exp(-(present * np.log(present)).sum()))
