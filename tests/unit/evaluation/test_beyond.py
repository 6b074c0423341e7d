"""Measures of lists, each beside a value that was computed by hand."""

import math

import numpy as np
import pytest
from scipy import sparse

from rporec_recbole.evaluation.beyond import (
    MEASURES,
    Known,
    Tally,
    calibration_kl,
    coverage,
    debiased_recall,
    diversity,
    gini,
    novelty,
)
from rporec_recbole.evaluation.ranks import rank_table

# Items a to d are 1 to 4; two lists of two, a b and a c.
IDS = np.array([[1, 2], [1, 3]])
COUNTS = np.array([0, 2, 1, 1, 0])


def test_coverage_and_gini_by_hand():
    assert coverage(COUNTS, 4) == 3 / 4
    # Shares 0, 1/4, 1/4, 2/4, so (-3 * 0 - 1/4 + 1/4 + 3 * 2/4) / 3.
    assert gini(COUNTS, 4) == pytest.approx(0.5)
    assert gini(np.array([9, 5, 5, 5, 5]), 4) == pytest.approx(0)  # even; the padding item's nine are not looked at
    assert gini(np.array([0, 7, 0, 0, 0]), 4) == pytest.approx(1)  # one item has all
    assert coverage(np.array([9, 7, 0, 0, 0]), 4) == 1 / 4


def test_gini_is_the_mean_difference_over_twice_the_mean():
    """The other definition: half the relative mean absolute difference, here over n - 1 in place of n."""
    counts = np.random.default_rng(0).integers(0, 9, 30)
    differences = np.abs(counts[:, None] - counts[None, :]).sum() / (2 * len(counts) * counts.sum())
    assert gini(np.r_[0, counts], 30) == pytest.approx(differences * 30 / 29)


def test_novelty_by_hand():
    choosers = np.array([0, 4, 1, 0, 2])
    # 8 users: a has log2(8 / 4) = 1 bit, b 3; c, never chosen, counts as chosen once.
    assert novelty(IDS, choosers, 8).tolist() == [2, 2]
    found = novelty(np.array([[4, 0], [0, 0]]), choosers, 8)
    assert found[0] == 2  # the end of a list is no item
    assert np.isnan(found[1])


def test_diversity_by_hand():
    vectors = np.array([[0, 0], [1, 0], [0, 1], [1, 0], [0, 0], [0.6, 0.8]], dtype=np.float32)
    assert diversity(IDS, vectors) == pytest.approx([1, 0])
    # a, b and the last: cosines 0, 0.6, 0.8.
    assert diversity(np.array([[1, 2, 5]]), vectors) == pytest.approx([(1 + 0.4 + 0.2) / 3])
    assert diversity(np.array([[1, 4, 2]]), vectors) == pytest.approx([1])  # d's text says nothing: it is in no pair
    assert np.isnan(diversity(np.array([[1, 4], [1, 0]]), vectors)).all()


def test_calibration_by_hand():
    categories = sparse.csr_matrix([[0, 0], [1, 0], [0, 1], [0.5, 0.5], [0, 0]])
    histories = sparse.csr_matrix([[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]])
    # User 1 likes both alike, and gets both, or a and c: q = (3/4, 1/4).
    found = calibration_kl(np.array([[1, 2], [1, 3]]), np.array([1, 1]), categories, histories)
    mixed = (0.99 * 0.75 + 0.005, 0.99 * 0.25 + 0.005)
    assert found == pytest.approx([0, 0.5 * math.log(0.5 / mixed[0]) + 0.5 * math.log(0.5 / mixed[1])])
    # User 2 likes the first alone and gets the second alone: log(1 / 0.01).
    assert calibration_kl(np.array([[2, 0]]), np.array([2]), categories, histories) == pytest.approx([math.log(100)])
    # No category in the history, none in the list, nobody.
    none = calibration_kl(np.array([[1, 2], [4, 0], [1, 2]]), np.array([3, 1, 0]), categories, histories)
    assert np.isnan(none).all()


def test_debiased_recall_by_hand():
    # Weights 1, 1/2 and, of a cold target, 1.
    assert debiased_recall([1, 11, 3], [1, 4, 0], 10) == pytest.approx(2 / 2.5)
    assert debiased_recall([11, 1, 11], [1, 4, 0], 10) == pytest.approx(0.5 / 2.5)
    assert debiased_recall([1, 11], [7, 7], 10) == pytest.approx(0.5)  # of equal popularity: plain recall


def test_a_tally_of_batches_is_that_of_all_at_once():
    rng = np.random.default_rng(1)
    ids = rng.permuted(np.tile(np.arange(1, 31), (2500, 1)), axis=1)[:, :12]
    ids[::7, 5:] = 0
    ids[3] = 0
    owners = rng.integers(1, 50, len(ids))
    vectors = rng.normal(size=(31, 4))
    vectors = np.vstack([np.zeros(4), vectors[1:] / np.linalg.norm(vectors[1:], axis=1, keepdims=True)])
    categories = sparse.csr_matrix(np.vstack([[0, 0, 0], np.eye(3)[rng.integers(0, 3, 30)]]))
    histories = sparse.csr_matrix((rng.random((50, 31)) < 0.2).astype(float))
    known = Known(rng.integers(0, 40, 31), 49, vectors, categories, histories)
    whole, parts = Tally(30, 10, known), Tally(30, 10, known)
    whole.add(ids, owners)
    for start in range(0, len(ids), 300):
        parts.add(ids[start : start + 300], owners[start : start + 300])
    rows = rank_table("test", [str(one) for one in range(9)], ["i"] * 9, range(5, 14), 1, range(9))
    assert whole.values(rows) == pytest.approx(parts.values(rows))
    assert list(whole.values(rows)) == [f"{name}@10" for name in MEASURES]
    top = ids[:, :10]
    pairs = [
        np.mean([1 - vectors[i] @ vectors[j] for a, i in enumerate(row) for j in row[a + 1 :]])
        for row in (one[one > 0] for one in top[:20])
        if len(row) > 1
    ]
    assert np.nanmean(diversity(top[:20], vectors)) == pytest.approx(np.mean(pairs))


def test_what_cannot_be_said_is_left_out():
    tally = Tally(4, 2)
    assert tally.values() == {}
    tally.add(IDS, np.array([1, 2]))
    assert list(tally.values()) == ["coverage@2", "gini@2"]
    tally = Tally(4, 2, Known(np.ones(5, dtype=int), 3))
    tally.add(IDS, np.array([1, 2]))
    assert list(tally.values()) == ["coverage@2", "gini@2", "novelty@2"]
