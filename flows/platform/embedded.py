"""Deployments without Prefect: the command that requests a run also runs it, in its own process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn
from uuid import uuid4

from absa.errors import UnavailableError
from absa.records.lake import Lake
from absa.records.schema import parse_iso
from flows.platform.liveness import leave_sign, lives_here, sign_of, this_host
from flows.platform.ports import ConcurrencyLimit, RunState, UnfinishedRun


@dataclass(frozen=True, kw_only=True)
class RequestedRun:
    """Requested run that the command itself has to run. `name` is flow/deployment."""

    run_id: str
    name: str
    parameters: Mapping[str, Any]


class EmbeddedDeployments:
    """`Deployments` of a command that works without Prefect.

    The command finds requested runs in `requested`, and runs them itself. The lake gets a sign of life that names the
    command's process, so that other processes can see that the run is alive.

    Args:
        lake: lake for the signs of life.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self.requested: list[RequestedRun] = []

    def start(
        self,
        name: str,
        parameters: Mapping[str, Any],
        *,
        key: str | None = None,  # noqa: ARG002  not needed: records of lake and ledger prevent a second run
        tags: Sequence[str] = (),  # noqa: ARG002  for Prefect only
        at: datetime | None = None,  # noqa: ARG002  the command starts the run now
    ) -> str:
        """Keep a request for the command and return its id."""
        run_id = str(uuid4())
        leave_sign(self._lake, run_id)
        self.requested.append(RequestedRun(run_id=run_id, name=name, parameters=dict(parameters)))
        return run_id

    def state(self, run_id: str) -> RunState | None:
        """Return the state of a run from its sign of life; None without one."""
        return process_state(self._lake, run_id)

    def crash(self, run_id: str, why: str) -> None:
        """Change nothing: a run without Prefect holds no slot."""

    def cancel(self, run_id: str, why: str) -> None:
        """Change nothing: a run without Prefect holds no slot."""

    def unfinished(self) -> list[UnfinishedRun]:
        """Return no run: none holds a slot."""
        return []

    def limits(self) -> list[ConcurrencyLimit]:
        """Return no limit."""
        return []

    def set_taken(self, limit: ConcurrencyLimit, taken: int) -> NoReturn:
        """Refuse: there are no limits."""
        raise self._missing(f"the limit of {limit.deployment} cannot be set to {taken}")

    def pause(self, run_id: str, timeout_s: float) -> NoReturn:
        """Refuse: no page would resume the run."""
        raise self._missing(f"run {run_id} cannot be paused for {timeout_s:.0f} s")

    def resume(self, run_id: str) -> NoReturn:
        """Refuse: no run is paused."""
        raise self._missing(f"run {run_id} cannot be resumed")

    def emit(self, event: str, resource: str, payload: Mapping[str, Any]) -> None:
        """Send nothing: there is no receiver."""

    def _missing(self, what: str) -> UnavailableError:
        return UnavailableError(f"{what}: Prefect does not run here, `evergreen up` starts it")


def process_state(lake: Lake, run_id: str) -> RunState | None:
    """Return the state of a run from its sign of life; None without one.

    A run on another host counts as running, because this host cannot see its process.
    """
    sign = sign_of(lake, run_id)
    if sign is None:
        return None
    if sign.host == this_host() and not lives_here(sign):
        return RunState(name=f"ended with its process {sign.pid}", end="failed", began_at=parse_iso(sign.at))
    return RunState(name="running", end=None, began_at=parse_iso(sign.at))
