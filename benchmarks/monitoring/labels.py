"""Measured F1 under late and biased labels, beside the F1 of every answer; writes results/labels.json.

Customers come back: their activity is lognormal, and each has an accuracy and an eagerness to answer of its own. A
window is a day of 1,000 answers and is judged an hour after its end. Wrong answers are reported 2 to 4 times as often
as right ones, and sooner; delays are lognormal, from minutes to weeks. With an audit, 5 % of the answers that no
customer has judged by then are labelled.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from absa.policies import StalenessPolicy
from benchmarks.figures import Row, share, write_result
from monitoring.drift.sample import Sample, concat_samples, make_sample
from monitoring.drift.sequential import RightAnswers, detect_slow_loss
from monitoring.labels.habits import habits_seen, unsolicited
from monitoring.losses import measured_figure
from monitoring.performance import measure

RESULTS = Path(__file__).parents[1] / "results" / "labels.json"
DAY_S = 86_400.0
LAG_S = 3_600.0
WINDOWS_BEFORE = 8
CALM = 200
MIX = (0.3, 0.2, 0.5)
Found = dict[str, list[float]]
Cell = tuple[Callable[[int], dict[str, float]], Callable[[Found], list[Row]]]


@dataclass(frozen=True, kw_only=True)
class Customers:
    """Customers who come back (k,): shares of the traffic, accuracies and eagerness to answer, as factors."""

    activity: np.ndarray
    accuracy: np.ndarray
    eagerness: np.ndarray

    @classmethod
    def drawn(cls, rng: np.random.Generator, count: int, *, accuracy: float = 0.82, spread: float = 1.0) -> "Customers":
        """Draw customers; `spread` scales how much they differ from one another."""
        activity = rng.lognormal(0.0, 1.2 * spread, count)
        own = rng.beta(accuracy * 12.0, (1.0 - accuracy) * 12.0, count) if spread else np.full(count, accuracy)
        return cls(activity=activity / activity.sum(), accuracy=own, eagerness=rng.lognormal(0.0, 0.7 * spread, count))


@dataclass(frozen=True, kw_only=True)
class Telling:
    """Answer rate for right answers, its ratio for wrong ones, and median delays (s) of both with their spread."""

    rate: float = 0.12
    ratio: float = 3.0
    delay_s: float = 20 * 3_600.0
    wrong_delay_s: float = 6 * 3_600.0
    sigma: float = 1.6


def window(
    rng: np.random.Generator, customers: Customers, telling: Telling, *, rows: int, start_s: float, now_s: float,
    audit: float = 0.0,
) -> tuple[Sample, Sample]:  # fmt: skip
    """A day's answers with the labels that have come by `now_s`, and the same with every label."""
    units = rng.choice(len(customers.activity), rows, p=customers.activity)
    truth = rng.choice(3, rows, p=MIX)
    right = rng.random(rows) < customers.accuracy[units]
    predicted = np.where(right, truth, (truth + rng.integers(1, 3, rows)) % 3)
    times = start_s + np.sort(rng.random(rows)) * DAY_S
    chance = np.minimum(telling.rate * np.where(right, 1.0, telling.ratio) * customers.eagerness[units], 0.95)
    delays = np.where(right, telling.delay_s, telling.wrong_delay_s) * rng.lognormal(0.0, telling.sigma, rows)
    told = (rng.random(rows) < chance) & (times + delays <= now_s)
    asked = ~told & (rng.random(rows) < audit)
    full = make_sample(
        predicted, np.full((rows, 3), 1 / 3), truth=truth, groups=units, times=times,
        delays=np.where(told, delays, np.nan),
    )  # fmt: skip
    seen = replace(
        full,
        truth=np.where(told | asked, truth, -1),
        weights=np.where(asked, 1.0 / max(audit, 1e-9), 1.0),
        asked=asked,
    )
    return seen, full


def same_units(samples: list[Sample]) -> Sample:
    """Windows as one; a unit is the same in all of them."""
    together = samples[0]
    for sample in samples[1:]:
        together = replace(concat_samples(together, sample), groups=np.concatenate([together.groups, sample.groups]))
    return together


def judged_window(ratio: float, audit: float, audited_before: float, seed: int) -> dict[str, float]:
    """One window with eight before it: its figure as used and as customers answered, and the F1 of every answer."""
    rng = np.random.default_rng([8, round(10 * ratio), round(1000 * audit), round(1000 * audited_before), seed])
    customers, telling = Customers.drawn(rng, 1_500), Telling(ratio=ratio)
    now_s = (WINDOWS_BEFORE + 1) * DAY_S + LAG_S
    before = [
        window(rng, customers, telling, rows=1_000, start_s=k * DAY_S, now_s=now_s, audit=audited_before)[0]
        for k in range(WINDOWS_BEFORE)
    ]
    current, full = window(
        rng, customers, telling, rows=1_000, start_s=WINDOWS_BEFORE * DAY_S, now_s=now_s, audit=audit
    )
    habits = habits_seen(same_units([*before, current]), now_s)
    used = measured_figure(current, habits, max_report_ratio=StalenessPolicy().max_report_ratio, seed=seed)
    plain = measure(replace(current, truth=np.where(unsolicited(current), current.truth, -1)), seed=seed)
    every = measure(full, seed=seed)
    assert used is not None
    assert plain is not None
    assert every is not None
    truth = every.pos_neg_f1
    return {
        "bias": used.now.pos_neg_f1 - truth,
        "plain_bias": plain.pos_neg_f1 - truth,
        "covers": used.low <= truth <= used.high,
        "plain_covers": plain.low <= truth <= plain.high,
        "width": used.high - used.low,
        "labels": float(current.labelled),
    }


