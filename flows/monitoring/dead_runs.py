"""Runs that died with their worker, host or Prefect's server: found by their signs of life and set to Crashed.

Prefect itself notices a run only while the worker that started it lives. After a power cut a run stays Running and
keeps its slot in its deployment's concurrency limit, so that every later run waits. A worker looks when it starts,
before it takes a run, and once a minute.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, Protocol, cast
from uuid import UUID

from absa.errors import UnavailableError
from absa.records.lake import Lake
from absa.records.layout import FLOW_RUNS_FOLDER, flow_run_key
from absa.records.schema import utc_now
from flows.platform.liveness import HeldState, Sight, death_of, lives_here, runs_with_a_process, sign_of
from flows.platform.prefect_runs import PROMOTION
from flows.platform.services import Services
from flows.promotion.take_over import follow

TAG: Final = "evergreen"  # of every deployment of the platform
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_PAGE: Final = 200


@dataclass(frozen=True, kw_only=True)
class UnfinishedRun:
    """A run that holds a slot of its deployment. `state_id` changes with every state, `since` is when it began."""

    run_id: str
    name: str
    deployment: str
    state: HeldState
    state_id: str
    since: datetime
    parameters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Concurrency limit of a deployment, and the slots that Prefect counts as taken."""

    deployment: str
    name: str
    taken: int


class Runs(Protocol):
    """Calls to Prefect that are used."""

    def unfinished(self) -> list[UnfinishedRun]:
        """Return every run of the platform's deployments that is PENDING, RUNNING or CANCELLING."""

    def end(self, run: UnfinishedRun, why: str) -> None:
        """Set a run to Crashed, or to Cancelled where it was being cancelled."""

    def limits(self) -> list[Limit]:
        """Return the limit of every deployment that has one."""

    def set_taken(self, limit: Limit, taken: int) -> None:
        """Correct the number of slots that are taken."""


