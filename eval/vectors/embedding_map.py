"""Texts in two dimensions, such that those close by are alike: exact t-SNE.

    places = embedding_map(vectors, seed=0)     # (rows, 2), in the unit square

Van der Maaten & Hinton (2008, JMLR 9:2579-2605), begun from the first two principal components (Kobak &
Berens 2019, Nature Communications 10:5416), so that the large-scale order of the map means something and no
seed has a part in it. Distances between clusters and the sizes of clusters still mean little. Exact, so
time and memory grow with the square of the rows: a second for 400, half a minute for 2,000.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

_PERPLEXITY = 30.0
_ROUNDS = 500
_EARLY = 150  # rounds in which similarities count more than they are, so that clusters find together


def embedding_map(vectors: FloatArray, perplexity: float = _PERPLEXITY, rounds: int = _ROUNDS) -> FloatArray:
    """Places of the rows in the unit square, y upwards.

    Args:
        vectors: (rows, dimensions), unit norm.
        perplexity: how many neighbours a row has, roughly; less where there are few rows.
    """
    rows = len(vectors)
    places = _principal_components(np.asarray(vectors, dtype=np.float64))
    if rows > 3:
        places = _descend(places, _affinities(vectors, min(perplexity, (rows - 1) / 3)), rounds)
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - (low + high) / 2) / max(float((high - low).max()), 1e-12) + 0.5


def _principal_components(vectors: FloatArray) -> FloatArray:
    """The first two, scaled to t-SNE's usual start; a component's sign is that of its largest loading."""
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.vstack([axes, np.zeros((2, vectors.shape[1]))])[:2]
    axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]
    places = centred @ axes.T
    return 1e-4 * places / max(float(places[:, 0].std()), 1e-12)


def _affinities(vectors: FloatArray, perplexity: float) -> FloatArray:
    """Joint probabilities (rows, rows) whose conditional entropies are the logarithm of `perplexity`, by bisection."""
    distances = np.maximum(2 - 2 * np.asarray(vectors, dtype=np.float64) @ vectors.T, 0)  # squared, of unit vectors
    np.fill_diagonal(distances, np.inf)
    distances -= distances.min(axis=1, keepdims=True)  # a row's own shift cancels; exponents stay small
    np.fill_diagonal(distances, np.inf)
    low, high = np.zeros(len(vectors)), np.full(len(vectors), np.inf)
    precision = np.ones(len(vectors))
    finite = np.where(np.isinf(distances), 0, distances)
    for _ in range(60):
        weights = np.exp(-distances * precision[:, None])
        total = weights.sum(axis=1)
        entropy = np.log(total) + precision * (weights * finite).sum(axis=1) / total
        wide = entropy > math.log(perplexity)
        low, high = np.where(wide, precision, low), np.where(wide, high, precision)
        precision = np.where(np.isinf(high), precision * 2, (low + high) / 2)
    conditional = np.exp(-distances * precision[:, None])
    conditional /= conditional.sum(axis=1, keepdims=True)
    return np.maximum((conditional + conditional.T) / (2 * len(vectors)), 1e-12)


def _descend(places: FloatArray, joint: FloatArray, rounds: int) -> FloatArray:
    """Gradient descent with momentum and a gain for every coordinate, as the authors' implementation has it."""
    rate = max(len(places) / 12 / 4, 50.0)  # Belkina et al. 2019, for an exaggeration of 12 over four
    speed, gains = np.zeros_like(places), np.ones_like(places)
    for number in range(rounds):
        exaggeration, momentum = (12.0, 0.5) if number < _EARLY else (1.0, 0.8)
        squares = (places**2).sum(axis=1)
        kernel = 1 / (1 + np.maximum(squares[:, None] + squares - 2 * places @ places.T, 0))
        np.fill_diagonal(kernel, 0)
        pull = (exaggeration * joint - kernel / kernel.sum()) * kernel
        gradient = 4 * (pull.sum(axis=1)[:, None] * places - pull @ places)
        gains = np.maximum(np.where(np.sign(gradient) == np.sign(speed), gains * 0.8, gains + 0.2), 0.01)
        speed = momentum * speed - rate * gains * gradient
        places = places + speed
        places -= places.mean(axis=0)
    return places
