"""Tests of the calibrated p-values."""

import numpy as np
import pytest

from monitoring.drift.bootstrap import TestResult, bootstrap_tests, rate_per_window
from monitoring.drift.columns import category_test, distribution_test, gap_weights


def classes(
    values: np.ndarray, units: np.ndarray, current: np.ndarray, rate: float = 0.05, seed: int = 0
) -> TestResult:
    return bootstrap_tests({"a": category_test(values, gap_weights(current))}, units, rate=rate, seed=seed)["a"]


@pytest.mark.parametrize("rows_per_unit", [1, 5])
def test_equal_distributions_alarm_at_requested_rate(rows_per_unit: int) -> None:
    """Units that recur bring five times the rows to the window of their reference's."""
    alarms = 0
    current = np.arange(60 * (1 + rows_per_unit)) >= 60
    units = np.r_[np.arange(60), np.repeat(np.arange(60), rows_per_unit) + (60 if rows_per_unit == 1 else 0)]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        own = rng.choice(3, 200, p=[0.5, 0.3, 0.2])[units]
        values = np.where(rng.random(len(units)) < 0.5, own, rng.choice(3, len(units), p=[0.5, 0.3, 0.2]))
        alarms += classes(values, units, current, seed=seed).p_value <= 0.05
    assert 2 <= alarms <= 20  # the binomial's 99.9 % range around 10


def test_large_shift_gets_smallest_possible_p_value() -> None:
    values = np.r_[np.zeros(300, dtype=int), np.ones(100, dtype=int)]
    found = classes(values, np.arange(400), np.arange(400) >= 300, rate=0.01)
    assert found.p_value == pytest.approx(1 / (found.draws + 1))
    assert found.p_value < 0.01
    assert found.statistic > found.threshold


def test_rows_of_group_count_once() -> None:
    """40 units whose rows are all equal look like overwhelming evidence to a test of rows, and like 40 to ours."""
    of_unit = np.r_[np.arange(20) < 12, np.arange(20) < 8].astype(int)
    values, units = np.repeat(of_unit, 50), np.repeat(np.arange(40), 50)
    current = units >= 20
    assert classes(values, np.arange(len(units)), current).p_value < 0.02
    assert classes(values, units, current).p_value > 0.1


def test_unit_on_both_sides_cancels() -> None:
    """Units differ by far more than the window does from the reference, and all shift a little."""
    rng = np.random.default_rng(0)
    chance = np.repeat(rng.choice([0.05, 0.9], 100), 40)
    current = np.arange(4_000) % 40 >= 20
    values = (rng.random(4_000) < chance + 0.05 * current).astype(int)
    assert classes(values, np.arange(4_000) // 40 + 100 * current, current).p_value > 0.1  # as if they did not return
    assert classes(values, np.arange(4_000) // 40, current).p_value < 0.01


def test_group_ids_do_not_decide_p_value() -> None:
    rng = np.random.default_rng(0)
    values, units, current = rng.integers(3, size=300), rng.integers(50, size=300), np.arange(300) >= 200
    assert classes(values, units, current) == classes(values, (units * 7_919) % 1_009, current)


def test_numbers_are_compared_by_largest_gap() -> None:
    current = np.arange(100) >= 50
    test = distribution_test(current.astype(float), gap_weights(current))
    assert bootstrap_tests({"a": test}, np.arange(100), rate=0.05)["a"].statistic == pytest.approx(1.0)


def test_monthly_false_alarm_is_one_in_720_hours() -> None:
    assert rate_per_window(alarms=1, period_s=30 * 86_400, window_s=3_600) == pytest.approx(1 / 720)


def test_a_rate_needs_positive_numbers() -> None:
    with pytest.raises(ValueError, match="positive"):
        rate_per_window(alarms=0, period_s=1, window_s=1)
