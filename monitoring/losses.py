"""Losses of a window against its version's baselines, and one correction for all tests of the window."""

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
    """F1 of all answers of a sample, from labels. `how` names the labels that count, and the reason.

    `best` is None if requested labels correct the figure. Otherwise unsolicited labels may be biased: the F1 is between
    `now`, with labels as they came, and `best`, with the largest report ratio.
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

    An audit of the sample itself needs no assumption. Earlier audits give the report ratio, on the assumption that
    habits do not change. Without audits, wrong answers may be reported up to `max_report_ratio` times as often as right
    ones.
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
    """Return the measured loss: of the losses against frozen test and reference, the less certain one.

    Traffic that was harder than the test from the first day is not staleness. A version far below its test from the
    first day never gets a reference, so it is compared with the test alone.

    The test is a random sample, so it is compared with the figure of all answers. Unsolicited labels of window and
    reference are compared with each other, because the same customers give labels in both.
    """
    figure = measured_figure(current, habits, max_report_ratio=policy.max_report_ratio, seed=seed)
    if figure is None:
        return None
    test = None if frozen is None else frozen.estimate()
    answered = measure_answered(current, seed=seed, habits=habits, ratio=1.0)
    early = None if reference is None else measure_answered(reference, seed=seed, habits=habits, ratio=1.0)
    pairs: list[tuple[Estimate | None, MeasuredFigure]] = []
    if answered is not None and early is not None and min(answered.rows, early.rows) >= policy.min_labels:
        how = f"measured on {answered.rows} unsolicited labels and those of the reference, from the same customers"
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
    """Return a clause with the share of expected labels that has come; empty if nearly all have."""
    share = late_share(sample, habits)
    if share is None or habits.horizon_s is None or share >= _ALL_BUT:
        return ""
    return (
        f"; {share:.0%} of the labels expected within {habits.horizon_s / 3600.0:.1f} hours have arrived; each "
        "counts for the similar labels that are still missing"
    )


def estimated_loss(
    current: Sample, frozen: FrozenTest | None, reference: Sample | None, policy: StalenessPolicy, seed: int
) -> Loss | None:
    """Return the estimated loss against the estimate for the reference, so that miscalibration cancels."""
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

    The reference counts twice: with all of its labels, and with those that came as fast as the window's. Without a
    reference, the test is lowered by wrong answers that may be reported up to `max_report_ratio` times as often.
    `spread` is the spread between units that return.
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

    Columns and losses share the rate (Holm). If the test of slow drift runs, it has its own part of the rate.
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
