"""Fakes of ports, passed to `build_services`, and records that several tests put into a lake first."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from absa.errors import NotFoundError, UnavailableError
from absa.inference.package import load_package
from absa.ledger.projection import project_head
from absa.ledger.record import LedgerRecord
from absa.records.schema import Window
from absa.records.verdict import Verdict
from flows.platform.ports import ConcurrencyLimit, RunState, UnfinishedRun


class FakeRegistry:
    """Registry in memory; see tests/integration/platform/test_registry_contract.py. `away` makes it unavailable,
    `fails` names calls, or figures of a run, of which the next one fails.

    Args:
        tags: of each version.
        packages: folder of each version's package.
    """

    def __init__(
        self, tags: Mapping[str, Mapping[str, str]] | None = None, *, packages: Mapping[str, Path] | None = None
    ) -> None:
        self.kept = {version: dict(each) for version, each in (tags or {}).items()}
        self.packages = dict(packages or {})
        self.downloads: list[str] = []
        self.shown: dict[str, str] = {}
        self.head: tuple[int, str] | None = None
        self.away = False
        self.fails: set[str] = set()

    def fail_once(self, call: str) -> None:
        if call in self.fails:
            self.fails.remove(call)
            raise UnavailableError("MLflow is unavailable")

    def _look(self) -> None:
        if self.away:
            raise UnavailableError("MLflow is unavailable")

    def versions(self) -> list[str]:
        self._look()
        return sorted(self.kept, key=int)

    def tags(self, version: str) -> dict[str, str]:
        self._look()
        if version not in self.kept:
            raise NotFoundError(f"there is no version {version}")
        return dict(self.kept[version])

    def set_tags(self, version: str, tags: Mapping[str, str]) -> None:
        self.fail_once("set_tags")
        self.tags(version)
        self.kept[version] |= tags

    def download(self, version: str, folder: Path) -> Path:
        self._look()
        if version not in self.packages:
            raise NotFoundError(f"there is no package of version {version}")
        self.downloads.append(version)
        return Path(shutil.copytree(self.packages[version], folder / "artifacts"))

    def aliases(self) -> dict[str, str]:
        self._look()
        return dict(self.shown)

    def anchor(self) -> tuple[int, str] | None:
        self._look()
        return self.head

    def project(self, head: LedgerRecord) -> list[str]:
        self._look()
        return project_head(self, head)

    def set_alias(self, alias: str, version: str | None) -> None:
        if version is None:
            self.shown.pop(alias, None)
        else:
            self.shown[alias] = version

    def set_anchor(self, number: int, digest: str) -> None:
        self.head = (number, digest)


class FakeRun:
    """Tracking run in memory.

    Args:
        run_id: of the run.
        registry: receives the version.
    """

    def __init__(self, run_id: str, registry: FakeRegistry) -> None:
        self.run_id, self._registry = run_id, registry
        self.history: list[dict[str, Any]] = []
        self.parameters: dict[str, Any] = {}
        self.figures: dict[str, float] = {}
        self.marks: dict[str, str] = {}
        self.artifacts: list[str] = []
        self.sides: list[str] = []
        self.columns: list[str] = []
        self.version: str | None = None
        self.status = "RUNNING"

    def event(self, event: Mapping[str, Any]) -> None:
        if event.get("event") == "progress":
            self.history.append(dict(event))

    def params(self, values: Mapping[str, Any]) -> None:
        self._registry.fail_once("params")
        self.parameters |= {name: value for name, value in values.items() if value is not None}

    def metrics(self, values: Mapping[str, float | None]) -> None:
        for name in values:
            self._registry.fail_once(name)
        self.figures |= {name: value for name, value in values.items() if value is not None}

    def tags(self, values: Mapping[str, str]) -> None:
        self.marks |= values

    def dataset(self, rows: Any | None, *, digest: str, side: str, source: str) -> None:
        self.sides.append(side)
        self.columns = [] if rows is None else list(rows.columns)

    def files(self, folder: Path, *, into: str) -> None:
        self.artifacts += sorted(f"{into}/{file.name}" for file in folder.iterdir())

    def register(self, package: Path) -> str:
        self._registry.fail_once("register")
        digest = load_package(package).digest
        if self.version is None:
            self.version = str(len(self._registry.versions()) + 1)
            self._registry.kept[self.version] = {"digest": digest}
            self._registry.packages[self.version] = package
        return self.version


class FakeRuns:
    """Tracking runs in memory, oldest first. `away` makes their server unavailable."""

    def __init__(self, registry: FakeRegistry) -> None:
        self._registry = registry
        self.kept: list[FakeRun] = []
        self.away = False

    def prepare(self) -> None:
        """Nothing is missing in memory."""

    @contextmanager
    def open(self, name: str, *, tags: Mapping[str, str]) -> Iterator[FakeRun]:
        if self.away:
            raise UnavailableError("MLflow is unavailable: nothing was trained; run it again")
        run = FakeRun(f"run-{len(self.kept) + 1}", self._registry)
        run.tags(tags)
        self.kept.append(run)
        try:
            yield run
        except BaseException:
            run.status = "FAILED"
            raise
        self._registry.fail_once("end_run")
        run.status = "FINISHED"


class FakeDeployments:
    """Runs by idempotency key. A run that is new has not ended; `ended` holds those that have.

    Attributes:
        started: name, parameters and key of each request, repeated ones included.
        crashed: runs that were set to Crashed.
        states: states of runs that it did not start itself.
        events: names of the events that were sent.
        active: runs that hold a slot.
        taken: slots that are counted as taken, by deployment; a run that ends frees none, as after its lease ran out.
        reasons: why each run was ended.
    """

    def __init__(self, states: Mapping[str, RunState | None] | None = None) -> None:
        self.runs: dict[str, str] = {}
        self.started: list[tuple[str, dict[str, Any], str | None]] = []
        self.crashed: list[str] = []
        self.ended: set[str] = set()
        self.states = dict(states or {})
        self.events: list[str] = []
        self.active: list[UnfinishedRun] = []
        self.taken: dict[str, int] = {}
        self.reasons: dict[str, str] = {}
        self.away = False

    def start(
        self,
        name: str,
        parameters: Mapping[str, Any],
        *,
        key: str | None = None,
        tags: Sequence[str] = (),
        at: datetime | None = None,
    ) -> str:
        if self.away:
            raise UnavailableError("Prefect is unavailable")
        self.started.append((name, dict(parameters), key))
        return self.runs.setdefault(key or f"unkeyed-{len(self.started)}", f"run-{len(self.runs) + 2}")

    def state(self, run_id: str) -> RunState | None:
        if run_id in self.states:
            return self.states[run_id]
        if run_id in self.ended:
            return RunState(name="Failed", end="failed")
        return RunState(name="Running", end=None)

    def crash(self, run_id: str, why: str) -> None:
        self.crashed.append(run_id)
        self.cancel(run_id, why)

    def cancel(self, run_id: str, why: str) -> None:
        self.ended.add(run_id)
        self.active = [run for run in self.active if run.run_id != run_id]
        self.reasons[run_id] = why

    def unfinished(self) -> list[UnfinishedRun]:
        return list(self.active)

    def limits(self) -> list[ConcurrencyLimit]:
        return [ConcurrencyLimit(deployment=name, name=name, taken=taken) for name, taken in self.taken.items()]

    def set_taken(self, limit: ConcurrencyLimit, taken: int) -> None:
        self.taken[limit.deployment] = taken

    def pause(self, run_id: str, timeout_s: float) -> None:
        self.states[run_id] = RunState(name="Paused", end=None)

    def resume(self, run_id: str) -> None:
        self.states[run_id] = RunState(name="Running", end=None)

    def emit(self, event: str, resource: str, payload: Mapping[str, Any]) -> None:
        self.events.append(event)


def stale(window: Window) -> Verdict:
    """A verdict that asks for a retraining at the window's end."""
    return Verdict(
        window=window,
        verdict="STALE",
        version="1",
        by_version={},
        reasons=(),
        action="retrain",
        action_reason="300 new labels are there to learn from.",
        at=window.end,
    )