def calm_windows(units: int, spread: float, heavy: float, seed: int) -> dict[str, float]:
    """Window of the first slow-loss alarm in 200 windows without a loss, by customers who keep coming back.

    `heavy` is how much the accuracy of a customer falls (in logits) for each standard deviation of their log activity.
    The reference is the first eight windows of 125 answers; two in five answers are judged.
    """
    rng = np.random.default_rng([9, units, round(10 * spread), round(10 * heavy), seed])
    drawn = Customers.drawn(rng, units, spread=spread)
    activity = np.log(drawn.activity)
    activity = (activity - activity.mean()) / max(activity.std(), 1e-9)
    logit = 1.5 - heavy * activity + 0.8 * spread * rng.standard_normal(units)
    customers = replace(drawn, accuracy=1.0 / (1.0 + np.exp(-logit)))
    telling = Telling(rate=0.4, ratio=1.0, delay_s=60.0, wrong_delay_s=60.0, sigma=1.0)
    days = [
        window(rng, customers, telling, rows=125, start_s=k * DAY_S, now_s=(k + 1) * DAY_S + LAG_S)[0]
        for k in range(WINDOWS_BEFORE + CALM)
    ]
    policy = StalenessPolicy()
    states = detect_slow_loss(
        RightAnswers.of(same_units(days[:WINDOWS_BEFORE])),
        [RightAnswers.of(day) for day in days[WINDOWS_BEFORE:]],
        rate=policy.false_alarm_rate,
        tolerated_loss=policy.tolerated_f1_loss,
    )
    return {"alarm": any(state.alarm for state in states), "early": any(state.alarm for state in states[:20])}


def window_rows(case: str, audited: bool, found: Found) -> list[Row]:
    """Bias, coverage and width of the figure that a verdict uses, and of plain counting."""
    runs = len(found["covers"])

    def middle(metric: str, values: list[float], unit: str) -> Row:
        low, high = (float(q) for q in np.quantile(values, [0.05, 0.95]))
        return Row(case=case, metric=metric, value=float(np.mean(values)), low=low, high=high, runs=runs, unit=unit)

    covered = share(case, "interval_covers_f1_of_all_answers", int(sum(found["covers"])), runs, target=">= 0.90")
    rows = [
        Row(**{**vars(covered), "met": covered.value >= 0.9}),
        share(case, "plain_interval_covers", int(sum(found["plain_covers"])), runs),
        middle("bias_of_plain_counting", found["plain_bias"], "F1"),
        middle("width_of_interval", found["width"], "F1"),
        middle("labels", found["labels"], "labels"),
    ]
    # without any audit the lower end of the interval is the plain figure: its gap is the plain bias
    return [*rows, middle("bias_of_figure", found["bias"], "F1")] if audited else rows


def calm_rows(case: str, found: Found) -> list[Row]:
    """Slow-loss alarms; at 1 % a window the promise is a mean of 100 windows between two."""
    runs = len(found["alarm"])
    early = share(case, "alarm_within_20_windows_at_1%", int(sum(found["early"])), runs, target="<= 0.18")
    late = share(case, "alarm_within_200_windows_at_1%", int(sum(found["alarm"])), runs, target="<= 0.87")
    return [Row(**{**vars(row), "met": row.value <= most}) for row, most in ((early, 0.18), (late, 0.87))]


def cells() -> dict[str, Cell]:
    """Every cell by its case."""
    table: dict[str, Cell] = {}
    for ratio in (2.0, 3.0, 4.0):
        for audit, before, words in (
            (0.05, 0.05, "5 % audit"),
            (0.0, 0.05, "5 % audit of the eight windows before alone"),
            (0.0, 0.0, "no audit, ratio up to 4 stated"),
        ):
            case = f"wrong answers reported {ratio:g} times as often, {words}"
            table[case] = (partial(judged_window, ratio, audit, before), partial(window_rows, case, bool(before)))
    for units, spread, heavy, words in (
        (100_000, 0.0, 0.0, "customers who never return"),
        (300, 1.0, 0.0, "300 customers of different accuracy"),
        (50, 1.0, 0.0, "50 customers of different accuracy"),
        (2_000, 1.0, 0.5, "2,000 customers, the active ones answered worse"),
    ):
        case = f"no loss, {words}"
        table[case] = (partial(calm_windows, units, spread, heavy), partial(calm_rows, case))
    return table


def main() -> int:
    """Run every cell and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="windows a cell")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    rows: list[Row] = []
    with get_context("spawn").Pool(options.processes) as pool:
        for task, rows_of in cells().values():
            found = pool.map(task, range(options.runs), chunksize=10)
            new = rows_of({name: [float(each[name]) for each in found] for name in found[0]})
            rows += new
            for row in new:
                print(f"{row.case}: {row.metric} {row.value:.3f} {row.target or ''}", flush=True)
    versions = {"numpy": np.__version__}
    write_result(options.out, name="labels", command="make benchmark-labels", seed=0, rows=rows, versions=versions)
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
