"""Measured F1 under late and biased labels, beside the F1 of every answer; writes results/labels.json.

Simulated customers come back in sessions, and each has an accuracy of its own. A window is a day of about 1,000 answers
and is judged an hour after its end. Wrong answers are reported 2 to 4 times as often as right ones, and three times
sooner; delays are lognormal, from minutes to weeks. With an audit, 5 % of the answers that no customer has judged by
then are labelled.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from absa.data.traffic.arrivals import Simulation
from absa.data.traffic.feedback_habits import LATE_AND_BIASED, FeedbackHabits
from absa.data.traffic.population import Population, Sessions, Users
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


class Customers:
    """Days of answers to customers who come back in sessions; each has an accuracy of its own.

    Args:
        seed: of everything.
        rows: answers per day in the mean.
        users: customers; None: no customer returns.
        right: feedback on right answers.
        wrong: feedback on wrong ones, whose labels may come sooner.
        heavy: how much a customer's accuracy falls (in logits) for each standard deviation of their log activity.
    """

    def __init__(
        self, seed: list[int], rows: int, users: int | None, right: FeedbackHabits, wrong: FeedbackHabits,
        *, heavy: float = 0.0,
    ) -> None:  # fmt: skip
        self._rng = np.random.default_rng(seed)
        population = Population(
            requests_an_hour=rows / 24.0,
            users=None if users is None else Users(count=users),
            sessions=None if users is None else Sessions(),
        )
        self._simulation = Simulation(population, seed=int(self._rng.integers(2**31)))
        self._right, self._wrong, self._heavy = right, wrong, heavy
        self._logits: dict[int, float] = {}

    def day(self, number: int, now_s: float, *, audit: float = 0.0) -> tuple[Sample, Sample]:
        """A day's answers with the labels that have come by `now_s`, and the same with every label."""
        rng = self._rng
        asked_about = self._simulation.between(number * DAY_S, (number + 1) * DAY_S)
        units, rows = asked_about.unit, asked_about.count
        right = rng.random(rows) < 1.0 / (1.0 + np.exp(-self._logits_of(units)))
        truth = rng.choice(3, rows, p=MIX)
        predicted = np.where(right, truth, (truth + rng.integers(1, 3, rows)) % 3)
        on_right, on_wrong = (habits.tell(truth, predicted, rng) for habits in (self._right, self._wrong))
        labels = np.where(right, on_right.labels, on_wrong.labels)
        delays = np.where(right, on_right.delay_s, on_wrong.delay_s)
        told = (labels >= 0) & (asked_about.at_s + delays <= now_s)
        asked = ~told & (rng.random(rows) < audit)
        full = make_sample(
            predicted, np.full((rows, 3), 1 / 3), truth=truth, groups=units, times=asked_about.at_s,
            delays=np.where(told, delays, np.nan),
        )  # fmt: skip
        seen = replace(
            full,
            truth=np.where(told, labels, np.where(asked, truth, -1)),
            weights=np.where(asked, 1.0 / max(audit, 1e-9), 1.0),
            asked=asked,
        )
        return seen, full

    def _logits_of(self, units: np.ndarray) -> np.ndarray:
        """Accuracies as logits; the busiest customers of the first day are the active ones."""
        found, counts = np.unique(units, return_counts=True)
        activity = np.log(counts)
        activity = (activity - activity.mean()) / max(float(activity.std()), 1e-9)
        for unit, busy in zip(found.tolist(), activity.tolist(), strict=True):
            self._logits.setdefault(unit, 1.5 - self._heavy * busy + 0.8 * self._rng.standard_normal())
        return np.array([self._logits[unit] for unit in units.tolist()])


def same_units(samples: list[Sample]) -> Sample:
    """Windows as one; a unit is the same in all of them."""
    together = samples[0]
    for sample in samples[1:]:
        together = replace(concat_samples(together, sample), groups=np.concatenate([together.groups, sample.groups]))
    return together


def judged_window(ratio: float, audit: float, audited_before: float, seed: int) -> dict[str, float]:
    """One window with eight before it: its figure as used and as customers answered, and the F1 of every answer."""
    rate = LATE_AND_BIASED.answer_rate_right * 2.0
    right = replace(LATE_AND_BIASED, answer_rate_right=rate, answer_rate_wrong=rate, error_rate=0.0)
    wrong = replace(right, answer_rate_wrong=rate * ratio, delay_mean_s=right.delay_mean_s / 3.0)
    key = [8, round(10 * ratio), round(1000 * audit), round(1000 * audited_before), seed]
    customers = Customers(key, 1_000, 1_500, right, wrong)
    now_s = (WINDOWS_BEFORE + 1) * DAY_S + LAG_S
    before = [customers.day(k, now_s, audit=audited_before)[0] for k in range(WINDOWS_BEFORE)]
    current, full = customers.day(WINDOWS_BEFORE, now_s, audit=audit)
    habits = habits_seen(same_units([*before, current]), now_s)
    used = measured_figure(current, habits, max_report_ratio=StalenessPolicy().max_report_ratio, seed=seed)
    plain = measure(replace(current, truth=np.where(unsolicited(current), current.truth, -1)), seed=seed)
    every = measure(full, seed=seed)
    assert used is not None
    assert plain is not None
    assert every is not None
    truth = every.f1
    return {
        "bias": used.now.f1 - truth,
        "plain_bias": plain.f1 - truth,
        "covers": used.low <= truth <= used.high,
        "plain_covers": plain.low <= truth <= plain.high,
        "width": used.high - used.low,
        "labels": float(current.labelled),
    }


def calm_windows(users: int | None, heavy: float, seed: int) -> dict[str, float]:
    """First slow-loss alarm in 200 windows without a loss, by customers who keep coming back.

    The reference is the first eight windows of 125 answers; two in five answers are judged.
    """
    at_once = FeedbackHabits(answer_rate_right=0.4, delay_mean_s=60.0, error_rate=0.0)
    customers = Customers([9, users or 0, round(10 * heavy), seed], 125, users, at_once, at_once, heavy=heavy)
    days = [customers.day(k, (k + 1) * DAY_S + LAG_S)[0] for k in range(WINDOWS_BEFORE + CALM)]
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
    for users, heavy, words in (
        (None, 0.0, "customers who never return"),
        (300, 0.0, "300 customers of different accuracy"),
        (50, 0.0, "50 customers of different accuracy"),
        (2_000, 0.5, "2,000 customers, the active ones answered worse"),
    ):
        case = f"no loss, {words}"
        table[case] = (partial(calm_windows, users, heavy), partial(calm_rows, case))
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
        for case, (task, rows_of) in cells().items():
            runs = max(1, options.runs // 3) if case.startswith("no loss") else options.runs  # 200 windows each
            found = pool.map(task, range(runs), chunksize=10)
            new = rows_of({name: [float(each[name]) for each in found] for name in found[0]})
            rows += new
            for row in new:
                print(f"{row.case}: {row.metric} {row.value:.3f} {row.target or ''}", flush=True)
    versions = {"numpy": np.__version__}
    write_result(options.out, name="labels", command="make benchmark-labels", seed=0, rows=rows, versions=versions)
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
