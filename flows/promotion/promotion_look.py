"""Look of a promotion: take the step that is due for a challenger. The ledger is the only state.

If a run is killed between any two appends, another run continues. Prefect is not needed here.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from absa.errors import ConflictError, PermanentError, TransientError
from absa.ledger.lifecycle import challenged, dropped, live_arms, promoted, ramped, shadowed
from absa.ledger.record import Action, LedgerRecord
from absa.ledger.state import State
from absa.policies import ExperimentPolicy
from flows.platform.services import Services
from flows.promotion.promotion_request import PromotionRequest, answer
from flows.promotion.running_experiment import RunningExperiment, judge_challengers, keep, running
from flows.promotion.take_over import ACTOR, sign_of_life
from flows.promotion.version_checks import gate_grounds, measured_speeds, must_serve, refuse_rejected

if TYPE_CHECKING:
    from monitoring.experiments.ab_statistics import ExperimentDecision

Step = Literal["shadow", "ramp", "decide"]
_POLL_S: Final = 1.0
_LONGEST_POLL_S: Final = 20.0  # a decision follows its evidence within a minute, also in a large experiment
_PATIENCE_S: Final = 1800.0  # a lake or registry that is unavailable for longer ends the run


class Approval(Protocol):
    """Operator's approval of a promotion. The request does not block, so that guardrails are watched meanwhile."""

    def given(self) -> bool:
        """Return True once an operator has approved; the first call requests the approval."""

    def withdraw(self) -> None:
        """Withdraw the request."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Promotion request with the ports and functions that its looks use.

    Attributes:
        services: ports.
        request: versions to promote.
        run_id: flow run that looks; None outside of a flow run. The sign of life contains it.
        approval: required before a promotion; None: a winner is promoted at once.
        judge: returns the judgement on each live challenger from the evidence in the lake.
        check: loads a version, given its digest, in a fresh process and returns the measurements.
        measure: returns the speeds of each version and the champion, from which the cost is computed.
    """

    services: Services
    request: PromotionRequest
    run_id: str | None = None
    approval: Approval | None = None
    judge: Callable[[Services, RunningExperiment], Mapping[str, "ExperimentDecision"]] = judge_challengers
    check: Callable[[Services, str, str], dict[str, Any]] = must_serve
    measure: Callable[[Services, tuple[str, str], Sequence[tuple[str, str]]], dict[str, Any]] = measured_speeds


def next_step(head: LedgerRecord, now: datetime, policy: ExperimentPolicy) -> tuple[Step, float | None]:
    """Return the step that is due for the challenger, and the share (0 to 1) to ramp to. Pure.

    "decide" judges the evidence; "ramp" also judges the evidence before it raises the share.
    """
    plan = head.state.plan
    elapsed_s = (now - head.at).total_seconds()
    if plan is None or plan.mode == "single":
        return "shadow", None
    if plan.mode == "shadow":
        return ("ramp", policy.ramp[0]) if elapsed_s >= policy.shadow_s else ("decide", None)
    share = max(arm.share for arm in plan.challengers)
    most = 1.0 / (len(plan.challengers) + 1)
    higher = [min(step, most) for step in policy.ramp if min(step, most) > share + 1e-9]
    if higher and elapsed_s >= policy.step_s:
        return "ramp", higher[0]
    return "decide", None


def begin(trial: Trial) -> LedgerRecord | None:
    """Record the challenger in the ledger if it is not recorded yet.

    Returns:
        The record that served the request, if an earlier run of this request was killed at its end; else None.

    Raises:
        ConflictError: another writer appended to the ledger; look again.
        PermanentError: the request is impossible or outdated, see `promotion_request`, or the gate rejected a version.
        IntegrityError: a version does not serve in a fresh process.
    """
    services, versions = trial.services, trial.request.versions
    records = services.ledger.follow()
    found = answer(records, trial.request)
    if found.kind == "refused":
        raise PermanentError(found.sentence)
    if found.kind == "served":
        return found.record
    head = records[-1]
    if versions[0] == head.state.challenger or set(versions) & _live(head.state):
        return None
    for version in versions:
        refuse_rejected(services, version)
    evidence = {version: trial.check(services, version, head.versions[version]) for version in versions}
    state = challenged(head.state, versions[0])
    _append(trial, head, "challenge", f"version {versions[0]} was named", state, evidence={"infra": evidence})
    return None


