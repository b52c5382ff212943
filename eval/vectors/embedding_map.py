"""Maps texts to two dimensions with t-SNE.

Similar texts end up close together.

    points = embedding_map(vectors)     # (rows, 2), in the unit square

t-SNE (van der Maaten & Hinton 2008, JMLR 9:2579-2605) is scikit-learn's, with the Barnes-Hut approximation (van der
Maaten 2014, JMLR 15:3221-3245): a second for 400 rows, six for 2,000. It starts from the first two principal
components (Kobak & Berens 2019, Nature Communications 10:5416), so that the large-scale layout of the map means
something and does not depend on a seed. Distances between clusters and the sizes of clusters still mean little.

scikit-learn and threadpoolctl are imported where they are used, because loading them takes longer than
`personahub plan`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]

_PERPLEXITY = 30.0
_SAME = 1e-6  # float32 rounding of unit vectors


def embedding_map(vectors: FloatArray, perplexity: float = _PERPLEXITY) -> FloatArray:
    """Places the rows in the unit square, y upwards.

    The same rows always get the same points.

    Args:
        vectors: (rows, dimensions), unit norm.
        perplexity: roughly the number of neighbors of a row. It is reduced if there are few rows.
    """
    rows = len(vectors)
    if np.ptp(vectors, axis=0).max() < _SAME:  # a single text, which t-SNE cannot scale
        return np.full((rows, 2), 0.5)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    tsne = TSNE(perplexity=min(perplexity, (rows - 1) / 3), init="pca", random_state=0)
    with threadpool_limits(limits=1):  # sums over several threads depend on their number
        points = np.asarray(tsne.fit_transform(np.asarray(vectors, dtype=np.float64)), dtype=np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - (low + high) / 2) / max(float((high - low).max()), 1e-12) + 0.5
