"""Flow promote: shadow, ramp, decision. Its state is the ledger's head: stopped, it goes on where it was."""

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from absa.adapters.ledger import Action, LedgerRecord, State
from absa.errors import ConflictError, PermanentError
from absa.lifecycle import challenged, experiment_name, promoted, ramped, shadowed, withdrawn
from flows.settings import Settings
from flows.wiring import Services, wire

if TYPE_CHECKING:
    from monitoring.experiment import ExperimentDecision

Step = Literal["shadow", "ramp", "decide", "wait"]
_POLL_S: Final = 1.0


def next_step(head: LedgerRecord, now: datetime, settings: Settings) -> tuple[Step, float | None]:
    """What is due for the challenger in force, and the share to ramp to. Pure.

    "decide" looks at the evidence; "ramp" does too, before it raises the share.
    """
    plan = head.state.plan
    elapsed_s = (now - head.at).total_seconds()
    if plan is None or plan.mode == "single":
        return "shadow", None
    if plan.mode == "shadow":
        return ("ramp", settings.ramp_shares[0]) if elapsed_s >= settings.shadow_s else ("wait", None)
    share = plan.challengers[0].share
    higher = [step for step in settings.ramp_shares if step > share + 1e-9]
    if higher and elapsed_s >= settings.step_s:
        return "ramp", higher[0]
    return "decide", None


@task(name="look-at-evidence", cache_policy=NO_CACHE)
def look(services: Services, state: State) -> "ExperimentDecision":
    """Judge the running experiment on what the lake holds now."""
    from monitoring.collect import collect_experiment
    from monitoring.experiment import ExperimentPolicy, judge_experiment

    settings = services.settings
    name = experiment_name(state)
    records = [record for record in services.ledger.records() if record.state.plan is not None]
    mine = {
        record.number: record
        for record in records
        if record.state.plan is not None and record.state.plan.mode == "ab" and record.state.plan.experiment == name
    }
    evidence = collect_experiment(
        services.lake,
        name,
        plans={number: record.state.plan for number, record in mine.items() if record.state.plan is not None},
        since=min(record.at for record in mine.values()),
        trusted_sources=settings.trusted_sources,
    )
    policy = ExperimentPolicy(
        min_exposure=settings.min_exposure,
        min_exposure_to_stop=min(100, settings.min_exposure),
        max_duration_s=settings.max_experiment_s,
    )
    return judge_experiment(evidence, policy)


def _append(services: Services, head: LedgerRecord, action: Action, reason: str, state: State, **more: Any) -> None:
    record = services.ledger.append(
        expected=head.number, actor="promote-flow", action=action, reason=reason, state=state, **more
    )
    services.project(record)


def _keep(services: Services, state: State, decision: "ExperimentDecision", at: datetime) -> None:
    """Put what was seen into experiments/<name>/<revision>.json, for whoever draws the experiment."""
    name = experiment_name(state)
    number = len(services.lake.list(f"experiments/{name}/")) + 1
    body = {"schema_version": 1, "at": at.isoformat(), **vars(decision)}
    services.lake.write(f"experiments/{name}/{number:06d}.json", json.dumps(body, indent=1).encode())


def advance(services: Services, version: str, *, approve: bool = False) -> LedgerRecord | None:
    """Take one step if one is due.

    Returns:
        The record that ended the matter, or None while it goes on.

    Raises:
        ConflictError: someone else moved the ledger at the same instant; look again.
        PermanentError: the version is not the challenger.
    """
    head = services.head()
    state = head.state
    if state.champion == version:
        return head
    if state.challenger != version:
        raise PermanentError(f"version {version} is not the challenger any more: the ledger says {head.reason}")
    now = datetime.now(UTC)
    step, share = next_step(head, now, services.settings)
    if step == "wait":
        return None
    if step == "shadow":
        _append(services, head, "traffic", "the challenger scores unseen", shadowed(state))
        return None
    if state.plan is not None and state.plan.mode == "ab":
        decision = look(services, state)
        _keep(services, state, decision, now)
        evidence = vars(decision)
        if decision.decision == "PROMOTE":
            if approve:
                from prefect import pause_flow_run

                pause_flow_run(timeout=7 * 24 * 3600)
            _append(services, head, "promote", decision.sentence, promoted(state), evidence=evidence)
            return services.head()
        if decision.decision in {"ROLL_BACK", "STOP_FOR_FUTILITY"}:
            _append(services, head, "rollback", decision.sentence, withdrawn(state), evidence=evidence)
            return services.head()
    if step == "ramp" and share is not None:
        _append(services, head, "traffic", f"ramp to {share:.0%}", ramped(state, share))
    return None


@flow(name="promote", flow_run_name="promote-v{version}")
def promote(
    version: Annotated[str, Field(description="The challenger's registry version.")],
) -> dict[str, Any]:
    """Take a challenger through shadow and A/B until it is champion or rolled back."""
    services = wire()
    head = services.head()
    if version not in {head.state.challenger, head.state.champion}:
        if version not in head.versions or services.reader.version(version).tags.get("gate") == "REJECT":
            raise PermanentError(f"version {version} is unknown to the ledger or was rejected by the gate")
        _append(services, head, "challenge", f"version {version} was named", challenged(head.state, version))
    ended: LedgerRecord | None = None
    while ended is None:
        try:
            ended = advance(services, version, approve=services.settings.approval)
        except ConflictError:
            continue
        if ended is None:
            time.sleep(_POLL_S)
    steps = [vars_of(record) for record in services.ledger.records() if version in str(record.state.to_json())]
    create_table_artifact(steps, key="promotion", description=ended.reason)
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
