"""Semantic ids: a few codes for each item, the same beginning for items whose texts are alike.

S. Rajput et al., "Recommender Systems with Generative Retrieval" (TIGER), NeurIPS 2023 (arXiv 2305.05065), make them with an RQ-VAE. Here
it is k-means of residuals, which has nothing to train, no codebook that collapses and one seed (docs/rivals.md).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans


def residual_codes(vectors: np.ndarray, levels: int, size: int, seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Codes of items: on each level the nearest of `size` means of what the levels before have left.

    Args:
        vectors: `[N, D]`.
        levels: how many codes an item has.
        size: of each codebook; where fewer vectors differ, it has fewer.
        seed: of k-means.

    Returns:
        `[N, levels]` codes, and for each level its means, `[size, D]`; the means of an item's codes add up to nearly its vector.
    """
    left, codes, books = vectors.astype(np.float64), [], []
    for _ in range(levels):
        different = len(np.unique(left.round(6), axis=0))
        means = KMeans(min(size, different), n_init=1, random_state=seed).fit(left)
        codes.append(means.labels_)
        books.append(means.cluster_centers_)
        left = left - means.cluster_centers_[means.labels_]
    return np.stack(codes, axis=1).astype(np.int64), books


def told_apart(codes: np.ndarray) -> np.ndarray:
    """Codes with one more, `[N, levels] -> [N, levels + 1]`: 0, 1, 2, ... among items whose codes are the same, so that no two ids are."""
    return np.c_[codes, pd.DataFrame(codes).groupby(list(range(codes.shape[1]))).cumcount()]
