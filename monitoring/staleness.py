"""Staleness policy: the verdict FRESH, WATCH or STALE, and whether a retraining pays. Pure."""

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

    Attributes:
        measured: loss that labels show, against frozen test and reference; None: unknown.
        estimated: loss that scores imply, against the same baselines; None: unknown.
        new_labels: labels of sources trusted to train since the version's snapshot.
        slow_loss: detector over the version's windows so far.
        slow_drift: drift of the last windows together.
        promise: result of the promise on certain answers.
        by_mix: drifted columns that the mix of units explains.
        matching: hours and days of the reference rows that were compared.
        comparing_from: start of the first window that can be compared; set while the reference has no rows of matching
            hours. Drift then raises no alarm.
        usual_rows: median number of rows in the reference's windows of these hours, as far as they are kept.
        notes: findings that raise no alarm.
        rows_per_day: traffic of the version.
        age_s: seconds since the version's snapshot.
        since_retraining_s: seconds since the last retraining started.
        attempts: failed attempts of this window.
        completed: True if this window has led to a completed retraining.
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
    """Verdict, reasons (the costliest first) and action."""

    verdict: Level
    reasons: tuple[Reason, ...]
    action: VerdictAction
    action_reason: str


def judge_staleness(evidence: StalenessEvidence, policy: StalenessPolicy) -> StalenessDecision:
    """Decide FRESH, WATCH or STALE, and whether to retrain. Pure.

    STALE requires a loss that labels or a trusted estimate show, a strong drift that labels do not refute, a slow loss,
    a broken promise, or an age over the limit. WATCH requires a test that alarms at the requested rate, or fewer rows
    than usual. A finding that cannot be judged yet becomes a note and raises no alarm.
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
            action_reason="No test shows a loss of the model.",
        )
    action, why = _action(evidence, policy, stale)
    return StalenessDecision(verdict="STALE", reasons=reasons, action=action, action_reason=why)


def _unharmed(evidence: StalenessEvidence, policy: StalenessPolicy) -> bool:
    """Return True if labels rule out a loss of twice the tolerated loss (at least five points)."""
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
        seen = "are the first ones of this version at this time"
    elif not evidence.reference_rows:
        seen = "are the first ones of this version"
    return Reason(kind="fresh", sentence=f"{evidence.rows} predictions {seen}{known}.")


def _losses(evidence: StalenessEvidence, policy: StalenessPolicy) -> tuple[list[Reason], list[Reason], list[Reason]]:
    """Return the reasons from labels and estimate: for STALE, for WATCH, and notes that chance may explain."""
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
    """Return the reasons why drift cannot be judged; empty if it can."""
    if evidence.comparing_from is not None:
        return _without_history(evidence, evidence.comparing_from)
    drift = evidence.drift
    if evidence.reference_rows >= policy.min_reference_rows and drift is not None and drift.too_small is None:
        return []
    small = (
        f"The reference has {evidence.reference_rows} live rows, drift needs {policy.min_reference_rows}: "
        "it is not judged yet."
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
    """Return WATCH for a window with too few rows, or FRESH if so few rows are usual at its hour."""
    usual = evidence.usual_rows is not None and evidence.rows >= evidence.usual_rows / 2.0
    reason = Reason(
        kind="too_few_rows",
        sentence=(
            f"The window has {evidence.rows} predictions, a verdict needs {policy.min_rows}: "
            f"{'as few as usual at this time' if usual else 'too few to judge'}."
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
            sentence=finding.sentence + (" Labels show that the model is still right." if refuted else ""),
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
    """Return notes on a window whose hours the reference lacks: the daily rhythm may explain each difference."""
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
                sentence=f"Compared with other hours: {finding.sentence}",
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
        sentence = (
            f"{reason.sentence} The mix of units explains it: with each unit weighted as before, the change is gone."
        )
        notes.append(replace(reason, kind=f"mix:{kind}", sentence=sentence, estimated_f1_loss=None))
    return left


def _action(evidence: StalenessEvidence, policy: StalenessPolicy, stale: list[Reason]) -> tuple[VerdictAction, str]:
    """Return the action for STALE: the action of the first hindrance, or a retraining if nothing hinders it."""
    since = evidence.since_retraining_s
    loss = max((reason.estimated_f1_loss or 0.0 for reason in stale), default=0.0)
    avoided = loss * evidence.rows_per_day * policy.payback_s / _DAY_S
    hindrances: tuple[tuple[bool, VerdictAction, str], ...] = (
        (evidence.completed, "none", "This window has led to a completed retraining already."),
        (evidence.retraining_runs, "skipped", "A retraining is running already."),
        (
            evidence.attempts >= MAX_ATTEMPTS,
            "skipped",
            f"{evidence.attempts} attempts for this window have failed; an operator has to look.",
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
            f"The last retraining started {since or 0.0:.0f} s ago; the cooldown is {policy.cooldown_s:.0f} s.",
        ),
        (
            avoided < policy.answers_worth_a_training,
            "skipped",
            f"A retraining does not pay: it would avoid about {avoided:.0f} wrong answers, it must avoid "
            f"{policy.answers_worth_a_training:.0f}.",
        ),
    )
    for hinders, action, why in hindrances:
        if hinders:
            return action, why
    return "retrain", f"The retraining learns from {evidence.new_labels} new labels."
