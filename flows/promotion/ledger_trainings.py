"""What the ledger's evidence says of the trainings behind its records, whatever became of their runs."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from absa.errors import NotFoundError
from absa.ledger.record import LedgerRecord
from absa.records.layout import evidence_key
from absa.records.schema import Window
from flows.platform.services import Services


def is_in_force(services: Services, window: Window, since: datetime) -> bool:
    """Whether a training for the window has, since a time, done all that its version needed in the ledger."""
    for record in services.ledger.follow():
        if record.at < since or record.action not in {"register", "challenge", "promote"}:
            continue
        evidence = _evidence(services, record)
        named = record.action != "register" or evidence.get("verdict") != "PROMOTE"
        if named and _training(evidence).get("window") == window.key:
            return True
    return False


def untried_challenger(services: Services, records: Sequence[LedgerRecord]) -> str | None:
    """The challenger in force whose training was to start its promotion, as long as nothing tries it."""
    if not records:
        return None
    state = records[-1].state
    if state.challenger is None or (state.plan is not None and state.plan.mode != "single"):
        return None
    naming = [each for each in records if each.action == "challenge" and each.state.challenger == state.challenger]
    asked = naming and _training(_evidence(services, naming[-1])).get("start_promotion")
    return state.challenger if asked else None


def _evidence(services: Services, record: LedgerRecord) -> dict[str, Any]:
    if record.evidence_digest is None:
        return {}
    try:
        found: dict[str, Any] = json.loads(services.lake.read(evidence_key(record.evidence_digest)))
    except (NotFoundError, ValueError):
        return {}
    return found


def _training(evidence: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = evidence.get("training") or {}
    return found
