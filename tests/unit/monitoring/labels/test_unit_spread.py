"""Spread of right answers between units that return, and the detector of slow loss under it."""

import numpy as np
import polars as pl
import pytest

from monitoring.drift.sample import sample_of
from monitoring.drift.sequential import RightAnswers, detect_slow_loss
from monitoring.labels.unit_spread import ALIKE, unit_spread
from tests.unit.monitoring.traffic.frames import frame, hours

WINDOWS = 30
NOBODY = np.zeros(0, dtype=np.int64)


def answers(window: int, units: list[str], right: np.ndarray) -> pl.DataFrame:
    """Rows of an hourly window, each with a label."""
    n = len(units)
    return frame(hours(window), units).with_columns(
        aspect=pl.lit("battery"),
        label=pl.lit(0, pl.Int8),
        scores=pl.Series([[0.8, 0.1, 0.1]] * n),
        feedback_label=pl.Series(np.where(right, 0, 2), dtype=pl.Int8),
        feedback_at=pl.col("at"),
        sampling_probability=pl.lit(None, pl.Float64),
    )


def stream(rng: np.random.Generator, accuracy: np.ndarray, name: str = "u", windows: int = WINDOWS) -> pl.DataFrame:
    """Windows in each of which every unit has one label."""
    units = [f"{name}{k}" for k in range(len(accuracy))]
    return pl.concat([answers(k, units, rng.random(len(accuracy)) < accuracy) for k in range(windows)])


def groups(rows: pl.DataFrame) -> np.ndarray:
    return np.unique(sample_of(rows).groups)


def test_units_that_differ_have_their_variance() -> None:
    rng = np.random.default_rng(0)
    spread = unit_spread(None, stream(rng, np.tile([0.5, 1.0], 20)))
    assert spread.covariance == pytest.approx(0.0625, abs=0.02)
    assert spread.meeting == pytest.approx(1 / 40)
    assert spread.variance(NOBODY) == pytest.approx(spread.covariance / 40)


def test_units_alike_add_next_to_nothing() -> None:
    rows = stream(np.random.default_rng(1), np.full(40, 0.8))
    assert unit_spread(rows, rows).variance(NOBODY) < 1e-4
    assert unit_spread(rows, None) is ALIKE


def test_units_of_baseline_cancel() -> None:
    rng = np.random.default_rng(2)
    accuracy = np.tile([0.5, 1.0], 20)
    before, now, others = stream(rng, accuracy), stream(rng, accuracy), stream(rng, accuracy, "other")
    spread = unit_spread(before, now)
    assert spread.variance(groups(before)) == 0.0
    assert spread.variance(groups(others)) > 0.001


def test_repeated_labels_of_session_count_once() -> None:
    rng = np.random.default_rng(3)
    rows = stream(rng, np.tile([0.5, 1.0], 20))
    again = pl.concat([rows, rows.with_columns(pl.col("request_id") + "-again")])
    assert unit_spread(None, again).variance(NOBODY) == unit_spread(None, rows).variance(NOBODY)


def test_harder_units_alone_are_no_slow_loss() -> None:
    """Windows of units that the baseline has not: their own accuracy is no evidence of a loss, whoever returns."""
    baseline = RightAnswers(right=82_000, labelled=100_000)
    alarms = {"independent": 0, "by unit": 0}
    for seed in range(60):
        rng = np.random.default_rng([4, seed])
        accuracy = rng.beta(2.46, 0.54, size=40)
        last = stream(rng, accuracy, windows=8)
        windows = [RightAnswers(right=int((rng.random(40) < accuracy).sum()), labelled=40) for _ in range(100)]
        for name, variance in (("independent", 0.0), ("by unit", unit_spread(None, last).variance(NOBODY))):
            found = detect_slow_loss(baseline, windows, unit_variance=variance)
            alarms[name] += any(state.alarm for state in found)
    assert alarms["by unit"] <= 6 < 3 * 6 < alarms["independent"]
