"""Fakes of ports, passed to `build_services`, and records that several tests put into a lake first."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from absa.errors import NotFoundError, UnavailableError
from absa.ledger.record import LedgerRecord
from absa.records.schema import Window
from flows.platform.ports import RunState
from monitoring.verdicts import Verdict


class FakeRegistry:
    """Registry in memory. `away` makes it unavailable.

    Args:
        tags: of each version.
        packages: folder of each version that an earlier release registered; its package is not in the lake.
    """

    def __init__(
        self, tags: Mapping[str, Mapping[str, str]] | None = None, *, packages: Mapping[str, Path] | None = None
    ) -> None:
        self.kept = {version: dict(each) for version, each in (tags or {}).items()}
        self.packages = dict(packages or {})
        self.downloads: list[str] = []
        self.away = False

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
        return {}

    def anchor(self) -> tuple[int, str] | None:
        self._look()
        return None

    def project(self, head: LedgerRecord) -> list[str]:
        self._look()
        return []


class FakeDeployments:
    """Runs by idempotency key. A run that is new has not ended; `ended` holds those that have.

    Attributes:
        started: name, parameters and key of each request, repeated ones included.
        crashed: runs that were set to Crashed.
        states: states of runs that it did not start itself.
        events: names of the events that were sent.
    """

    def __init__(self, states: Mapping[str, RunState | None] | None = None) -> None:
        self.runs: dict[str, str] = {}
        self.started: list[tuple[str, dict[str, Any], str | None]] = []
        self.crashed: list[str] = []
        self.ended: set[str] = set()
        self.states = dict(states or {})
        self.events: list[str] = []
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
        self.ended.add(run_id)

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
