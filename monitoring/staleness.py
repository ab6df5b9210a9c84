"""The staleness policy: is a version FRESH, to WATCH or STALE, and does retraining pay? Pure."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from absa.policies import StalenessPolicy
from absa.records.verdict import MAX_ATTEMPTS, Level, Reason, VerdictAction
from absa.task import ABSA, TaskSpec
from monitoring.drift.detect import DriftReport
from monitoring.drift.sequential import SlowLoss
from monitoring.kept_promise import KeptPromise
from monitoring.performance import BackTest, Loss

_DAY_S: Final = 86_400.0


@dataclass(frozen=True, kw_only=True)
class StalenessEvidence:
    """Evidence on one version in one window.

    `measured` and `estimated` are losses against its frozen test and its reference, each None where unknown;
    `slow_loss` adds up the version's windows so far, `slow_drift` compares the last of them as one, `by_mix` has the
    columns of drift that the mix of units explains, `promise` how its certain answers kept the promise.
    `comparing_from` is set where the reference has no rows of `matching` hours yet: drift then makes no alarm.
    `usual_rows` is the median size of the reference's windows of these
    hours, at most. `notes` make no alarm. `new_labels` counts labels of sources trusted to train that came since the
    version's snapshot, `rows_per_day` its traffic, `age_s` the time since it was trained, `since_retraining_s` that
    since any retraining began.
    """

    version: str
    rows: int
    labelled: int
    reference_rows: int
    drift: DriftReport | None
    measured: Loss | None
    estimated: Loss | None
    back_test: BackTest | None
    new_labels: int
    slow_loss: SlowLoss | None = None
    slow_drift: DriftReport | None = None
    promise: KeptPromise | None = None
    by_mix: frozenset[str] = frozenset()
    task: TaskSpec = ABSA
    matching: str = ""
    comparing_from: datetime | None = None
    usual_rows: float | None = None
    notes: tuple[Reason, ...] = ()
    rows_per_day: float = 0.0
    age_s: float | None = None
    since_retraining_s: float | None = None
    retraining_runs: bool = False
    attempts: int = 0
    completed: bool = False


@dataclass(frozen=True, kw_only=True)
class StalenessDecision:
    """The verdict, its reasons (the costliest first) and what is to be done about it."""

    verdict: Level
    reasons: tuple[Reason, ...]
    action: VerdictAction
    action_reason: str


def judge_staleness(evidence: StalenessEvidence, policy: StalenessPolicy) -> StalenessDecision:
    """Say FRESH, WATCH or STALE, and whether to retrain. Pure: equal evidence, equal decision.

    STALE needs a loss that labels or a trusted estimate show, a strong change of the traffic that no labels refute, or
    an age over the limit. WATCH needs a test that alarms at the requested rate, or fewer rows than usual: what cannot
    be judged yet is a reason, and makes no alarm.
    """
    if evidence.rows < policy.min_rows:
        return _too_few_rows(evidence, policy)
    stale, watch, notes = _losses(evidence, policy)
    if evidence.slow_loss is not None and evidence.slow_loss.alarm:
        stale.append(_slow_reason(evidence.slow_loss, policy))
    if evidence.promise is not None and evidence.promise.test.alarm:
        stale.append(_promise_reason(evidence.promise, policy))
    unjudged = _not_comparable(evidence, policy)
    notes += [*evidence.notes, *unjudged]
    if not unjudged and evidence.drift is not None:
        drift_stale, drift_watch = _drifts(evidence, evidence.drift, policy, lost=bool(stale))
        stale += _unless_mixed(drift_stale, evidence.by_mix, notes)
        watch += _unless_mixed(drift_watch, evidence.by_mix, notes)
    if policy.max_age_s is not None and evidence.age_s is not None and evidence.age_s > policy.max_age_s:
        sentence = (
            f"Version {evidence.version} is {evidence.age_s / _DAY_S:.1f} days old, "
            f"the limit is {policy.max_age_s / _DAY_S:.1f}."
        )
        stale.append(Reason(kind="age", sentence=sentence, statistic=evidence.age_s, threshold=policy.max_age_s))
    found = [*sorted(stale, key=_cost), *sorted(watch, key=_cost), *notes]
    reasons = tuple(_priced(reason, evidence) for reason in found)
    if not stale:
        return StalenessDecision(
            verdict="WATCH" if watch else "FRESH",
            reasons=reasons if watch else (_fresh(evidence), *reasons),
            action="none",
            action_reason="Nothing shows that the model has lost.",
        )
    action, why = _action(evidence, policy, stale)
    return StalenessDecision(verdict="STALE", reasons=reasons, action=action, action_reason=why)


def _unharmed(evidence: StalenessEvidence, policy: StalenessPolicy) -> bool:
    """Return True if labels rule out a loss of twice what is tolerated (at least five points)."""
    measured = evidence.measured
    harm = max(2.0 * policy.tolerated_f1_loss, 0.05)
    return measured is not None and measured.now.rows >= policy.min_labels and measured.high < harm


def _priced(reason: Reason, evidence: StalenessEvidence) -> Reason:
    if reason.estimated_f1_loss is None:
        return reason
    return replace(reason, wrong_answers_a_day=reason.estimated_f1_loss * evidence.rows_per_day)


def _cost(reason: Reason) -> float:
    return -(reason.estimated_f1_loss or 0.0)


def _fresh(evidence: StalenessEvidence) -> Reason:
    known = ""
    if evidence.measured is not None:
        now = evidence.measured.now
        how = f" ({evidence.measured.how})" if evidence.measured.how else ""
        known = f", and {now.rows} labels put {evidence.task.metric_name} at {now.f1:.2f}{how}"
    seen = "look like the reference"
    if evidence.comparing_from is not None:
        seen = "are the first ones seen of this version at this time"
    elif not evidence.reference_rows:
        seen = "are the first ones seen of this version"
    return Reason(kind="fresh", sentence=f"{evidence.rows} predictions {seen}{known}.")


def _losses(evidence: StalenessEvidence, policy: StalenessPolicy) -> tuple[list[Reason], list[Reason], list[Reason]]:
    """Reasons from labels and from the estimate: those for STALE, those for WATCH, those that chance may make."""
    metric = evidence.task.metric_name
    stale: list[Reason] = []
    watch: list[Reason] = []
    notes: list[Reason] = []
    measured, estimated = evidence.measured, evidence.estimated
    enough = measured is not None and measured.now.rows >= policy.min_labels
    if measured is not None and enough:
        reason = _loss_reason(
            measured, measured.how or f"measured on {measured.now.rows} labels", "measured_loss", metric
        )
        if measured.p_value <= policy.false_alarm_rate:
            stale.append(reason)
        elif measured.low > 0.0 and measured.loss > measured.tolerated:
            notes.append(replace(reason, kind="possible_loss"))
    support = None if evidence.drift is None else evidence.drift.support
    if support is not None and not support.trusted:
        share = f"trusted for {support.share:.0%} of the rows; the others are unlike the reference"
        sentence = f"The estimate without labels is {share}."
        notes.append(Reason(kind="estimate_not_trusted", sentence=sentence, statistic=support.share))
    if estimated is not None:
        reason = _loss_reason(
            estimated, f"estimated without labels on {estimated.now.rows} answers", "estimated_loss", metric
        )
        lost = estimated.p_value <= policy.false_alarm_rate
        trusted = all(each is None or each.trusted for each in (evidence.back_test, support))
        refuted = measured is not None and enough and measured.high < estimated.loss
        if lost and trusted and not refuted and evidence.reference_rows >= policy.min_reference_rows:
            stale.append(reason)
        elif lost:
            watch.append(reason)
    if evidence.back_test is not None and not evidence.back_test.trusted and stale:
        watch.append(Reason(kind="estimate_not_trusted", sentence=evidence.back_test.sentence))
    return stale, watch, notes


def _slow_reason(slow: SlowLoss, policy: StalenessPolicy) -> Reason:
    sentence = "Labels of this and earlier windows, added up, show that fewer answers are right than on the test."
    return Reason(
        kind="slow_loss",
        sentence=sentence,
        statistic=slow.evidence,
        threshold=1.0 / policy.false_alarm_rate,
        estimated_f1_loss=policy.tolerated_f1_loss,
    )


def _promise_reason(kept: KeptPromise, policy: StalenessPolicy) -> Reason:
    sentence = (
        f"Certain answers are right less often than the {kept.promise:.0%} promised, as labels of this and earlier "
        f"windows show: in this one {kept.right} of {kept.labelled} labelled ones ({kept.coverage:.0%} of the answers "
        "are certain)."
    )
    return Reason(
        kind="broken_promise",
        sentence=sentence,
        statistic=kept.test.evidence,
        threshold=1.0 / policy.false_alarm_rate,
    )


def _loss_reason(loss: Loss, how: str, kind: str, metric: str) -> Reason:
    sentence = (
        f"{metric} fell by {100 * loss.loss:.1f} points to {loss.now.f1:.2f} "
        f"(95 % interval of the fall {100 * loss.low:.1f} to {100 * loss.high:.1f}), {how}."
    )
    return Reason(
        kind=kind,
        sentence=sentence,
        statistic=loss.loss,
        threshold=loss.tolerated,
        p_value=loss.p_value,
        estimated_f1_loss=max(loss.loss, 0.0),
    )


def _not_comparable(evidence: StalenessEvidence, policy: StalenessPolicy) -> list[Reason]:
    """Return why no drift can be judged; nothing where it can."""
    if evidence.comparing_from is not None:
        return _without_history(evidence, evidence.comparing_from)
    drift = evidence.drift
    if evidence.reference_rows >= policy.min_reference_rows and drift is not None and drift.too_small is None:
        return []
    small = (
        f"The reference has {evidence.reference_rows} early live rows, {policy.min_reference_rows} are needed: "
        "drift is not judged yet."
    )
    return [
        Reason(
            kind="reference_too_small",
            sentence=small if drift is None or drift.too_small is None else drift.too_small,
            statistic=float(evidence.reference_rows),
            threshold=float(policy.min_reference_rows),
        )
    ]


def _too_few_rows(evidence: StalenessEvidence, policy: StalenessPolicy) -> StalenessDecision:
    """Return WATCH for a window with too few rows, FRESH where as few are usual at its hour."""
    usual = evidence.usual_rows is not None and evidence.rows >= evidence.usual_rows / 2.0
    reason = Reason(
        kind="too_few_rows",
        sentence=(
            f"The window has {evidence.rows} predictions, a verdict needs {policy.min_rows}: "
            f"{'as few as usual at this time' if usual else 'too few to tell'}."
        ),
        statistic=float(evidence.rows),
        threshold=float(policy.min_rows),
    )
    return StalenessDecision(
        verdict="FRESH" if usual else "WATCH",
        reasons=(reason, *evidence.notes),
        action="none",
        action_reason="Too few rows.",
    )


def _drifts(
    evidence: StalenessEvidence, drift: DriftReport, policy: StalenessPolicy, *, lost: bool
) -> tuple[list[Reason], list[Reason]]:
    measured = evidence.measured
    unharmed = _unharmed(evidence, policy)
    loss = None if measured is None else max(measured.loss, 0.0)
    stale: list[Reason] = []
    watch: list[Reason] = []
    for finding in drift.drifted:
        strong = finding.effect >= policy.strong_effect
        refuted = strong and unharmed and not lost
        reason = Reason(
            kind=f"drift:{finding.kind}",
            sentence=finding.sentence + (" Labels show that the model still holds." if refuted else ""),
            statistic=finding.statistic,
            threshold=finding.threshold,
            p_value=finding.p_adjusted,
            estimated_f1_loss=loss if strong else None,
        )
        (stale if strong and not refuted else watch).append(reason)
    if evidence.slow_drift is not None and not drift.drifted:
        watch += [
            Reason(
                kind=f"slow_drift:{finding.kind}",
                sentence=f"Slowly, over the last windows together: {finding.sentence}",
                statistic=finding.statistic,
                threshold=finding.threshold,
                p_value=finding.p_adjusted,
            )
            for finding in evidence.slow_drift.drifted
        ]
    return stale, watch


def _without_history(evidence: StalenessEvidence, comparing_from: datetime) -> list[Reason]:
    """Return what is known where no reference row is of the window's hours: what differs may be the rhythm alone."""
    sentence = (
        f"The reference has no rows of {evidence.matching} yet, so no drift is judged; comparing starts on "
        f"{comparing_from:%Y-%m-%d at %H:%M} UTC."
    )
    drifted = () if evidence.drift is None else evidence.drift.drifted
    return [
        Reason(kind="no_history", sentence=sentence, statistic=0.0),
        *(
            Reason(
                kind=f"no_history:{finding.kind}",
                sentence=f"Beside other hours: {finding.sentence}",
                statistic=finding.statistic,
                threshold=finding.threshold,
                p_value=finding.p_adjusted,
            )
            for finding in drifted
        ),
    ]


