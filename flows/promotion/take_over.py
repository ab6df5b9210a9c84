"""Follower of a dead promote run, so that no active experiment is left without its guardrails.

Three mechanisms find a dead promote run. Prefect finds a run whose process died while its worker lives
(`started_again`). A worker finds a run that died with its worker (`dead_runs`). Workers and the monitor find an active
experiment whose sign of life in the lake is old (`take_over`). All use the dead run's id as idempotency key, so only
one run follows. If a training was killed before it started the promotion of its challenger, `take_over` starts it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from absa.errors import NotFoundError
from absa.ledger.lifecycle import live_arms
from absa.ledger.record import LedgerRecord
from absa.records.layout import watched_key
from absa.records.schema import iso, parse_iso, utc_now
from flows.platform.ports import Deployments
from flows.platform.prefect_runs import PROMOTION, promotion_key
from flows.platform.services import Services
from flows.promotion.running_experiment import running

ACTOR: Final = "promote-flow"
SILENCE_S: Final = 120.0  # a run that is alive looks at least every twenty seconds
_AGAIN_IN: Final = timedelta(seconds=5)


def sign_of_life(services: Services, experiment: str, run_id: str | None) -> None:
    """Record the time at which a flow run has looked at an experiment."""
    body = {"at": iso(utc_now()), "flow_run_id": run_id}
    services.lake.write(watched_key(experiment), json.dumps(body).encode())


def take_over(services: Services, now: datetime) -> list[str]:
    """Start a promotion for an experiment without a living run, or for a challenger whose training was killed.

    Experiments that an operator planned by hand are not changed.

    Returns:
        A sentence about the run that was started; empty if none was.

    Raises:
        UnavailableError: Prefect or the lake is unavailable.
    """
    records = services.ledger.follow()
    if (version := _untried_challenger(services, records)) is not None:
        return _try(version, records[-1].number, services.deployments)
    run = running(records)
    if run is None or run.records[0].actor != ACTOR:
        return []
    last, run_id = run.records[0].at, None
    try:
        noted: dict[str, Any] = json.loads(services.lake.read(watched_key(run.name)))
        if parse_iso(noted["at"]) > last:
            last, run_id = parse_iso(noted["at"]), noted["flow_run_id"]
    except NotFoundError:
        pass
    silent_s = (now - last).total_seconds()
    if silent_s < SILENCE_S:
        return []
    deployments = services.deployments
    own_key = f"{run.name}-{iso(last)}"
    versions = [arm.version for arm in live_arms(run.head.state.plan)]
    parameters = {"version": versions[0], "others": versions[1:], "revision": run.head.number}
    if run_id is None:
        started = deployments.start(PROMOTION, parameters, key=own_key)
    else:
        if not _has_ended(deployments, run_id, unknown=True):
            deployments.crash(run_id, f"it gave no sign of life for {silent_s:.0f} s")
        started = deployments.start(PROMOTION, parameters, key=_follower_key(run_id))
        if _has_ended(deployments, started, unknown=False):  # the follower ended, the experiment did not
            started = deployments.start(PROMOTION, parameters, key=own_key)
    return [f"experiment {run.name} had no look for {silent_s:.0f} s; run {started} continues the experiment"]


def follow(deployments: Deployments, run_id: str, parameters: Mapping[str, Any]) -> None:
    """Request a dead run's promotion again, once, with the ledger record of its first request.

    Raises:
        UnavailableError: Prefect is unavailable.
    """
    known = parameters.get("revision") is not None  # without it, a trial that has ended would start again
    again = bool(parameters.get("again")) and known
    deployments.start(PROMOTION, {**parameters, "again": again}, key=_follower_key(run_id), at=utc_now() + _AGAIN_IN)


def _untried_challenger(services: Services, records: Sequence[LedgerRecord]) -> str | None:
    """Return the challenger of a training with `start_promotion`, while no experiment tries it."""
    state = records[-1].state if records else None
    if state is None or state.challenger is None or (state.plan is not None and state.plan.mode != "single"):
        return None
    for record in reversed(records):
        if record.action == "challenge" and record.state.challenger == state.challenger:
            training = services.ledger.evidence(record).get("training") or {}
            return state.challenger if training.get("start_promotion") else None
    return None


def _try(version: str, revision: int, deployments: Deployments) -> list[str]:
    """Start a challenger's promotion; if it was started before, the key returns that run."""
    run_id = deployments.start(PROMOTION, {"version": version, "revision": revision}, key=promotion_key(version))
    if _has_ended(deployments, run_id, unknown=False):
        return []  # the run ended without a crash: an operator has to check it
    return [f"version {version}, the challenger, had no promotion run: run {run_id} tries it"]


def _has_ended(deployments: Deployments, run_id: str, *, unknown: bool) -> bool:
    state = deployments.state(run_id)
    return unknown if state is None else state.end is not None


def _follower_key(run_id: str) -> str:
    return f"after-{run_id}"