class DeadRuns:
    """Finds and ends dead runs, look by look.

    Args:
        runs: Prefect.
        lake: holds the signs of life.
        host: identity of this host, see `liveness.this_host`.
        only_worker: whether no worker on another host can serve these deployments.
        follow: starts a promotion again, from its run's id and parameters.
        clock: monotonic time in seconds.
        now: current time.
        with_a_process: ids of the runs that a process of this host was started for.
    """

    def __init__(
        self,
        runs: Runs,
        lake: Lake,
        *,
        host: str,
        only_worker: bool,
        follow: Callable[[str, Mapping[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
        with_a_process: Callable[[], set[str]] = runs_with_a_process,
    ) -> None:
        self._runs, self._lake, self._host, self._only_worker = runs, lake, host, only_worker
        self._follow, self._clock, self._now, self._with_a_process = follow, clock, now, with_a_process
        self._seen: dict[str, tuple[object, float]] = {}  # what a run showed, and since when
        self._wrong: dict[Limit, int] = {}  # limits whose slots differed from their unfinished runs, and those
        self._first_look = self._limits_are_due = True

    def look(self) -> list[str]:
        """End the runs that cannot be alive, free their slots, and delete the notes of finished runs.

        Returns:
            A sentence for each run that was ended and each limit that was corrected.

        Raises:
            UnavailableError: Prefect or the lake is unavailable; the next look finds the rest.
        """
        seen, self._seen = self._seen, {}  # a look that fails forgets: time in which nothing was seen is not silence
        notes = self._lake.list(FLOW_RUNS_FOLDER)  # before the runs: whatever is listed here had started by then
        unfinished = self._runs.unfinished()
        processes = self._with_a_process() if unfinished else set()
        said = []
        for run in unfinished:
            why = self._death_of(run, processes, seen)
            if why is None:
                continue
            if run.deployment == PROMOTION and run.state != "CANCELLING":
                self._follow(run.run_id, run.parameters)  # before its end: the next look would not see it any more
            self._limits_are_due = True
            self._runs.end(run, why)
            said.append(f"run {run.name} of {run.deployment} was {run.state} and is dead: {why}")
        said += self._correct_limits()
        self._first_look = self._limits_are_due = False
        kept = {flow_run_key(run.run_id) for run in unfinished}
        for key in notes:
            if key not in kept:
                self._lake.delete(key)
        return said

    def _death_of(
        self, run: UnfinishedRun, processes: set[str], seen: Mapping[str, tuple[object, float]]
    ) -> str | None:
        sign = sign_of(self._lake, run.run_id)
        shown, at = (run.state_id, sign), self._clock()
        before, since = seen.get(run.run_id, (None, at))
        since = since if before == shown else at
        self._seen[run.run_id] = (shown, since)
        mine = sign is not None and sign.host == self._host and lives_here(sign)
        sight = Sight(
            sign=sign,
            process_is_here=mine if sign is not None else run.run_id in processes,
            state_age_s=(self._now() - run.since).total_seconds(),
            unchanged_s=at - since,
        )
        return death_of(sight, host=self._host, only_worker=self._only_worker, first_look=self._first_look)

    def _correct_limits(self) -> list[str]:
        """Set each limit's taken slots to its unfinished runs.

        Prefect frees a dead run's slot twice where its lease ran out before the run was set to Crashed, and never where
        the lease was lost with the server and the run was deleted. After a look that ended no run, a difference must be
        seen twice: it may be a run that is just taking its slot.
        """
        limits = self._runs.limits()
        held = Counter(run.deployment for run in self._runs.unfinished())
        wrong = {limit: held[limit.deployment] for limit in limits if limit.taken != held[limit.deployment]}
        certain = {limit: n for limit, n in wrong.items() if self._limits_are_due or self._wrong.get(limit) == n}
        self._wrong = {limit: runs for limit, runs in wrong.items() if limit not in certain}
        for limit, runs in certain.items():
            self._runs.set_taken(limit, runs)
        return [
            f"{limit.deployment}: {limit.taken} slots were taken, {runs} runs are unfinished; corrected"
            for limit, runs in certain.items()
        ]


def dead_runs(services: Services) -> DeadRuns:
    """Bind the look for dead runs to this host, Prefect and the lake."""
    from flows.platform.liveness import this_host

    return DeadRuns(
        PrefectRuns(),
        services.lake,
        host=this_host(),
        only_worker=is_only_worker(services),
        follow=partial(follow, services.deployments),
    )


def is_only_worker(services: Services) -> bool:
    """Return True if Prefect's server is this home's own and other hosts cannot reach it."""
    own = f"{services.home.url('prefect')}/api"
    return services.settings.host in _LOOPBACK and services.environment.get("PREFECT_API_URL", "").rstrip("/") == own


class PrefectRuns:
    """`Runs` of Prefect's server. Every method raises UnavailableError where the server is unavailable."""

    def unfinished(self) -> list[UnfinishedRun]:
        """Return every unfinished run, page by page."""
        from prefect.client.schemas.filters import FlowRunFilter
        from prefect.client.schemas.objects import FlowRun

        with _client() as client:
            names = {each.id: name for each, name in _deployments(client)}
            held = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}})
            found: list[FlowRun] = []
            while True:
                page: Sequence[FlowRun] = client.read_flow_runs(
                    flow_run_filter=held, deployment_filter=_tagged(), limit=_PAGE, offset=len(found)
                )
                found += page
                if len(page) < _PAGE:
                    break
        return [
            UnfinishedRun(
                run_id=str(run.id),
                name=run.name,
                deployment=names[run.deployment_id],
                state=cast(HeldState, run.state.type.value),
                state_id=str(run.state.id),
                since=run.state.timestamp,
                parameters=run.parameters,
            )
            for run in found
            if run.state is not None and run.deployment_id in names
        ]

    def end(self, run: UnfinishedRun, why: str) -> None:
        """Set a run to its final state; one that was deleted meanwhile is left."""
        from prefect.exceptions import ObjectNotFound
        from prefect.states import Cancelled, Crashed

        state: Any = Cancelled(message=why) if run.state == "CANCELLING" else Crashed(message=why)
        with _client() as client:
            try:
                client.set_flow_run_state(UUID(run.run_id), state, force=True)
            except ObjectNotFound:
                return

    def limits(self) -> list[Limit]:
        """Return the limits with their taken slots."""
        with _client() as client:
            return [
                Limit(
                    deployment=name,
                    name=each.global_concurrency_limit.name,
                    taken=each.global_concurrency_limit.active_slots,
                )
                for each, name in _deployments(client)
                if each.global_concurrency_limit is not None
            ]

    def set_taken(self, limit: Limit, taken: int) -> None:
        """Write the number of taken slots."""
        from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

        with _client() as client:
            client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(active_slots=taken))


def _tagged() -> Any:
    from prefect.client.schemas.filters import DeploymentFilter

    return DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})


def _deployments(client: Any) -> list[tuple[Any, str]]:
    """Return the platform's deployments, each with `flow/deployment`, its name."""
    found = client.read_deployments(deployment_filter=_tagged())
    return [(each, f"{client.read_flow(each.flow_id).name}/{each.name}") for each in found]


@contextmanager
def _client() -> Iterator[Any]:
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    try:
        with get_client(sync_client=True) as client:
            yield client
    except ObjectNotFound as error:
        raise UnavailableError(
            "a deployment of Prefect was deleted meanwhile; the next look sees what is left"
        ) from error
    except (httpx.HTTPError, RuntimeError) as error:
        raise UnavailableError(f"Prefect is unavailable: {error}") from error
