"""Paired statistics over users: a bootstrap interval and a randomization test of the mean difference.

Both resample users, so they answer: how would this difference vary over other users of the same kind? They say nothing
of other seeds; run several for that. Users of several ranked lists weigh as many as they have, as in RecBole's own means.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Sample = Sequence[float] | np.ndarray
"""One value per user."""


class Interval(NamedTuple):
    """A point estimate with its interval."""

    value: float
    low: float
    high: float


def paired_bootstrap(
    ours: Sample,
    theirs: Sample,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
    weights: Sample | None = None,
) -> Interval:
    """Mean of `ours - theirs` with a percentile bootstrap interval (Efron, 1979) over pairs.

    Args:
        ours: one value per user.
        theirs: the same users in the same order.
        level: coverage of the interval.
        draws: bootstrap samples.
        seed: seed of the draws.
        weights: of the users, above 0; None counts all alike.

    Raises:
        ValueError: the two are not of equal length, or empty.
    """
    return mean_interval(_differences(ours, theirs), level, draws, seed, weights)


def mean_interval(
    values: Sample, level: float = 0.95, draws: int = 10_000, seed: int = 0, weights: Sample | None = None
) -> Interval:
    """Mean of one value per user with a percentile bootstrap interval over users; arguments as in `paired_bootstrap`."""
    sample = np.asarray(values, dtype=float)
    if weights is None or np.ptp(weights) == 0:
        return _interval(sample.mean(), _resampled_means(sample, draws, seed), level)
    weight = np.asarray(weights, dtype=float)
    # Equal seeds: the same users above and below the line.
    top, bottom = _resampled_means(sample * weight, draws, seed), _resampled_means(weight, draws, seed)
    return _interval(np.average(sample, weights=weight), top / bottom, level)


def paired_ratio(ours: Sample, theirs: Sample, level: float = 0.95, draws: int = 10_000, seed: int = 0) -> Interval:
    """Ratio of means, `mean(ours) / mean(theirs)`, with a percentile bootstrap interval over pairs.

    Raises:
        ValueError: as `paired_bootstrap`, or the mean of `theirs` is 0.
    """
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    _differences(a, b)
    if b.mean() == 0:
        raise ValueError("The ratio has no value: the mean of the second sample is 0.")
    top, bottom = _resampled_means(a, draws, seed), _resampled_means(b, draws, seed)  # equal seeds: the same users
    return _interval(a.mean() / b.mean(), top[bottom > 0] / bottom[bottom > 0], level)


def paired_randomization(
    ours: Sample, theirs: Sample, draws: int = 10_000, seed: int = 0, weights: Sample | None = None
) -> float:
    """Two-sided p-value of the mean difference under random sign flips of users (Fisher, 1935), never exactly 0.

    Raises:
        ValueError: as `paired_bootstrap`.
    """
    difference = _weighed(_differences(ours, theirs), weights)
    observed = abs(difference.mean())
    rng = np.random.default_rng(seed)
    extreme, done = 0, 0
    while done < draws:
        count = min(draws - done, max(1, 4_000_000 // len(difference)))
        signs = rng.integers(0, 2, size=(count, len(difference)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ difference) / len(difference) >= observed - 1e-15).sum())
        done += count
    return (extreme + 1) / (draws + 1)


def effect_size(ours: Sample, theirs: Sample, weights: Sample | None = None) -> float:
    """Cohen's d of paired samples (d_z): mean difference over the standard deviation of the differences.

    0 where all differences are 0, and infinite, with the sign of the mean, where all are the same other number.

    Raises:
        ValueError: as `paired_bootstrap`.
    """
    difference = _weighed(_differences(ours, theirs), weights)
    mean, spread = float(difference.mean()), float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    if mean == 0:
        return 0.0
    return mean / spread if spread else float(np.copysign(np.inf, mean))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false claim in the family at its level (Holm, 1979).

    Args:
        p_values: of one family of tests, in any order.

    Returns:
        for each test `max over smaller p of min(1, (m - rank) p)`, in the order given.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _differences(ours: Sample, theirs: Sample) -> np.ndarray:
    a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(
            f"Paired samples must be two non-empty lists of equal length; got shapes {a.shape} and {b.shape}."
        )
    return a - b


def _weighed(difference: np.ndarray, weights: Sample | None) -> np.ndarray:
    """Differences whose plain mean is the weighted one."""
    return difference if weights is None else difference * (np.asarray(weights) / np.mean(weights))


def _interval(value: float, resampled: np.ndarray, level: float) -> Interval:
    """A value with the percentiles of what it was in `[draws]` samples drawn again."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


def _resampled_means(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    block = max(1, 4_000_000 // len(values))
    for start in range(0, draws, block):
        count = min(block, draws - start)
        means[start : start + count] = values[rng.integers(0, len(values), size=(count, len(values)))].mean(axis=1)
    return means
