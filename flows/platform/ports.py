"""Ports: interfaces of use cases to MLflow, Prefect, the package store, and the display of progress."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar

from absa.errors import TransientError
from absa.inference.package import ModelPackage
from absa.ledger.record import LedgerRecord

_T = TypeVar("_T")
DELAYS_S: Final = (1.0, 4.0, 10.0)
"""Pauses before a step is repeated, in seconds."""
RunEnd = Literal["completed", "failed"]
HeldState = Literal["PENDING", "RUNNING", "CANCELLING"]


class Registry(Protocol):
    """Registered versions. Every method raises UnavailableError if the registry is unavailable."""

    def versions(self) -> list[str]:
        """Return every version, oldest first; empty if none was registered."""

    def tags(self, version: str) -> dict[str, str]:
        """Return the tags of a version.

        Raises:
            NotFoundError: no such version is registered.
        """

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version; its other tags stay."""

    def download(self, version: str, folder: Path) -> Path:
        """Download a version's package below a folder and return its own folder.

        Raises:
            NotFoundError: no such version is registered, or its package is lost.
        """

    def aliases(self) -> dict[str, str]:
        """Return the version of each alias; empty if no version was registered."""

    def anchor(self) -> tuple[int, str] | None:
        """Return number and hash of the ledger record that the aliases were last set from, or None."""

    def project(self, head: LedgerRecord) -> list[str]:
        """Set the aliases from the ledger's head. Idempotent.

        Returns:
            A sentence for each alias that was changed by hand.
        """


class TrackedRun(Protocol):
    """Tracking run while a candidate is made. Every method raises UnavailableError if its server is unavailable."""

    run_id: str
    history: list[dict[str, Any]]
    """Progress events so far, in order."""

    def event(self, event: Mapping[str, Any]) -> None:
        """Record an event of the training process; progress becomes metrics by step."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; those that are None are left out."""

    def metrics(self, values: Mapping[str, float | None]) -> None:
        """Log final metrics; those that are None are left out."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""

    def dataset(self, rows: Any | None, *, digest: str, side: str, source: str) -> None:
        """Record a split of the snapshot as the run's input.

        Args:
            rows: pandas frame; None for a large split.
            digest: of the snapshot.
            side: name of the split.
            source: place of the rows.
        """

    def files(self, folder: Path, *, into: str) -> None:
        """Store every file of a folder as an artifact."""

    def register(self, package: Path) -> str:
        """Log a package as the run's model, register it and return the version.

        A repeated call returns the same version.

        Raises:
            IntegrityError: the folder holds no complete package.
        """


class Runs(Protocol):
    """Tracking runs."""

    def prepare(self) -> None:
        """Make the database if it is missing. This takes seconds, so call it before the budget of a run starts.

        Raises:
            UnavailableError: the database cannot be made.
        """

    def open(self, name: str, *, tags: Mapping[str, str]) -> AbstractContextManager[TrackedRun]:
        """Open a run; it ends FAILED if the body raises.

        Raises:
            UnavailableError: the server is unavailable before or after the body.
        """


class Packages(Protocol):
    """Model packages by digest, in the lake and on local disk."""

    def put(self, folder: Path) -> str:
        """Copy a package into the lake and return its digest. A repeated call changes nothing.

        Raises:
            IntegrityError: the folder holds no complete package.
            UnavailableError: the lake is unavailable.
        """

    def copy_missing(self, versions: Mapping[str, str]) -> list[str]:
        """Copy packages into the lake that an earlier release stored only in the registry.

        Args:
            versions: digest of the package by version.

        Returns:
            A sentence for each package that was copied, or could not be copied.
        """

    def get(self, version: str, digest: str) -> ModelPackage:
        """Return a version's package on local disk. It is fetched once, and checked against its digest.

        Raises:
            NotFoundError: the store does not hold it.
            UnavailableError: the store is unavailable.
            IntegrityError: its files are not those that were registered.
        """


@dataclass(frozen=True, kw_only=True)
class RunState:
    """State of a flow run. `end` is None until the run has ended, `began_at` until it holds a slot."""

    name: str
    end: RunEnd | None
    began_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class UnfinishedRun:
    """Run that holds a slot of its deployment. Each state has another `state_id`, and began at `since`."""

    run_id: str
    name: str
    deployment: str
    state: HeldState
    state_id: str
    since: datetime
    parameters: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ConcurrencyLimit:
    """Concurrency limit of a deployment, and the number of slots that Prefect counts as taken."""

    deployment: str
    name: str
    taken: int


class Deployments(Protocol):
    """Runs of the platform's deployments. Every method but `emit` raises UnavailableError if Prefect is unavailable."""

    def start(
        self,
        name: str,
        parameters: Mapping[str, Any],
        *,
        key: str | None = None,
        tags: Sequence[str] = (),
        at: datetime | None = None,
    ) -> str:
        """Request a run and do not wait for it.

        Args:
            name: flow/deployment.
            parameters: of the flow.
            key: idempotency key; a second call with the same key returns the first run.
            tags: of the run.
            at: start time; None: now.

        Returns:
            The run's id.
        """

    def state(self, run_id: str) -> RunState | None:
        """Return the state of a run, or None if it was deleted."""

    def crash(self, run_id: str, why: str) -> None:
        """Set a run that will never end to Crashed, so that its concurrency slot is free again."""

    def cancel(self, run_id: str, why: str) -> None:
        """Set a run that was being cancelled to Cancelled, so that its concurrency slot is free again."""

    def unfinished(self) -> list[UnfinishedRun]:
        """Return every run that holds a slot."""

    def limits(self) -> list[ConcurrencyLimit]:
        """Return the concurrency limit of each deployment that has one."""

    def set_taken(self, limit: ConcurrencyLimit, taken: int) -> None:
        """Correct the number of slots that Prefect counts as taken."""

    def pause(self, run_id: str, timeout_s: float) -> None:
        """Show a run as Paused, so that an operator can resume it; its process continues."""

    def resume(self, run_id: str) -> None:
        """Set a paused run to Running."""

    def emit(self, event: str, resource: str, payload: Mapping[str, Any]) -> None:
        """Send an event. The lake has the same facts in a record, so a lost event changes nothing."""


class Steps(Protocol):
    """Runner of a use case's steps."""

    def __call__(self, name: str, action: Callable[[], _T], *, again: bool = False) -> _T:
        """Run a step and return its result.

        Args:
            name: of the step, shown to users.
            action: the step. If `again` is True, it must be safe to repeat.
            again: repeat the step after a TransientError, with pauses of 1, 4 and 10 s.
        """


def run_step(
    name: str,  # noqa: ARG001  of `Steps`
    action: Callable[[], _T],
    *,
    again: bool = False,
    delays_s: Sequence[float] = DELAYS_S,
) -> _T:
    """Run a step in this process; `Steps` of commands and tests."""
    for delay_s in delays_s if again else ():
        try:
            return action()
        except TransientError:
            time.sleep(delay_s)
    return action()


class Reporter(Protocol):
    """Receiver of the pages, tables, progress and lines that a use case shows while it works."""

    def page(self, page: str, *, key: str, description: str) -> None:
        """Show a Markdown page. The caller has escaped each text in it by `absa.sinks`."""

    def table(self, rows: Sequence[Mapping[str, Any]], *, key: str, description: str) -> None:
        """Show rows as a table. Markup in a text is shown, not rendered."""

    def progress(self, *, key: str, description: str) -> Callable[[float], None]:
        """Show a bar at 0 %. The returned function sets it to a percentage of 0 to 100."""

    def log(self, line: str) -> None:
        """Print a line."""
