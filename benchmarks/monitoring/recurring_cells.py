"""Cells of the drift benchmark on independent rows of which only the unit ids recur, and of slow loss by unit.

Where nothing else depends on the unit, every alarm is the test's own mistake: a test that takes rows of returning units
for new evidence alarms in all of these windows. For slow loss the units differ in how often they are answered right.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

import numpy as np
import polars as pl

from absa.policies import StalenessPolicy
from benchmarks.figures import Row, share
from benchmarks.monitoring.chain import Chain
from benchmarks.monitoring.drift_traffic import Traffic
from benchmarks.monitoring.live_cells import RATE, bound, chain_rows, rate_rows
from benchmarks.monitoring.live_traffic import MONDAY, window_of
from monitoring.drift.detect import SLOW_COLUMNS, SLOW_SHARE, detect_drift
from monitoring.drift.sample import Ints, Sample, sample_of
from monitoring.drift.sequential import RightAnswers
from monitoring.labels.unit_spread import unit_spread
from monitoring.losses import slow_loss
from monitoring.monitor import WatchedVersion, WatchSettings
from monitoring.performance import FrozenTest
from monitoring.traffic.kept_rows import RECENT_WINDOWS, of_window

SLOW_UNITS: Final = (500, 600, 1_500, 0)  # 0: none recurs
WINDOW_ROWS: Final = (2_000, 5_000)
UNITS: Final = 800
HOURLY_ROWS: Final = 500
LOSS_UNITS: Final = 60
LOSS_WINDOWS: Final = 50
LOSS: Final = 0.12
"""Points of right answers that a detectable loss takes."""
_LOSS_LABELS: Final = 40
_BASELINE_UNITS: Final = 800
_BASELINE_WINDOWS: Final = 50
_RIGHT: Final = 0.82
_LIKENESS: Final = 3.0  # sum of the parameters of the units' beta distribution: their shares spread by 19 points

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


def loss_case(known: bool, loss: float = 0.0) -> str:
    """Return the name of a detector of slow loss on units that the reference knows or not."""
    whose = f"the reference's {LOSS_UNITS} units" if known else f"{LOSS_UNITS} units that the reference does not have"
    lost = f"a loss of {loss * 100:g} points" if loss else "no loss"
    return f"{_LOSS_LABELS} labels per window of {whose}, {lost}, {LOSS_WINDOWS} windows"


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


def slow_loss_of(known: bool, loss: float, traffic: Traffic, seed: int) -> Figures:
    """Run the detector of slow loss over windows of units that differ; it starts again after an alarm."""
    rng = np.random.default_rng([11, seed])
    count = _BASELINE_UNITS + LOSS_UNITS
    accuracy, activity = rng.beta(_RIGHT * _LIKENESS, (1 - _RIGHT) * _LIKENESS, count), rng.lognormal(0.0, 1.2, count)

    def window(hour: int, units: Ints, lost: float = 0.0) -> pl.DataFrame:
        given = rng.choice(units, _LOSS_LABELS, p=activity[units] / activity[units].sum())
        ids = hour * _LOSS_LABELS + np.arange(_LOSS_LABELS)
        sample = traffic.draw(rng, _LOSS_LABELS)
        right = rng.random(_LOSS_LABELS) < accuracy[given] - lost
        truth = np.where(right, sample.labels, (sample.labels + 1) % 3)
        labels = pl.Series(truth, dtype=pl.Int8)
        rows = _frame(sample, hour, ids, given).with_columns(feedback_label=labels, feedback_at=pl.col("at"))
        return of_window(rows, window_of(hour, hour + 1))

    before = np.arange(LOSS_UNITS if known else _BASELINE_UNITS)
    now = before if known else np.arange(_BASELINE_UNITS, count)
    reference = pl.concat([window(hour, before) for hour in range(_BASELINE_WINDOWS)])
    baseline, policy, frozen = sample_of(reference), StalenessPolicy(), FrozenTest.from_f1(_RIGHT, 2_000)
    last: list[pl.DataFrame] = []
    earlier: list[RightAnswers] = []
    alarms, first = 0, LOSS_WINDOWS
    for k in range(LOSS_WINDOWS):
        rows = window(_BASELINE_WINDOWS + k, now, loss)
        last = [*last, rows][-RECENT_WINDOWS:]
        current, spread = sample_of(rows), unit_spread(reference, pl.concat(last))
        found = slow_loss(current, frozen, baseline, policy, earlier, spread=spread)
        earlier.append(RightAnswers.of(current))
        if found is not None and found.alarm:
            alarms, first, earlier = alarms + 1, min(first, k + 1), []
    return {"alarms": alarms, "first": first}


def loss_rows(case: str, found: dict[str, list[float]]) -> list[Row]:
    """Alarms of slow loss per window, held against the rate."""
    windows = LOSS_WINDOWS * len(found["alarms"])
    alarms, most = int(sum(found["alarms"])), bound(RATE, windows)
    target = f"<= {most:.4f} (99 % binomial bound)"
    return [share(case, "slow_loss_alarms_at_1.0%", alarms, windows, target=target, met=alarms / windows <= most)]


def found_loss_rows(case: str, found: dict[str, list[float]]) -> list[Row]:
    """Windows until a loss is found: the median with the 5 % and 95 % quantiles."""
    low, middle, high = (float(q) for q in np.quantile(found["first"], [0.05, 0.5, 0.95]))
    return [
        Row(
            case=case, metric="windows_until_found_median", value=middle, low=low, high=high, runs=len(found["first"]),
            unit="windows",
        )
    ]  # fmt: skip


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


def recurring_cells(runs: int, chains: int, hours: int, loss_runs: int) -> dict[str, RecurringCell]:
    """Return every cell by name: what is repeated, how often, and how it is summed up.

    Args:
        runs: windows of a cell of single windows.
        chains: chains of `hours` windows, with units that recur and without.
        hours: windows of a chain.
        loss_runs: stretches of `LOSS_WINDOWS` windows for slow loss.
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
    for known in (False, True):
        case = loss_case(known)
        table[case] = (partial(slow_loss_of, known, 0.0), loss_runs, partial(loss_rows, case))
    case = loss_case(known=False, loss=LOSS)
    table[case] = (partial(slow_loss_of, False, LOSS), loss_runs, partial(found_loss_rows, case))
    return table
