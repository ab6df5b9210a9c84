"""Chronicle: data of the lake for the console, in one small file: ledger, experiment, verdicts, cost, insights.

The parent of a replica writes the file, and reads the lake only while the console is open. A worker that serves the
console touches a mark file, and the parent checks the age of the mark.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from absa.errors import EvergreenError, NotFoundError
from absa.ledger.record import LedgerRecord
from absa.ledger.store import Ledger
from absa.records.experiment import ExperimentRecord
from absa.records.files import write_whole
from absa.records.lake import Lake
from absa.records.layout import (
    COST_CURRENT,
    INSIGHTS_CURRENT,
    TRAININGS_FOLDER,
    VERDICTS_FOLDER,
    evidence_key,
    experiment_folder,
    is_look,
    verdict_of,
)
from absa.records.schema import iso, utc_now
from absa.records.trainings import TrainingState

FILE: Final = "console.json"
ASKED: Final = "console.asked"
EVERY_S: Final = 3.0
LOOKED_AT_S: Final = 60.0  # the console is open if a worker served it within this time
_RECORDS: Final = 12
_TRAININGS: Final = 8
_WINDOWS: Final = 48
_log = logging.getLogger("evergreen.chronicle")


class Chronicle:
    """Writer of the chronicle's file.

    Args:
        lake: lake to read.
        folder: folder of the replica; holds the file and the mark that the console is open.
        clock: returns seconds since 1970, like file times.
    """

    def __init__(self, lake: Lake, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._lake, self._ledger, self._folder, self._clock = lake, Ledger(lake), folder, clock
        self._kept: dict[str, dict[str, Any]] = {}  # records that never change, by key
        self._used: set[str] = set()
        self._written_at = 0.0

    def step(self) -> None:
        """Replace the file if it is old and the console is open. If the lake is unavailable, the file has the error."""
        now = self._clock()
        if now - self._written_at < EVERY_S or not self._is_looked_at(now):
            return
        self._written_at = now
        try:
            self._used.clear()
            told: dict[str, Any] = {"at": iso(utc_now()), "error": None, **self._compose()}
            self._kept = {key: self._kept[key] for key in self._used}
        except (EvergreenError, OSError) as error:
            told = {**read_chronicle(self._folder), "error": f"the lake cannot be read: {error}"}
        write_whole(self._folder / FILE, json.dumps(told).encode())

    def _is_looked_at(self, now: float) -> bool:
        try:
            return now - (self._folder / ASKED).stat().st_mtime < LOOKED_AT_S
        except OSError:
            return False

    def _compose(self) -> dict[str, Any]:
        records = self._ledger.follow()
        registered = _registered(records)
        return {
            "ledger": [_shown(record) for record in records[: -_RECORDS - 1 : -1]],
            "champions": _champions(records),
            "trainings": [self._training(*each) for each in registered[: -_TRAININGS - 1 : -1]],
            "unfinished": self._unfinished(utc_now()),
            "experiment": self._experiment(records),
            "verdicts": self._verdicts(),
            "cost": self._json(COST_CURRENT),
            "insights": self._json(INSIGHTS_CURRENT),
        }

    def _training(self, record: LedgerRecord, version: str | None) -> dict[str, Any]:
        """Return a registration with the figures of its training, from the evidence."""
        evidence: dict[str, Any] = {}
        if record.evidence_digest is not None:
            evidence = self._once(evidence_key(record.evidence_digest)) or {}
        return {
            "at": iso(record.at),
            "version": version,
            "gate": evidence.get("verdict"),
            "sentence": (evidence.get("reasons") or [record.reason])[0],
            **evidence.get("training", {}),
        }

    def _unfinished(self, now: datetime) -> list[dict[str, Any]]:
        """Return the last trainings without a version: running, failed or lost, the newest first."""
        shown = []
        for key in sorted(self._lake.list(TRAININGS_FOLDER), reverse=True)[:_TRAININGS]:
            found = self._kept.get(key) or self._json(key) or {}
            try:
                training = TrainingState.from_json(found)
            except (ValueError, KeyError, TypeError):
                continue  # written by a release that this release cannot read
            if training.ended_at is not None:
                self._kept[key] = found
                self._used.add(key)
            if training.outcome != "completed":
                shown.append(
                    {
                        "at": iso(training.started_at),
                        "state": "lost" if training.is_lost(now) else training.outcome,
                        "budget_s": training.budget_s,
                        "sentence": training.sentence,
                        "reason": training.reason,
                    }
                )
        return shown

    def _experiment(self, records: Sequence[LedgerRecord]) -> dict[str, Any] | None:
        """Return the running or the last experiment, with its looks in order of time; None without one."""
        plans = (record.state.plan for record in reversed(records))
        name = next((plan.experiment for plan in plans if plan is not None and plan.experiment is not None), None)
        if name is None:
            return None
        looks: list[dict[str, Any]] = []
        for key in self._lake.list(experiment_folder(name)):
            if is_look(key) and (found := self._json(key)) is not None:
                try:
                    record = ExperimentRecord.from_json(found)
                except (ValueError, KeyError, TypeError):
                    continue  # written by a release that this release cannot read
                looks += [{"mode": record.mode, **look.to_json()} for look in record.looks]
        active = records[-1].state.plan
        running = active is not None and active.experiment == name
        return {"name": name, "running": running, "looks": sorted(looks, key=lambda look: str(look["at"]))}

    def _verdicts(self) -> list[dict[str, Any]]:
        """Return the newest revision of each of the last windows, oldest first."""
        newest: dict[str, tuple[int, str]] = {}
        for key in self._lake.list(VERDICTS_FOLDER):
            if (named := verdict_of(key)) is not None:
                newest[named[0]] = max(newest.get(named[0], (0, "")), (named[1], key))
        shown = []
        for window in sorted(newest)[-_WINDOWS:]:
            found = self._once(newest[window][1])
            if found is not None:
                shown.append(_window(found))
        return shown

    def _once(self, key: str) -> dict[str, Any] | None:
        """Return a record that never changes. It is read once while the console shows it."""
        found = self._kept.get(key) or self._json(key)
        if found is not None:
            self._kept[key] = found
            self._used.add(key)
        return found

    def _json(self, key: str) -> dict[str, Any] | None:
        try:
            found = json.loads(self._lake.read(key))
        except (NotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def read_chronicle(folder: Path) -> dict[str, Any]:
    """Return the last chronicle of the parent; empty before the first one."""
    try:
        found = json.loads((folder / FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def reign_start(chronicle: Mapping[str, Any], champion: str | None) -> str | None:
    """Return the time since which a version is champion; None if the chronicle does not show it as champion yet.

    The chronicle is a few seconds old, so a router may have a new champion already.
    """
    newest = next(reversed(chronicle.get("champions") or ()), None)
    return newest["at"] if newest is not None and champion is not None and newest["version"] == champion else None


def ask_for_chronicle(folder: Path) -> None:
    """Mark the console as open, for the parent."""
    try:
        (folder / ASKED).touch()
    except OSError as error:  # a full disk: the console shows the old chronicle
        _log.warning("the console shows old data, because its mark cannot be written: %s", error.strerror)


def _shown(record: LedgerRecord) -> dict[str, Any]:
    plan = record.state.plan
    return {
        "number": record.number,
        "at": iso(record.at),
        "actor": record.actor,
        "action": record.action,
        "reason": record.reason,
        "champion": record.state.champion,
        "challenger": record.state.challenger,
        "mode": plan.mode if plan else None,
    }


def _champions(records: Sequence[LedgerRecord]) -> list[dict[str, Any]]:
    """Return each change of champion, for the drift timeline."""
    found: list[dict[str, Any]] = []
    champion = None
    for record in records:
        if record.state.champion != champion:
            champion = record.state.champion
            found.append({"at": iso(record.at), "version": champion, "action": record.action})
    return found[-_WINDOWS:]


def _registered(records: Sequence[LedgerRecord]) -> list[tuple[LedgerRecord, str | None]]:
    """Return each registration with its new version; None if it added no version."""
    found: list[tuple[LedgerRecord, str | None]] = []
    known: dict[str, str] = {}
    for record in records:
        if record.action == "register":
            found.append((record, next(iter(record.versions.keys() - known.keys()), None)))
        known = record.versions
    return found


def _window(found: dict[str, Any]) -> dict[str, Any]:
    figures = found.get("by_version", {}).get(found.get("version") or "", {})
    reasons = [reason.get("sentence") for reason in found.get("reasons") or ()]
    return {
        "start": found.get("window_start"),
        "end": found.get("window_end"),
        "verdict": found.get("verdict"),
        "version": found.get("version"),
        "rows": figures.get("rows"),
        "labelled": figures.get("labelled"),
        "f1": figures.get("f1", figures.get("pos_neg_f1")),
        "estimated_f1": figures.get("estimated_f1", figures.get("estimated_pos_neg_f1")),
        "coverage": figures.get("coverage"),
        "promise": figures.get("promise"),
        "certain_right": figures.get("certain_right"),
        "certain_labelled": figures.get("certain_labelled"),
        "reasons": [sentence for sentence in reasons if sentence],
        "action": found.get("action"),
        "action_reason": found.get("action_reason"),
        "retrainings": [
            {"at": attempt.get("at"), "state": attempt.get("state")} for attempt in found.get("attempts", [])
        ],
        "report_uri": found.get("report_uri"),
    }
