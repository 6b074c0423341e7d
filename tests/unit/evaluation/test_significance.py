import numpy as np
import pytest
from scipy import stats

from rporec_recbole.evaluation.ranks import metric_values
from rporec_recbole.evaluation.significance import paired_bootstrap, paired_randomization, paired_ratio


def test_interval_covers_and_sign_is_right():
    rng = np.random.default_rng(0)
    a = rng.normal(0.3, 1, 400)
    b = rng.normal(0, 1, 400)
    interval = paired_bootstrap(a, b, draws=2000)
    assert interval.low < a.mean() - b.mean() < interval.high
    assert interval.low > 0
    assert paired_randomization(a, b, draws=2000) < 0.01


def test_randomization_agrees_with_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.12, 1, 100), rng.normal(0, 1, 100)
    reference = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=5000,
        rng=0,
    )
    assert paired_randomization(a, b, draws=5000) == pytest.approx(reference.pvalue, abs=0.03)


def test_p_values_are_uniform_without_a_difference():
    rng = np.random.default_rng(2)
    values = [paired_randomization(*rng.normal(size=(2, 40)), draws=300, seed=i) for i in range(300)]
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_p_is_never_zero():
    assert paired_randomization([1.0] * 30, [0.0] * 30, draws=100) > 0


def test_ratio():
    assert paired_ratio([2.0, 4.0], [1.0, 2.0], draws=100).value == 2


def test_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="equal length"):
        paired_bootstrap([1.0], [1.0, 2.0])


def test_metrics_by_hand():
    np.testing.assert_allclose(metric_values([1, 3, 11], "ndcg@10"), [1, 0.5, 0])
    np.testing.assert_allclose(metric_values([1, 4, 11], "mrr@10"), [1, 0.25, 0])
    np.testing.assert_allclose(metric_values([10, 11], "hit@10"), [1, 0])
