"""Follower of a dead promote run, so that no active experiment is left without its guardrails.

Three mechanisms find a dead promote run. Prefect notices one whose process alone died (`started_again`), a worker finds
one that died with its worker (`dead_runs`), and the sign of life in the lake of an active experiment grows old
(`take_over`, by workers and the monitor). All use the dead run's id as idempotency key, so one run follows. `take_over`
also starts the promotion that a training was killed before it could start.
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from absa.errors import NotFoundError, UnavailableError
from absa.ledger.lifecycle import live_arms
from absa.records.layout import watched_key
from absa.records.schema import iso, parse_iso, utc_now
from flows.platform.ports import Deployments
from flows.platform.prefect_runs import PROMOTION, PrefectDeployments, promotion_key
from flows.platform.services import Services
from flows.promotion.ledger_trainings import untried_challenger
from flows.promotion.running_experiment import running

ACTOR: Final = "promote-flow"
SILENCE_S: Final = 120.0  # a living run looks at least every twenty seconds
_AGAIN_IN: Final = timedelta(seconds=5)


def sign_of_life(services: Services, experiment: str, flow_run_id: str | None) -> None:
    """Note that a run has just looked."""
    body = {"at": iso(utc_now()), "flow_run_id": flow_run_id}
    services.lake.write(watched_key(experiment), json.dumps(body).encode())


def take_over(services: Services, now: datetime) -> list[str]:
    """Start the promote deployment for an experiment of its own that nobody looks at any more.

    So it does for a challenger whose training was killed before it did. Experiments that a person planned by hand are
    left alone.

    Returns:
        What was done, as sentences: nothing, or one.

    Raises:
        UnavailableError: Prefect is unavailable.
    """
    records = services.ledger.follow()
    if (version := untried_challenger(services, records)) is not None:
        return _try(version, records[-1].number, services.deployments)
    run = running(records)
    if run is None or run.records[0].actor != ACTOR:
        return []
    last, flow_run_id = run.records[0].at, None
    key = f"{run.name}-{iso(last)}"
    try:
        noted: dict[str, Any] = json.loads(services.lake.read(watched_key(run.name)))
        if parse_iso(noted["at"]) > last:
            last, flow_run_id = parse_iso(noted["at"]), noted["flow_run_id"]
    except NotFoundError:
        pass
    silent_s = (now - last).total_seconds()
    if silent_s < SILENCE_S:
        return []
    if flow_run_id is not None:
        key = _follower_key(flow_run_id)
        stood = services.deployments.state(flow_run_id)
        if stood is not None and stood.end is None:
            services.deployments.crash(flow_run_id, f"nothing was heard of it for {silent_s:.0f} s")
    versions = [arm.version for arm in live_arms(run.head.state.plan)]
    parameters = {"version": versions[0], "others": versions[1:], "revision": run.head.number}
    start = services.deployments.start
    started = start(PROMOTION, parameters, key=key)
    if flow_run_id is not None and (found := services.deployments.state(started)) is not None and found.end is not None:
        started = start(
            PROMOTION, parameters, key=f"{run.name}-{iso(last)}"
        )  # the follower ended, the experiment did not
    return [f"experiment {run.name} was not looked at for {silent_s:.0f} s: run {started} continues it"]


def _try(version: str, revision: int, deployments: Deployments) -> list[str]:
    """Start a challenger's promotion; where it was started before, the key gives that run again."""
    run_id = deployments.start(PROMOTION, {"version": version, "revision": revision}, key=promotion_key(version))
    stood = deployments.state(run_id)
    if stood is not None and stood.end is not None:
        return []  # it ended by itself: a person has to look
    return [f"nobody tried version {version}, the challenger: run {run_id} does"]


def started_again(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001  as Prefect calls a hook
    """Start another promotion after one whose process died. Hook of Prefect."""
    try:
        follow(PrefectDeployments(), str(flow_run.id), flow_run.parameters)
    except UnavailableError:
        return  # whoever comes by next starts it


def follow(deployments: Deployments, run_id: str, parameters: Mapping[str, Any]) -> None:
    """Request a dead run's promotion again, once, as of the ledger record at which it was requested first.

    Raises:
        UnavailableError: Prefect is unavailable.
    """
    known = parameters.get("revision") is not None  # without it, a trial that ended meanwhile would start again
    again = bool(parameters.get("again")) and known
    deployments.start(PROMOTION, {**parameters, "again": again}, key=_follower_key(run_id), at=utc_now() + _AGAIN_IN)


def _follower_key(run_id: str) -> str:
    return f"after-{run_id}"
