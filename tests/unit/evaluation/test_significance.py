"""The paired bootstrap covers the truth as often as it says, also where rows share a text."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from absa.evaluation.counts import f1_of, mean_f1_of, pos_neg_f1
from absa.evaluation.significance import binomial_tail, holm, paired_bootstrap, paired_bootstraps, sign_test


def noisy(rng: np.random.Generator, labels: np.ndarray, accuracy: float) -> np.ndarray:
    return np.where(rng.random(len(labels)) < accuracy, labels, (labels + rng.integers(1, 3, len(labels))) % 3)


def test_gain_is_difference_of_scores() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    better, worse = noisy(rng, labels, 0.9), noisy(rng, labels, 0.7)
    gain = paired_bootstrap(labels, better, worse, clusters=range(400))
    assert gain.value == pytest.approx(pos_neg_f1(labels, better) - pos_neg_f1(labels, worse))
    assert gain.low < gain.value < gain.high
    assert gain.low > 0
    assert gain.p_worse_than(0.02) > 0.99


def test_gain_of_many_labels_is_difference_of_scores() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 60, 400)
    better, worse = (np.where(rng.random(400) < share, labels, rng.integers(0, 60, 400)) for share in (0.9, 0.7))
    metric = partial(mean_f1_of, labels=range(60))
    gain = paired_bootstrap(labels, better, worse, clusters=range(400), metric=metric, n_labels=60, resamples=1000)
    f1 = [f1_score(labels, each, labels=range(60), average="macro", zero_division=0) for each in (better, worse)]
    assert gain.value == pytest.approx(f1[0] - f1[1])
    assert 0 < gain.low < gain.value < gain.high


def test_several_metrics_have_the_gains_of_each() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    first, second = noisy(rng, labels, 0.8), noisy(rng, labels, 0.7)
    together = paired_bootstraps(labels, first, second, clusters=range(300), metrics=f1_of)
    alone = [
        paired_bootstrap(labels, first, second, clusters=range(300), metric=partial(mean_f1_of, labels=[label]))
        for label in range(3)
    ]
    assert together == alone


def test_equal_seeds_give_equal_intervals() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 200)
    first, second = noisy(rng, labels, 0.8), noisy(rng, labels, 0.8)
    once = paired_bootstrap(labels, first, second, clusters=range(200))
    assert paired_bootstrap(labels, first, second, clusters=range(200)) == once


def test_equal_predictions_gain_nothing_for_sure() -> None:
    labels = np.array([0, 1, 2] * 20)
    gain = paired_bootstrap(labels, labels, labels, clusters=range(60))
    assert (gain.value, gain.low, gain.high, gain.se) == (0, 0, 0, 0)
    assert gain.p_worse_than(0.02) == 1
    assert gain.p_worse_than(-0.02) == 0


def test_rows_of_one_text_count_as_one() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 100)
    first, second = noisy(rng, labels, 0.8), noisy(rng, labels, 0.7)
    alone = paired_bootstrap(labels, first, second, clusters=range(100))
    copies = [np.repeat(each, 9) for each in (labels, first, second)]
    together = paired_bootstrap(*copies, clusters=[index // 9 for index in range(900)])
    apart = paired_bootstrap(*copies, clusters=range(900))
    assert together.se == pytest.approx(alone.se, rel=0.05)
    assert apart.se == pytest.approx(alone.se / 3, rel=0.1)


@pytest.mark.slow
def test_equal_models_are_rarely_called_better() -> None:
    rng = np.random.default_rng(3)
    better = 0
    for trial in range(400):
        labels = rng.integers(0, 3, 200)
        gain = paired_bootstrap(
            labels, noisy(rng, labels, 0.78), noisy(rng, labels, 0.78), clusters=range(200), resamples=1000, seed=trial
        )
        better += gain.low > 0
    assert better <= stats.binom.ppf(0.999, 400, 0.025)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        paired_bootstrap([], [], [], clusters=[])


@given(p_values=st.lists(st.floats(0, 1), max_size=12))
def test_holm_raises_p_values_and_keeps_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    assert [adjusted[index] for index in order] == sorted(adjusted)


def test_holm_gives_the_textbook_values() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("successes", "trials", "tail"), [(0, 0, 1.0), (0, 3, 1.0), (1, 3, 1 - 0.6**3), (2, 3, 0.352), (3, 3, 0.4**3)]
)
def test_binomial_tail_counts_the_successes_themselves(successes: int, trials: int, tail: float) -> None:
    assert binomial_tail(successes, trials, 0.4) == pytest.approx(tail)


def test_sign_test_uses_cases_one_fails() -> None:
    assert sign_test(0, 0) == 1
    assert sign_test(8, 0) == pytest.approx(2**-8)
    assert sign_test(0, 8) == pytest.approx(1)
