"""Trainings in the lake: one small record each, for console and webhook.

A record is running, completed or failed. The ledger has only versions, so a failed training is not in the ledger. A
training whose process was killed stays running; `TrainingState.is_lost` detects this.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import uuid4

from absa.records.lake import Lake, read_concurrently
from absa.records.layout import TRAININGS_FOLDER, training_key
from absa.records.schema import SCHEMA_VERSION, compact, iso, parse_iso

TrainingOutcome = Literal["running", "completed", "failed"]
_GRACE_S: Final = 300.0
_OVERRUN: Final = 1.25  # a first training may take a quarter longer than its budget


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingState:
    """State of a training.

    Attributes:
        name: start time and a random part, so that names sort by time.
        started_at: start of the request, before teachers and budget.
        allowed_s: seconds that teachers, budget and waiting for a machine may take.
        budget_s: budget of the run, in seconds.
        reason: reason of the request.
        outcome: running until the training has ended.
        ended_at: end of the training; None while it runs.
        version: registry version of a completed training.
        verdict: decision of the gate: PROMOTE, HOLD or REJECT.
        sentence: result, or reason of the failure, without a customer's text.
    """

    name: str
    started_at: datetime
    allowed_s: float
    budget_s: float
    reason: str
    outcome: TrainingOutcome = "running"
    ended_at: datetime | None = None
    version: str | None = None
    verdict: str | None = None
    sentence: str = ""

    def is_lost(self, now: datetime) -> bool:
        """Return True if the training should have ended long ago, so its process was killed."""
        latest = self.started_at + timedelta(seconds=_OVERRUN * self.allowed_s + _GRACE_S)
        return self.ended_at is None and now > latest

    def completed(self, at: datetime, *, version: str, verdict: str, sentence: str) -> "TrainingState":
        """Return the state after a version was registered."""
        return replace(self, outcome="completed", ended_at=at, version=version, verdict=verdict, sentence=sentence)

    def failed(self, at: datetime, sentence: str) -> "TrainingState":
        """Return the state after an error."""
        return replace(self, outcome="failed", ended_at=at, sentence=sentence)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that the lake holds."""
        ended = None if self.ended_at is None else iso(self.ended_at)
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "started_at": iso(self.started_at), "ended_at": ended}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "TrainingState":
        """Read a state and ignore unknown fields.

        Raises:
            ValueError, KeyError, TypeError: the data are not a state.
        """
        known = {each.name for each in fields(cls)}
        found = {name: value for name, value in data.items() if name in known}
        ended = found["ended_at"]
        times = {"started_at": parse_iso(found["started_at"]), "ended_at": None if ended is None else parse_iso(ended)}
        return cls(**{**found, **times})


def begin_training(at: datetime, *, allowed_s: float, budget_s: float, reason: str) -> TrainingState:
    """Return the state of a training that starts now."""
    name = f"{compact(at)}-{uuid4().hex[:8]}"
    return TrainingState(name=name, started_at=at, allowed_s=allowed_s, budget_s=budget_s, reason=reason)


def write_training(lake: Lake, state: TrainingState) -> None:
    """Write a state and replace the earlier state of the same training.

    Raises:
        UnavailableError: the lake is unavailable.
    """
    lake.write(training_key(state.name), json.dumps(state.to_json()).encode())


def read_trainings(lake: Lake, *, since: datetime | None = None) -> tuple[list[TrainingState], list[str]]:
    """Return trainings, oldest first, and a sentence for each record that cannot be read.

    Args:
        lake: lake of the records.
        since: only trainings that started at this time or later; None: all.

    Raises:
        UnavailableError: the lake is unavailable.
    """
    keys = sorted(lake.list(TRAININGS_FOLDER))
    first = training_key(compact(since)) if since is not None else ""
    chosen = [key for key in keys if key >= first]
    found: list[TrainingState] = []
    unreadable: list[str] = []
    for key, data in zip(chosen, read_concurrently(lake, chosen), strict=True):
        try:
            found.append(TrainingState.from_json(json.loads(data)))
        except (ValueError, TypeError, KeyError, AttributeError):
            unreadable.append(f"{lake.url(key)} is not the record of a training: delete it, no version needs it")
    return found, unreadable
