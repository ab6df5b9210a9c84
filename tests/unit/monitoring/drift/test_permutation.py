"""Tests of the calibrated p-values."""

import numpy as np
import pytest

from monitoring.drift.permutation import Test, chi_square, largest_gap, permutation_tests, rate_per_window


def shares(values: np.ndarray) -> Test:
    return Test(features=(values[:, None] == np.arange(3)).astype(np.float32), statistic=chi_square)


def test_equal_distributions_alarm_at_requested_rate() -> None:
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        values = rng.choice(3, 260, p=[0.5, 0.3, 0.2])
        found = permutation_tests({"a": shares(values)}, np.arange(260), np.arange(260) >= 200, rate=0.05, seed=seed)
        alarms += found["a"].p_value <= 0.05
    assert 2 <= alarms <= 20  # the binomial's 99.9 % range around 10


def test_large_shift_gets_smallest_possible_p_value() -> None:
    values = np.r_[np.zeros(300, dtype=int), np.ones(100, dtype=int)]
    found = permutation_tests({"a": shares(values)}, np.arange(400), np.arange(400) >= 300, rate=0.01)["a"]
    assert found.p_value == pytest.approx(1 / (found.draws + 1))
    assert found.p_value < 0.01
    assert found.statistic > found.threshold


def test_rows_of_group_count_once() -> None:
    """40 units whose rows are all equal look like overwhelming evidence to a test of rows, and like 40 to ours."""
    of_unit = np.r_[np.arange(20) < 12, np.arange(20) < 8].astype(int)
    values, units = np.repeat(of_unit, 50), np.repeat(np.arange(40), 50)
    current = units >= 20
    grouped = permutation_tests({"a": shares(values)}, units, current, rate=0.05)["a"]
    single = permutation_tests({"a": shares(values)}, np.arange(len(units)), current, rate=0.05)["a"]
    assert single.p_value < 0.02
    assert grouped.p_value > 0.1


def test_permutations_by_kind_match_row_permutations() -> None:
    """Features that tell every row apart, by a part too small to matter, cannot be drawn by kind."""
    rng = np.random.default_rng(0)
    values, units = rng.choice(3, 900, p=[0.3, 0.3, 0.4]), np.repeat(np.arange(450), 2)
    current = units >= 300
    values[current & (rng.random(900) < 0.2)] = 2
    by_kind = shares(values)
    by_row = Test(features=by_kind.features + rng.normal(0, 1e-6, (900, 3)).astype(np.float32), statistic=chi_square)
    p_values = np.array(
        [
            [permutation_tests({"a": test}, units, current, rate=0.001, seed=seed)["a"].p_value for seed in range(12)]
            for test in (by_kind, by_row)
        ]
    )
    assert 0.001 < p_values[0].mean() < 0.2
    assert p_values[0].mean() == pytest.approx(p_values[1].mean(), rel=0.35)


def test_numbers_are_compared_by_largest_gap() -> None:
    reference, current = np.zeros(50), np.ones(50)
    cuts = np.array([0.0, 1.0])
    features = (np.r_[reference, current][:, None] <= cuts).astype(np.float32)
    test = Test(features=features, statistic=largest_gap)
    found = permutation_tests({"a": test}, np.arange(100), np.arange(100) >= 50, rate=0.05)["a"]
    assert found.statistic == 1.0


def test_monthly_false_alarm_is_one_in_720_hours() -> None:
    assert rate_per_window(alarms=1, period_s=30 * 86_400, window_s=3_600) == pytest.approx(1 / 720)


def test_a_rate_needs_positive_numbers() -> None:
    with pytest.raises(ValueError, match="positive"):
        rate_per_window(alarms=0, period_s=1, window_s=1)
