"""Flow promote: shadow, ramp, decision. Its state is the ledger's head: stopped anywhere, it goes on where it was."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from prefect import flow
from pydantic import Field

from absa.errors import ConflictError, PermanentError, TransientError
from absa.ledger.history import steps_of
from absa.ledger.lifecycle import challenged, dropped, live_arms, promoted, ramped, shadowed
from absa.ledger.record import Action, LedgerRecord
from absa.ledger.state import State
from flows.platform.artifacts import PrefectReporter
from flows.platform.liveness import leave_signs
from flows.platform.services import Services, build_services
from flows.platform.settings import Settings
from flows.promotion.approval import Approval, PrefectApproval
from flows.promotion.infra_check import must_serve
from flows.promotion.promotion_request import PromotionRequest, answer
from flows.promotion.running_experiment import judge, keep, running
from flows.promotion.take_over import ACTOR, sign_of_life, started_again

if TYPE_CHECKING:
    from monitoring.experiments.ab_statistics import ExperimentDecision

Step = Literal["shadow", "ramp", "decide"]
_POLL_S: Final = 1.0
_LONGEST_POLL_S: Final = 20.0  # evidence is acted on within a minute, however large the experiment
_PATIENCE_S: Final = 1800.0  # how long a lake or registry may be away before the flow gives up


def next_step(head: LedgerRecord, now: datetime, settings: Settings) -> tuple[Step, float | None]:
    """What is due for the challenger in force, and the share to ramp to. Pure.

    "decide" looks at the evidence; "ramp" does too, before it raises the share.
    """
    plan = head.state.plan
    elapsed_s = (now - head.at).total_seconds()
    if plan is None or plan.mode == "single":
        return "shadow", None
    if plan.mode == "shadow":
        return ("ramp", settings.ramp_shares[0]) if elapsed_s >= settings.shadow_s else ("decide", None)
    share = max(arm.share for arm in plan.challengers)
    most = 1.0 / (len(plan.challengers) + 1)
    higher = [min(step, most) for step in settings.ramp_shares if min(step, most) > share + 1e-9]
    if higher and elapsed_s >= settings.step_s:
        return "ramp", higher[0]
    return "decide", None


def _append(services: Services, head: LedgerRecord, action: Action, reason: str, state: State, **more: Any) -> None:
    record = services.ledger.append(
        expected=head.number, actor=ACTOR, action=action, reason=reason, state=state, **more
    )
    services.project(record)


def advance(
    services: Services, version: str, *, others: Sequence[str] = (), approval: Approval | None = None
) -> LedgerRecord | None:
    """Take one step if one is due.

    Args:
        services: the world.
        version: the challenger.
        others: versions that are tried beside it.
        approval: asked before a promotion; None promotes at once.

    Returns:
        The record that ended the matter, or None while it goes on.

    Raises:
        ConflictError: someone else moved the ledger at the same instant; look again.
        PermanentError: neither the version nor another is tried any more.
        IntegrityError: the winner does not serve in a fresh process.
    """
    head = services.head()
    state = head.state
    mine = {version, *others}
    if state.champion in mine:
        return head
    live = [arm.version for arm in live_arms(state.plan)]
    if state.challenger not in mine and not mine & set(live):
        raise PermanentError(f"version {version} is not the challenger any more: the ledger says {head.reason}")
    now = datetime.now(UTC)
    step, share = next_step(head, now, services.settings)
    run = running(services.ledger.follow())
    if step == "shadow" or run is None:
        _append(services, head, "traffic", "the challenger scores unseen", shadowed(state, tuple(others)))
        if (begun := running(services.ledger.follow())) is not None:
            sign_of_life(services, begun.name, flow_run_id())  # names this run to a follower before its first look
        return None
    if run.head.number != head.number:
        return None  # the ledger moved while we looked
    found = judge(services, run)
    keep(services, run, found, now)
    sign_of_life(services, run.name, flow_run_id())
    ended, moved = _decide(services, head, found, approval)
    if not moved and step == "ramp" and share is not None:
        _append(services, head, "traffic", f"ramp to {share:.0%}", ramped(state, share))
    return ended


def _decide(
    services: Services, head: LedgerRecord, found: Mapping[str, "ExperimentDecision"], approval: Approval | None
) -> tuple[LedgerRecord | None, bool]:
    """Act on the judgements: the record that ended the matter, and whether anything was decided (or is being asked)."""
    state = head.state
    for tried, decision in found.items():
        if decision.decision in {"ROLL_BACK", "STOP_FOR_FUTILITY"}:
            if approval is not None:
                approval.withdraw()
            left = dropped(state, tried)
            action: Action = "traffic" if live_arms(left.plan) else "rollback"
            _append(services, head, action, decision.sentence, left, evidence=asdict(decision))
            return (None if live_arms(left.plan) else services.head()), True
    winners = [tried for tried, decision in found.items() if decision.decision == "PROMOTE"]
    if winners:
        if approval is not None and not approval.given():
            return None, True
        winner = max(winners, key=lambda tried: found[tried].estimate)
        serves = must_serve(services, winner, head.versions[winner])
        evidence = {**asdict(found[winner]), "infra": serves}
        _append(services, head, "promote", found[winner].sentence, promoted(state, winner), evidence=evidence)
        return services.head(), True
    return None, False


def begin(
    services: Services, versions: Sequence[str], *, again: bool = False, revision: int | None = None
) -> LedgerRecord | None:
    """Name the challenger where it is not named yet.

    Args:
        services: the world.
        versions: the challenger, and versions that are tried beside it.
        again: whether a version that was rolled back or replaced may be tried again.
        revision: number of the ledger's head when the promotion was requested; None where unknown.

    Returns:
        The record that served the request before: what a run that was killed at its end has to report. None otherwise.

    Raises:
        PermanentError: the request is impossible or outdated, see `promotion_request`, or the gate rejected a version.
        IntegrityError: a version does not serve in a fresh process.
    """
    head = services.head()
    records = [record for record in services.ledger.follow() if record.number <= head.number]
    found = answer(records, PromotionRequest(versions=tuple(versions), revision=revision, again=again))
    if found.kind == "refused":
        raise PermanentError(found.sentence)
    if found.kind == "served":
        return found.record
    if versions[0] == head.state.challenger or set(versions) & {arm.version for arm in live_arms(head.state.plan)}:
        return None
    for version in versions:
        if services.registry.tags(version).get("gate") == "REJECT":
            raise PermanentError(f"version {version} was rejected by the gate and is never served")
    evidence = {version: must_serve(services, version, head.versions[version]) for version in versions}
    state = challenged(head.state, versions[0])
    _append(services, head, "challenge", f"version {versions[0]} was named", state, evidence={"infra": evidence})
    return None


def flow_run_id() -> str | None:
    """The Prefect run that this is, None outside of one."""
    from prefect.runtime import flow_run

    found = flow_run.get_id()
    return None if found is None else str(found)


def see_through(
    services: Services,
    versions: Sequence[str],
    *,
    approval: Approval | None = None,
    again: bool = False,
    revision: int | None = None,
) -> LedgerRecord:
    """Advance until the matter has ended. A lake or registry that is away is waited for; what no waiting helps, raises.

    Raises:
        TransientError: something was away for half an hour.
        PermanentError: see `begin` and `advance`.
    """
    began = False
    worked_at = time.monotonic()
    while True:
        looked_at = time.monotonic()
        try:
            ended = None if began else begin(services, versions, again=again, revision=revision)
            began = True
            ended = ended or advance(services, versions[0], others=versions[1:], approval=approval)
            if ended is not None:
                return ended
            worked_at = time.monotonic()
        except ConflictError:
            continue
        except TransientError:
            if time.monotonic() - worked_at > _PATIENCE_S:
                raise
        took_s = time.monotonic() - looked_at
        time.sleep(min(max(_POLL_S, 2.0 * took_s), _LONGEST_POLL_S))


@flow(name="promote", flow_run_name="promote-v{version}", on_running=[leave_signs], on_crashed=[started_again])
def promote(
    version: Annotated[str, Field(description="The challenger's registry version.")],
    others: Annotated[list[str] | None, Field(description="Versions that are tried beside it, each in an arm.")] = None,
    again: Annotated[bool, Field(description="Try a version again that was rolled back or replaced.")] = False,
    revision: Annotated[
        int | None, Field(description="Ledger record at which it was requested; a later champion makes it outdated.")
    ] = None,
) -> dict[str, Any]:
    """Take a challenger through shadow and A/B until it is champion or rolled back."""
    services = build_services(reporter=PrefectReporter())
    approval = PrefectApproval(services.settings.approval_s) if services.settings.approval else None
    services.project()  # a run that was killed may have left the aliases behind the ledger
    ended = see_through(services, [version, *(others or [])], approval=approval, again=again, revision=revision)
    services.project()
    steps = [vars_of(record) for record in steps_of(services.ledger.follow(), version)]
    services.reporter.table(steps, key="promotion", description=ended.reason)
    return {"version": version, "champion": ended.state.champion, "reason": ended.reason}


def vars_of(record: LedgerRecord) -> dict[str, Any]:
    """A ledger record as a table's row."""
    plan = record.state.plan
    share = plan.challengers[0].share if plan is not None and plan.challengers else 0.0
    return {
        "number": record.number,
        "at": record.at.isoformat(timespec="seconds"),
        "action": record.action,
        "challenger's share": share,
        "reason": record.reason,
    }