def _unless_mixed(drifted: list[Reason], by_mix: frozenset[str], notes: list[Reason]) -> list[Reason]:
    """Return the reasons that the mix of units does not explain; the others become notes."""
    left = []
    for reason in drifted:
        kind = reason.kind.partition(":")[2]
        if kind not in by_mix:
            left.append(reason)
            continue
        sentence = f"{reason.sentence} This is the mix of units: with each weighted as before, the change is gone."
        notes.append(replace(reason, kind=f"mix:{kind}", sentence=sentence, estimated_f1_loss=None))
    return left


def _action(evidence: StalenessEvidence, policy: StalenessPolicy, stale: list[Reason]) -> tuple[VerdictAction, str]:
    """Return the action for STALE: that of the first hindrance, else a retraining."""
    since = evidence.since_retraining_s
    loss = max((reason.estimated_f1_loss or 0.0 for reason in stale), default=0.0)
    avoided = loss * evidence.rows_per_day * policy.payback_s / _DAY_S
    hindrances: tuple[tuple[bool, VerdictAction, str], ...] = (
        (evidence.completed, "none", "This window has led to a completed retraining already."),
        (evidence.retraining_runs, "skipped", "A retraining is running already."),
        (
            evidence.attempts >= MAX_ATTEMPTS,
            "skipped",
            f"{evidence.attempts} attempts for this window have failed; a person has to look.",
        ),
        (
            evidence.new_labels < policy.min_new_labels,
            "ask_labels",
            f"Label {policy.min_new_labels - evidence.new_labels} more rows (`evergreen labels export`): "
            f"{evidence.new_labels} new labels came since the version was trained, a retraining needs "
            f"{policy.min_new_labels}.",
        ),
        (
            since is not None and since < policy.cooldown_s,
            "skipped",
            f"The last retraining began {since or 0.0:.0f} s ago, the cooldown is {policy.cooldown_s:.0f} s.",
        ),
        (
            avoided < policy.answers_worth_a_training,
            "skipped",
            f"It does not pay: about {avoided:.0f} wrong answers would be avoided, a training is worth "
            f"{policy.answers_worth_a_training:.0f}.",
        ),
    )
    for hinders, action, why in hindrances:
        if hinders:
            return action, why
    return "retrain", f"{evidence.new_labels} new labels are there to learn from."
