"""Cells of the drift benchmark on independent rows of which only the unit ids recur.

Nothing else depends on the unit, so every alarm is the test's own mistake: a test that takes rows of returning units
for new evidence alarms in all of these windows.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

import numpy as np
import polars as pl

from benchmarks.figures import Row
from benchmarks.monitoring.chain import Chain
from benchmarks.monitoring.drift_traffic import Traffic
from benchmarks.monitoring.live_cells import RATE, chain_rows, rate_rows
from benchmarks.monitoring.live_traffic import MONDAY, window_of
from monitoring.drift.detect import SLOW_COLUMNS, SLOW_SHARE, detect_drift
from monitoring.drift.sample import Ints, Sample
from monitoring.monitor import WatchedVersion, WatchSettings

SLOW_UNITS: Final = (500, 600, 1_500, 0)  # 0: none recurs
WINDOW_ROWS: Final = (2_000, 5_000)
UNITS: Final = 800
HOURLY_ROWS: Final = 500

Figures = dict[str, float]
RecurringCell = tuple[Callable[[Traffic, int], Figures], int, Callable[[dict[str, list[float]]], list[Row]]]


def slow_case(units: int) -> str:
    """Return the name of a slow test with so many units."""
    return f"{_named(units)}, slow test: 4,000 rows, reference 1,000"


def window_case(size: int) -> str:
    """Return the name of a window's own test of so many rows."""
    return f"{_named(UNITS)}, windows of {size:,}, reference 1,000"


def chain_case(units: int, hours: int) -> str:
    """Return the name of a chain with so many units."""
    return f"{_named(units)}, chain over {hours:,} hourly windows of {HOURLY_ROWS}"


def _named(units: int) -> str:
    return f"independent rows of {units:,} recurring units" if units else "independent rows, no unit recurs"


def _drawn(traffic: Traffic, rng: np.random.Generator, rows: int, units: int) -> Sample:
    sample = traffic.draw(rng, rows)
    return replace(sample, groups=rng.integers(units, size=rows)) if units else sample


def slow_test(units: int, traffic: Traffic, seed: int) -> Figures:
    """Hold 4,000 rows against a reference of 1,000 at a fifth of the rate."""
    rng = np.random.default_rng([8, units, seed])
    reference, pooled = (
        replace(_drawn(traffic, rng, rows, units), embeddings=None) for rows in (1_000, 8 * HOURLY_ROWS)
    )
    report = detect_drift(
        reference, pooled, false_alarm_rate=RATE * SLOW_SHARE, seed=seed, columns=SLOW_COLUMNS
    )  # fmt: skip
    return {"alarm": bool(report.drifted)}


def window_test(size: int, traffic: Traffic, seed: int) -> Figures:
    """Hold a window against a reference of 1,000 at the whole rate."""
    rng = np.random.default_rng([9, size, seed])
    reference, window = (_drawn(traffic, rng, rows, UNITS) for rows in (1_000, size))
    return {"alarm": bool(detect_drift(reference, window, false_alarm_rate=RATE, seed=seed).drifted)}


def chain_of(units: int, hours: int, traffic: Traffic, seed: int) -> Figures:
    """Run the monitor's chain over hourly windows; some units are more active than others (lognormal)."""
    rng = np.random.default_rng([10, units, seed])
    active = rng.lognormal(0.0, 1.0, units) if units else None
    champion = WatchedVersion(version="1", champion_since=MONDAY, snapshot_at=MONDAY)
    chain = Chain(champion=champion, settings=WatchSettings())
    judged = []
    for hour in range(hours):
        sample = traffic.draw(rng, HOURLY_ROWS)
        ids = hour * HOURLY_ROWS + np.arange(HOURLY_ROWS)
        given = ids if active is None else rng.choice(units, HOURLY_ROWS, p=active / active.sum())
        judged.append(chain.judge(window_of(hour, hour + 1), _frame(sample, hour, ids, given)))
    return {
        "windows": hours,
        "compared": sum(each.compared for each in judged),
        "alarms": sum(each.compared and each.alarms for each in judged),
        "stale": sum(each.compared and each.verdict.verdict == "STALE" for each in judged),
    }


def _frame(sample: Sample, hour: int, ids: Ints, units: Ints) -> pl.DataFrame:
    """Return a window's rows without feedback, as `load_window` gives them."""
    n, start = sample.rows, MONDAY + timedelta(hours=hour)
    return pl.DataFrame(
        {
            "request_id": [f"{number:08d}-{number * 2_654_435_761 % 2**32:08x}" for number in ids.tolist()],
            "at": [start + timedelta(seconds=7 * row) for row in range(n)],
            "unit_hash": [f"{unit:016x}" for unit in units.tolist()],
            "unit_given": [True] * n,
            "segment": list(sample.segments),
            "text": list(sample.texts or ()),
            "aspect": list(sample.aspects or ()),
            "label": pl.Series(sample.labels, dtype=pl.Int8),
            "scores": sample.scores.tolist(),
            "model_version": ["1"] * n,
            "arm": ["champion"] * n,
            "shadow": [False] * n,
            "feedback_label": pl.Series([None] * n, dtype=pl.Int8),
            "feedback_at": pl.Series([None] * n, dtype=pl.Datetime("us", "UTC")),
            "feedback_source": pl.Series([None] * n, dtype=pl.String),
            "sampling_probability": pl.Series([None] * n, dtype=pl.Float64),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def recurring_cells(runs: int, chains: int, hours: int) -> dict[str, RecurringCell]:
    """Return every cell by name: what is repeated, how often, and how it is summed up.

    Args:
        runs: windows of a cell of single windows.
        chains: chains of `hours` windows, with units that recur and without.
        hours: windows of a chain.
    """
    table: dict[str, RecurringCell] = {}
    for units in SLOW_UNITS:
        case = slow_case(units)
        table[case] = (partial(slow_test, units), runs, partial(rate_rows, case, RATE * SLOW_SHARE))
    for size in WINDOW_ROWS:
        case = window_case(size)
        table[case] = (partial(window_test, size), runs, partial(rate_rows, case, RATE))
    for units in (UNITS, 0):
        case = chain_case(units, hours)
        table[case] = (partial(chain_of, units, hours), chains, partial(chain_rows, case))
    return table
