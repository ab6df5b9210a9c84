"""A window's losses against its version's baselines, and one family of tests over losses and columns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from absa.evaluation.significance import holm
from absa.policies import StalenessPolicy
from monitoring.drift.detect import SLOW_SHARE, DriftReport
from monitoring.drift.sample import Ints, Sample
from monitoring.drift.sequential import RightAnswers, SlowLoss, detect_slow_loss
from monitoring.labels.habits import (
    AS_ANSWERED,
    MIN_AUDITED,
    AnswerHabits,
    effective_rows,
    late_share,
    requested,
    unsolicited,
)
from monitoring.labels.unit_spread import ALIKE, UnitSpread
from monitoring.performance import Estimate, FrozenTest, Loss, estimate, loss_between, measure, measure_answered

_ALL_BUT: Final = 0.95


@dataclass(frozen=True, kw_only=True)
class MeasuredFigure:
    """F1 of all answers of a sample as labels show it, and in words which labels count and why.

    `best` is None where requested labels were used. Without any, unsolicited ones may be biased: the F1 is then between
    `now`, as customers answered, and `best`, where wrong answers are reported most.
    """

    now: Estimate
    best: Estimate | None
    how: str

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.now.low

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return (self.best or self.now).high


def measured_figure(
    sample: Sample, habits: AnswerHabits, *, max_report_ratio: float, seed: int = 0
) -> MeasuredFigure | None:
    """Return the most certain figure of all answers; None without labels.

    A sample's own audit needs no assumption; the answer rates that all audits so far show need habits that last. With
    neither, wrong answers may be reported up to `max_report_ratio` times as often as right ones.
    """
    found: list[MeasuredFigure] = []
    late = _still_to_come(sample, habits)
    audited = sample.weights[requested(sample)]
    answered = measure_answered(sample, seed=seed, habits=habits, ratio=1.0)
    if effective_rows(audited) >= (MIN_AUDITED if answered is not None else 1.0):
        own = measure(sample, seed=seed, habits=habits)
        assert own is not None
        how = f"measured on {len(audited)} requested labels and {own.rows - len(audited)} unsolicited ones, weighted to"
        found.append(MeasuredFigure(now=own, best=None, how=f"{how} all {sample.rows} answers"))
    if answered is not None and habits.ratio is not None:
        corrected = measure_answered(sample, seed=seed, habits=habits)
        assert corrected is not None
        how = (
            f"measured on {corrected.rows} unsolicited labels, corrected by {habits.audited} requested ones: wrong "
            f"answers are reported {habits.ratio:.1f} times as often as right ones{late}"
        )
        found.append(MeasuredFigure(now=corrected, best=None, how=how))
    if answered is not None and not found:
        ratio = min(max_report_ratio, habits.possible_ratio)
        how = (
            f"measured on {answered.rows} unsolicited labels; the interval allows wrong answers to be reported 1 to "
            f"{ratio:.1f} times as often as right ones, which an audit would show (`evergreen labels export`){late}"
        )
        best = measure_answered(sample, seed=seed, habits=habits, ratio=ratio)
        found.append(MeasuredFigure(now=answered, best=best, how=how))
    return min(found, key=lambda each: each.now.standard_error, default=None)


def measured_loss(
    current: Sample,
    frozen: FrozenTest | None,
    reference: Sample | None,
    policy: StalenessPolicy,
    seed: int,
    habits: AnswerHabits = AS_ANSWERED,
) -> Loss | None:
    """Return the measured loss, against the frozen test and the reference's labels: the less certain of the two.

    Live traffic that is somewhat harder than the test from the first day on is not stale; a version that is far
    below its test from the first day on never gets a reference, so it is held against the test alone.

    The test is a random sample, so it is held against the figure of all answers; unsolicited labels of window and
    reference are held against each other, as the same customers answer in both.
    """
    figure = measured_figure(current, habits, max_report_ratio=policy.max_report_ratio, seed=seed)
    if figure is None:
        return None
    test = None if frozen is None else frozen.estimate()
    answered = measure_answered(current, seed=seed, habits=habits, ratio=1.0)
    early = None if reference is None else measure_answered(reference, seed=seed, habits=habits, ratio=1.0)
    pairs: list[tuple[Estimate | None, MeasuredFigure]] = []
    if answered is not None and early is not None and min(answered.rows, early.rows) >= policy.min_labels:
        how = f"measured on {answered.rows} unsolicited labels, as customers answer now and in the reference alike"
        alike = MeasuredFigure(now=answered, best=None, how=how + _still_to_come(current, habits))
        pairs = [(early, alike), (test, figure if figure.best is None else alike)]
    else:
        pairs = [(test, figure)]
        before = None
        if reference is not None and figure.best is None:
            before = measured_figure(reference, habits, max_report_ratio=policy.max_report_ratio, seed=seed)
        if before is not None and before.best is None and before.now.rows >= policy.min_labels:
            pairs.append((before.now, figure))
    losses = [
        replace(loss_between(baseline, held.now, tolerated=policy.tolerated_f1_loss, best=held.best), how=held.how)
        for baseline, held in pairs
        if baseline is not None
    ]
    return max(losses, key=lambda loss: loss.p_value, default=None)


def _still_to_come(sample: Sample, habits: AnswerHabits) -> str:
    """Return in words which share of the labels expected has come; nothing where nearly all have."""
    share = late_share(sample, habits)
    if share is None or habits.horizon_s is None or share >= _ALL_BUT:
        return ""
    return (
        f"; {share:.0%} of the labels expected within {habits.horizon_s / 3600.0:.1f} hours have come, and those that "
        "came weigh as much as the late ones like them"
    )


def estimated_loss(
    current: Sample, frozen: FrozenTest | None, reference: Sample | None, policy: StalenessPolicy, seed: int
) -> Loss | None:
    """Return the loss that scores promise, against the promise for the reference, so that miscalibration cancels."""
    now = estimate(current, seed=seed)
    baseline = None if reference is None else estimate(reference, seed=seed)
    if baseline is None and frozen is not None:
        baseline = frozen.estimate()
    if now is None or baseline is None:
        return None
    return loss_between(baseline, now, tolerated=policy.tolerated_f1_loss)


def slow_loss(
    current: Sample,
    frozen: FrozenTest | None,
    reference: Sample | None,
    policy: StalenessPolicy,
    earlier: Sequence[RightAnswers],
    habits: AnswerHabits = AS_ANSWERED,
    spread: UnitSpread = ALIKE,
) -> SlowLoss | None:
    """Return the detector after this window, against test and reference: the least certain comparison.

    The reference counts with all of its labels, and with those that came as fast as the window's can have come. Where
    there is no reference yet, wrong answers may have been reported up to `max_report_ratio` times as often. `spread` is
    that of the units which return in the windows.
    """
    baselines: list[RightAnswers] = []
    units: list[Ints] = []
    if frozen is not None:
        baselines.append(RightAnswers(right=frozen.right, labelled=round(frozen.rows)))
        units.append(np.zeros(0, dtype=np.int64))
    if reference is not None and int(unsolicited(reference).sum()) >= policy.min_labels:
        young_s = float(np.median(habits.now_s - current.times)) if current.rows else np.nan
        fast = reference.take(np.flatnonzero(reference.delays <= young_s))
        for each in (reference, fast):
            answered = unsolicited(each)
            if int(answered.sum()) >= policy.min_labels:
                baselines.append(RightAnswers.of(each))
                units.append(np.unique(each.groups[answered]))
    elif baselines:
        baselines = [baselines[0].reported(min(policy.max_report_ratio, habits.possible_ratio))]
    windows = [*earlier, RightAnswers.of(current)]
    states = [
        detect_slow_loss(
            baseline,
            windows,
            rate=policy.false_alarm_rate,
            tolerated_loss=policy.tolerated_f1_loss,
            unit_variance=spread.variance(members),
        )[-1]
        for baseline, members in zip(baselines, units, strict=True)
    ]
    return min(states, key=lambda state: state.evidence, default=None)


def one_family(
    drift: DriftReport | None,
    slow: DriftReport | None,
    measured: Loss | None,
    estimated: Loss | None,
    rate: float,
) -> tuple[DriftReport | None, DriftReport | None, Loss | None, Loss | None]:
    """Adjust every p-value so that all together alarm in at most `rate` of windows without change.

    Columns and losses share the rate (Holm); the slow-drift test has a part of it for itself where it runs.
    """
    slow_share = 0.0 if slow is None else SLOW_SHARE
    findings = () if drift is None else drift.findings
    losses = [loss for loss in (measured, estimated) if loss is not None]
    holms = holm([f.p_value for f in findings] + [loss.p_value for loss in losses])
    adjusted = [min(1.0, p / (1.0 - slow_share)) for p in holms]
    corrected = iter(replace(loss, p_value=p) for loss, p in zip(losses, adjusted[len(findings) :], strict=True))
    return (
        None if drift is None else _with(drift, adjusted[: len(findings)], rate),
        None if slow is None else _with(slow, [min(1.0, f.p_adjusted / SLOW_SHARE) for f in slow.findings], rate),
        next(corrected) if measured is not None else None,
        next(corrected) if estimated is not None else None,
    )


def _with(report: DriftReport, p_values: Sequence[float], rate: float) -> DriftReport:
    findings = zip(report.findings, p_values, strict=True)
    return replace(report, findings=tuple(replace(f, p_adjusted=p, drifted=p <= rate) for f, p in findings))
