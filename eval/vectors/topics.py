"""Finds topics: clusters of embeddings, named by the words that set them apart.

    topics = find_topics(vectors, texts, count=50, seed=0)
    topics.names[3]                 # "orchard, apples, picked"
    coverage(topics.labels[:100], 50)   # share of the topics that the first 100 texts cover

The clusters are scikit-learn's k-means with k-means++ seeding (Arthur & Vassilvitskii 2007). For unit vectors,
squared distance is 2 - 2 cosine, so texts of one topic have a high cosine. Cluster the texts that you want to
compare together: topics of two runs are not the same topics.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W\d_]{3,}")
_WORDS_IN_NAME = 3


@dataclass(frozen=True)
class Topics:
    """A topic for each row and a name for each topic. If rows are identical, some topics may have no row."""

    labels: NDArray[np.int64]  # (rows,)
    names: Sequence[str]  # (topics,)


def find_topics(vectors: NDArray[np.float32], texts: Sequence[str], count: int, seed: int) -> Topics:
    """Clusters the rows into `count` topics, or into as many as there are rows.

    scikit-learn and threadpoolctl are imported here, because loading them takes longer than `personahub plan`.

    Args:
        vectors: (rows, dimensions), unit norm.
        texts: texts of the rows, for the names.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    count = min(count, len(vectors))
    # scikit-learn has no type hints. Its generator takes 32 bits.
    kmeans = KMeans(count, n_init=1, random_state=seed % 2**32)  # pyright: ignore[reportArgumentType]
    with threadpool_limits(limits=1), warnings.catch_warnings():  # sums over several threads depend on their number
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than topics
        labels = kmeans.fit_predict(vectors).astype(np.int64)
    return Topics(labels, _names(labels, texts, count))


def _names(labels: NDArray[np.int64], texts: Sequence[str], count: int) -> list[str]:
    """Names each topic by words that are frequent in its texts and rarer elsewhere.

    A word's weight is p * log(p / q), where p is its share of the topic's texts and q its share of all texts.
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

        best = sorted(counter, key=lambda word, weight=weight: (-weight(word), word))[:_WORDS_IN_NAME]
        names.append(", ".join(best))
    return names


def coverage(labels: NDArray[np.int64], count: int) -> tuple[float, float]:
    """Returns the share of `count` topics in `labels`, and their effective number.

    The effective number is the exponential of the entropy of the topics' shares (Hill's number of order 1, Hill
    1973): k equally frequent topics give k.
    """
    shares = np.bincount(labels, minlength=count) / max(len(labels), 1)
    present = shares[shares > 0]
    return len(present) / count, float(np.exp(-(present * np.log(present)).sum()))