def look(trial: Trial) -> LedgerRecord | None:
    """Take one step if one is due. Reads only new records of the ledger.

    A winner that does not serve in a fresh process is dropped like a worse version.

    Returns:
        The record that ended the trial; None while it runs.

    Raises:
        ConflictError: another writer appended to the ledger; look again.
        PermanentError: none of the versions is in an experiment any more.
    """
    services, versions = trial.services, trial.request.versions
    records = services.ledger.follow()
    head, run = records[-1], running(records)
    state = head.state
    if state.champion in versions:
        return head
    if not {state.challenger, *_live(state)} & set(versions):
        raise PermanentError(f"version {versions[0]} is no longer the challenger; reason in the ledger: {head.reason}")
    now = services.clock()
    step, share = next_step(head, now, services.settings.experiment)
    if step == "shadow" or run is None:
        after = shadowed(state, versions[1:])
        tried = [(arm.version, head.versions[arm.version]) for arm in live_arms(after.plan)]
        speed = trial.measure(services, (str(state.champion), head.versions[str(state.champion)]), tried)
        evidence = {"speed": speed, "grounds": {version: gate_grounds(services, version) for version, _ in tried}}
        begun = _append(trial, head, "traffic", "the challenger scores unseen", after, evidence=evidence)
        if begun.state.plan is not None:  # so that a follower finds this run before its first look
            sign_of_life(services, str(begun.state.plan.experiment), trial.run_id)
        return None
    found = trial.judge(services, run)
    keep(services, run, found, now)
    sign_of_life(services, run.name, trial.run_id)
    for version, decision in found.items():
        if decision.decision in {"ROLL_BACK", "STOP_FOR_FUTILITY"}:
            return _drop(trial, head, version, decision)
    winners = [version for version, decision in found.items() if decision.decision == "PROMOTE"]
    if winners:
        return _promote(trial, head, max(winners, key=lambda version: found[version].estimate), found)
    if step == "ramp" and share is not None:
        _append(trial, head, "traffic", f"ramp to {share:.0%}", ramped(state, share))
    return None


def promote_versions(
    trial: Trial, *, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
) -> LedgerRecord:
    """Repeat `look` until the trial has ended, and wait while lake or registry is unavailable.

    Args:
        trial: request with its ports.
        sleep: waits for a number of seconds.
        clock: monotonic time in seconds.

    Returns:
        The record that ended the trial.

    Raises:
        TransientError: the lake or registry was unavailable for half an hour.
        PermanentError, IntegrityError: see `begin` and `look`.
    """
    began = False
    worked_at = clock()
    while True:
        looked_at = clock()
        try:
            ended = None if began else begin(trial)
            began = True
            if (ended := ended or look(trial)) is not None:
                return ended
            worked_at = clock()
        except ConflictError:
            continue
        except TransientError:
            if clock() - worked_at > _PATIENCE_S:
                raise
        sleep(min(max(_POLL_S, 2.0 * (clock() - looked_at)), _LONGEST_POLL_S))


def _drop(trial: Trial, head: LedgerRecord, version: str, decision: "ExperimentDecision") -> LedgerRecord | None:
    if trial.approval is not None:
        trial.approval.withdraw()
    left = dropped(head.state, version)
    goes_on = bool(live_arms(left.plan))
    action: Action = "traffic" if goes_on else "rollback"
    record = _append(trial, head, action, decision.sentence, left, evidence=asdict(decision))
    return None if goes_on else record


def _promote(
    trial: Trial, head: LedgerRecord, winner: str, found: Mapping[str, "ExperimentDecision"]
) -> LedgerRecord | None:
    if trial.approval is not None and not trial.approval.given():
        return None
    try:
        serves = trial.check(trial.services, winner, head.versions[winner])
    except PermanentError as error:  # a follower would fail again
        sentence = (
            f"Version {winner} won, but its check in a fresh process failed: {error}; "
            f"`evergreen promote {winner} --now` checks it again."
        )
        refused = replace(found[winner], decision="ROLL_BACK", guard="check", grounds=None, sentence=sentence)
        return _drop(trial, head, winner, refused)
    evidence = {**asdict(found[winner]), "infra": serves}
    return _append(trial, head, "promote", found[winner].sentence, promoted(head.state, winner), evidence=evidence)


def _live(state: State) -> set[str]:
    return {arm.version for arm in live_arms(state.plan)}


def _append(
    trial: Trial,
    head: LedgerRecord,
    action: Action,
    reason: str,
    state: State,
    evidence: Mapping[str, Any] | None = None,
) -> LedgerRecord:
    record = trial.services.ledger.append(
        expected=head.number, actor=ACTOR, action=action, reason=reason, state=state, evidence=evidence
    )
    trial.services.project(record)
    return record
