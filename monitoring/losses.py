"""A window's losses against its version's baselines, and one family of tests over losses and columns."""

from collections.abc import Sequence
from dataclasses import replace

from absa.evaluation.significance import holm
from absa.policies import StalenessPolicy
from monitoring.drift.detect import SLOW_SHARE, DriftReport
from monitoring.drift.sample import Sample
from monitoring.drift.sequential import RightAnswers, SlowLoss, detect_slow_loss
from monitoring.performance import Estimate, FrozenTest, Loss, estimate, loss_between, measure


def measured_loss(
    current: Sample, frozen: FrozenTest | None, reference: Sample | None, policy: StalenessPolicy, seed: int
) -> Loss | None:
    """Return the measured loss, against the frozen test and the reference's labels: the less certain of the two.

    Live traffic that is somewhat harder than the test from the first day on is not stale; a version that is far
    below its test from the first day on never gets a reference, so it is held against the test alone.
    """
    now = measure(current, seed=seed)
    if now is None:
        return None
    baselines: list[Estimate] = [] if frozen is None else [frozen.estimate()]
    early = None if reference is None else measure(reference, seed=seed)
    if early is not None and early.rows >= policy.min_labels:
        baselines.append(early)
    losses = [loss_between(b, now, tolerated=policy.tolerated_f1_loss) for b in baselines]
    return max(losses, key=lambda loss: loss.p_value, default=None)


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
) -> SlowLoss | None:
    """Return the detector after this window, against test and reference: the less certain of the two."""
    baselines = [] if frozen is None else [RightAnswers(right=frozen.right, labelled=round(frozen.rows))]
    if reference is not None and int(((reference.truth >= 0) & ~reference.asked).sum()) >= policy.min_labels:
        baselines.append(RightAnswers.of(reference))
    windows = [*earlier, RightAnswers.of(current)]
    states = [
        detect_slow_loss(baseline, windows, rate=policy.false_alarm_rate, tolerated_loss=policy.tolerated_f1_loss)[-1]
        for baseline in baselines
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
