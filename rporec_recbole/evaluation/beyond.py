"""What top-k lists are like beside how often they are right: how much of the catalogue they show, how new and how different the items
are, and whether they keep the mix of the user's taste. docs/beyond_accuracy.md explains them with an example.

RecBole's own are not used: its coverage counts the padding item, and its entropy falls where diversity rises.

Letters in shapes: L lists, K places, N items (0 is padding and stands where a list has ended), U users (0 is padding), D size of a text
vector, C categories.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

DEPTH = 20
"""How many items of each list a run keeps, and so the largest k of these measures."""
MEASURES = ("coverage", "gini", "novelty", "diversity", "debiased_recall", "calibration_kl")
_AT_ONCE = 1 << 8  # lists; a catalogue may have thousands of categories
_SHARE_OF_TASTE = 0.01  # alpha of Steck (2018)
_BETA = 0.5  # of Steck (2011)


class Known(NamedTuple):
    """What is known of items and users, the same for all models of a data set.

    Attributes:
        choosers: `[N]` in how many users' training part an item stands.
        users: how many users have a training part.
        vectors: `[N, D]` of item texts, rows of length 1, or 0 where a text says nothing; None without texts.
        categories: sparse `[N, C]`, rows that sum to 1, or to 0 where an item has none; None without a column of categories.
        histories: sparse `[U, N]`, 1 where a user has an item in the training or validation part.
    """

    choosers: np.ndarray
    users: int
    vectors: np.ndarray | None = None
    categories: Any = None
    histories: Any = None


class Tally:
    """Measures lists that come batch by batch; memory does not grow with them.

    Args:
        candidates: how many items could stand in them.
        k: how many places count.
        known: of items and users; None leaves coverage and Gini.
    """

    def __init__(self, candidates: int, k: int, known: Known | None = None) -> None:
        self._candidates, self._k, self._known = candidates, k, known
        self._counts = np.zeros(candidates + 1, dtype=np.int64)
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, ids: np.ndarray, owners: np.ndarray) -> None:
        """Some lists.

        Args:
            ids: `[L, K]` item numbers, best first, 0 behind the end of a list.
            owners: `[L]` numbers of the users.
        """
        known = self._known
        for start in range(0, len(ids), _AT_ONCE):
            top, own = ids[start : start + _AT_ONCE, : self._k], owners[start : start + _AT_ONCE]
            self._counts += np.bincount(top.ravel(), minlength=len(self._counts))
            if known is None:
                continue
            self._sum("novelty", novelty(top, known.choosers, known.users))
            if known.vectors is not None:
                self._sum("diversity", diversity(top, known.vectors))
            if known.categories is not None:
                self._sum("calibration_kl", calibration_kl(top, own, known.categories, known.histories))

    def _sum(self, name: str, values: np.ndarray) -> None:
        total, count = self._sums.get(name, (0.0, 0))
        there = values[~np.isnan(values)]
        self._sums[name] = total + float(there.sum()), count + len(there)

    def values(self, rows: pd.DataFrame | None = None) -> dict[str, float]:
        """Everything that can be said of the lists, by name (`coverage@10`); what cannot be said is left out.

        Args:
            rows: of `ranks.rank_table`, of the same lists, for the recall.
        """
        found = {name: total / count for name, (total, count) in self._sums.items() if count}
        if self._counts[1:].any():
            found["coverage"] = coverage(self._counts, self._candidates)
            found["gini"] = gini(self._counts, self._candidates)
        if rows is not None and len(rows) and "item_popularity" in rows:
            found["debiased_recall"] = debiased_recall(rows["rank"], rows["item_popularity"], self._k)
        return {f"{name}@{self._k}": found[name] for name in MEASURES if name in found}


def coverage(counts: np.ndarray, candidates: int) -> float:
    """Share of the candidates that stand in any list: catalogue coverage (Ge, Delgado-Battenfeld and Jannach, RecSys 2010).

    Args:
        counts: `[N]` in how many lists each item stands; number 0, padding, is not looked at.
        candidates: how many items could have stood there.
    """
    return int((counts[1:] > 0).sum()) / candidates


def gini(counts: np.ndarray, candidates: int) -> float:
    """How unequally the places are given out: 0 where each candidate has as many, 1 where one item has all.

    `sum_j (2 j - n - 1) p_j / (n - 1)` over all n candidates, those without a place too, by rising share `p_j` of the places (Shani and
    Gunawardana, Evaluating recommendation systems, 2011). Arguments as for `coverage`.
    """
    there = np.sort(counts[1:][counts[1:] > 0])
    if candidates < 2 or not len(there):
        return 0.0
    places = np.arange(candidates - len(there), candidates) + 1  # items without a place stand before and add nothing
    return float(((2 * places - candidates - 1) * (there / there.sum())).sum() / (candidates - 1))


def novelty(ids: np.ndarray, choosers: np.ndarray, users: int) -> np.ndarray:
    """Mean self-information of each list's items, in bits: `log2(users / choosers)` (Zhou et al., PNAS 107(10), 2010; Vargas and Castells,
    RecSys 2011). An item that nobody has chosen counts as chosen by one.

    Args:
        ids: `[L, K]`.
        choosers: `[N]` how many users have an item in the training part.
        users: how many there are.

    Returns:
        `[L]`, no number for an empty list.
    """
    bits = np.log2(max(1, users) / np.maximum(choosers, 1))
    return _means(np.where(ids > 0, bits[ids], 0.0).sum(axis=1), (ids > 0).sum(axis=1))


def diversity(ids: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Mean of `1 - cosine` over the pairs of items of each list: intra-list distance (Smyth and McClave, ICCBR 2001; Ziegler et al., WWW
    2005). Items whose text says nothing are in no pair.

    Args:
        ids: `[L, K]`.
        vectors: `[N, D]`, rows of length 1 or 0; row 0 is 0.

    Returns:
        `[L]`, no number for a list without a pair.
    """
    own = vectors[ids].astype(np.float64)
    count = (np.abs(own).sum(axis=2) > 0).sum(axis=1)
    # All pairs of unit vectors: the square of their sum, without each one's own.
    cosines = ((own.sum(axis=1) ** 2).sum(axis=1) - (own**2).sum(axis=(1, 2))) / 2
    pairs = count * (count - 1) // 2
    return _means(pairs - cosines, pairs)


