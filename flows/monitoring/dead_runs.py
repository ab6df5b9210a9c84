"""Runs that died with their worker, host or Prefect's server: found by their signs of life and set to Crashed.

Prefect itself finds the end of a run only while the worker that started the run is alive. After a power failure a run
stays Running and keeps its slot in its deployment's concurrency limit, so that every later run waits. A worker looks
for dead runs when it starts, before it takes a run, and once a minute. The sign of life of a run is a note in the lake
that the run renews once a minute.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from absa.records.lake import Lake
from absa.records.layout import FLOW_RUNS_FOLDER, flow_run_key
from absa.records.schema import utc_now
from flows.platform.liveness import Sight, death_of, lives_here, runs_with_a_process, sign_of, this_host
from flows.platform.ports import ConcurrencyLimit, Deployments, UnfinishedRun
from flows.platform.prefect_runs import PROMOTION
from flows.platform.services import Services
from flows.promotion.take_over import follow

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class DeadRuns:
    """Finder of dead runs. Each look ends the dead runs that it finds.

    Args:
        deployments: runs and limits of Prefect.
        lake: holds the signs of life.
        host: identity of this host, see `liveness.this_host`.
        only_worker: True if no worker on another host can serve these deployments.
        clock: monotonic time in seconds.
        now: current time.
        with_a_process: ids of the runs for which a process of this host was started.
    """

    def __init__(
        self,
        deployments: Deployments,
        lake: Lake,
        *,
        host: str,
        only_worker: bool,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
        with_a_process: Callable[[], set[str]] = runs_with_a_process,
    ) -> None:
        self._deployments, self._lake, self._host, self._only_worker = deployments, lake, host, only_worker
        self._clock, self._now, self._with_a_process = clock, now, with_a_process
        self._seen: dict[str, tuple[object, float]] = {}  # state and note of a run, and the time of their last change
        self._wrong: dict[ConcurrencyLimit, int] = {}  # limits with a wrong number of slots, and their unfinished runs
        self._first_look = self._limits_are_due = True

    def look(self) -> list[str]:
        """End the runs that cannot be alive, free their slots, and delete the notes of finished runs.

        Returns:
            A sentence for each run that was ended and each limit that was corrected.

        Raises:
            UnavailableError: Prefect or the lake is unavailable; the next look finds the other runs.
        """
        seen, self._seen = self._seen, {}  # after a failed look all start again: time without looks is not silence
        notes = self._lake.list(FLOW_RUNS_FOLDER)  # before the runs: every run with a note has started by then
        unfinished = self._deployments.unfinished()
        processes = self._with_a_process() if unfinished else set()
        said = []
        for run in unfinished:
            why = self._death_of(run, processes, seen)
            if why is None:
                continue
            if run.deployment == PROMOTION and run.state != "CANCELLING":
                follow(
                    self._deployments, run.run_id, run.parameters
                )  # first, because an ended run is not found by the next look
            self._limits_are_due = True
            end = self._deployments.cancel if run.state == "CANCELLING" else self._deployments.crash
            end(run.run_id, why)
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
        """Set each limit's number of taken slots to its number of unfinished runs.

        Prefect frees a dead run's slot twice if its lease ran out before the run was set to Crashed, and never if the
        lease was lost with the server and the run was deleted. After a look that ended no run, a difference must be
        found twice, because a run may just be taking its slot.
        """
        limits = self._deployments.limits()
        held = Counter(run.deployment for run in self._deployments.unfinished())
        wrong = {limit: held[limit.deployment] for limit in limits if limit.taken != held[limit.deployment]}
        certain = {limit: n for limit, n in wrong.items() if self._limits_are_due or self._wrong.get(limit) == n}
        self._wrong = {limit: runs for limit, runs in wrong.items() if limit not in certain}
        for limit, runs in certain.items():
            self._deployments.set_taken(limit, runs)
        return [
            f"{limit.deployment}: {limit.taken} slots were taken, {runs} runs are unfinished; corrected"
            for limit, runs in certain.items()
        ]


def dead_runs(services: Services) -> DeadRuns:
    """Return the finder of dead runs for this host, with its Prefect and lake."""
    return DeadRuns(services.deployments, services.lake, host=this_host(), only_worker=is_only_worker(services))


def is_only_worker(services: Services) -> bool:
    """Return True if Prefect's server is this home's own and other hosts cannot reach it."""
    own = f"{services.home.url('prefect')}/api"
    return services.settings.host in _LOOPBACK and services.environment.get("PREFECT_API_URL", "").rstrip("/") == own