def calibration_kl(ids: np.ndarray, owners: np.ndarray, categories: Any, histories: Any) -> np.ndarray:
    """How far each list's mix of categories is from that of its user's history: 0 where they are the same, larger where taste is lost.

    `KL(p || q~)` in nats with `q~ = 0.99 q + 0.01 p` (Steck, Calibrated recommendations, RecSys 2018), where p and q are the means of the
    items' own mixes over history and list, each item once and alike. Items without a category are left out.

    Args:
        ids: `[L, K]`.
        owners: `[L]` numbers of the users.
        categories: sparse `[N, C]`, see `Known`; row 0 is 0.
        histories: sparse `[U, N]`.

    Returns:
        `[L]`, no number for a list whose user or whose items have no category.
    """
    taste = (histories[owners] @ categories).toarray()
    shown = np.zeros_like(taste)
    for place in range(ids.shape[1]):
        shown += categories[ids[:, place]].toarray()
    found = np.full(len(ids), np.nan)
    told = (taste.sum(axis=1) > 0) & (shown.sum(axis=1) > 0)
    p, q = (one[told] / one[told].sum(axis=1, keepdims=True) for one in (taste, shown))
    smooth = (1 - _SHARE_OF_TASTE) * q + _SHARE_OF_TASTE * p
    found[told] = np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, smooth, 1)), 0.0).sum(axis=1)
    return found


def debiased_recall(ranks: Any, popularity: Any, k: int) -> float:
    """Recall in which a target weighs the less the more popular it is: `1 / sqrt(n)` for n training interactions, a cold one 1.

    `sum of the weights of the targets within k / sum of the weights of all`: the popularity-stratified recall of Steck (Item popularity and
    recommendation accuracy, RecSys 2011) with beta = 0.5. Over all targets at once: of one target a user the weights would cancel out.

    Args:
        ranks: `[P]` of the targets, 1 is best.
        popularity: `[P]` training interactions of the targets.
        k: how many places count.
    """
    weights = np.maximum(np.asarray(popularity, dtype=float), 1) ** -_BETA
    return float((weights * (np.asarray(ranks) <= k)).sum() / weights.sum())


def _means(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
