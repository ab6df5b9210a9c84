"""Messages about ledger records and finished trainings, each sent at least once.

A message is sent until the webhook accepts it or it is a day old. The lake keeps the names of accepted messages. Two
concurrent senders may both send a message; both copies have the same id.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from absa.errors import NotFoundError, UnavailableError
from absa.ledger.record import LedgerRecord
from absa.records.lake import Lake
from absa.records.layout import announced_key
from absa.records.schema import SCHEMA_VERSION, iso, parse_iso
from absa.records.trainings import TrainingState, read_trainings
from absa.sinks import chat_text
from monitoring.alerts.webhook import RefusedMessageError, Webhook

KEPT_TRYING: Final = timedelta(days=1)
_LONGEST_TRAINING: Final = timedelta(days=2)
_LOOK_S: Final = 15.0  # longest time of one call, so that a slow webhook delays no other work


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """Message about a record. `name` is its id, `at` the time of the record."""

    name: str
    at: datetime
    message: Mapping[str, object]


def of_record(record: LedgerRecord) -> Announcement:
    """Return the message about a ledger record: the record without the digests of all versions."""
    champion = f"version {record.state.champion}" if record.state.champion else "none"
    text = f"Ledger record {record.number}, {record.action}: {record.reason} Champion: {champion}."
    shown = {name: value for name, value in record.to_json().items() if name not in {"versions", "task"}}
    return _announcement(f"ledger-{record.number}-{record.hash[:8]}", record.at, text, {"record": shown})


def of_training(training: TrainingState) -> Announcement | None:
    """Return the message about a training; None while it runs."""
    if training.ended_at is None:
        return None
    text = f"Training {training.outcome}, requested by {training.reason}: {training.sentence}"
    return _announcement(f"training-{training.name}", training.ended_at, text, {"training": training.to_json()})


def _announcement(name: str, at: datetime, text: str, content: Mapping[str, object]) -> Announcement:
    (kind,) = content
    head = {"schema_version": SCHEMA_VERSION, "type": f"evergreen.{kind}", "id": name, "at": iso(at)}
    return Announcement(name=name, at=at, message={**head, "text": chat_text(text), **content})


def due(found: Iterable[Announcement], sent: Iterable[str], now: datetime) -> list[Announcement]:
    """Return the messages to send, oldest first: not sent yet and not older than a day. Pure."""
    known = set(sent)
    chosen = [each for each in found if each.name not in known and each.at > now - KEPT_TRYING]
    return sorted(chosen, key=lambda each: each.at)


def announce(
    lake: Lake,
    records: Sequence[LedgerRecord],
    webhook: Webhook,
    *,
    now: datetime,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Send each message that is due once.

    The call ends after 15 s, or if the webhook cannot be reached; a later call sends the other messages. If the webhook
    refuses a message, the next ones are still sent.

    Args:
        lake: has trainings, and the names of messages that were sent.
        records: the ledger, oldest first.
        webhook: receives the messages.
        now: current time.
        clock: returns seconds; measures the duration of the call.

    Returns:
        A sentence for each message that was not accepted.

    Raises:
        UnavailableError: the lake is unavailable.
        PermanentError: the webhook's address cannot be used.
    """
    sent, ends = _sent(lake, now), clock() + _LOOK_S
    states, _ = read_trainings(lake, since=now - KEPT_TRYING - _LONGEST_TRAINING)  # status lists unreadable ones
    trainings = (of_training(each) for each in states)
    recent = [of_record(each) for each in records if each.at > now - KEPT_TRYING]
    said: list[str] = []
    taken: dict[str, datetime] = {}
    for each in due([*recent, *(found for found in trainings if found is not None)], sent, now):
        if clock() > ends:
            break
        try:
            webhook.send(each.name, each.message, at=now)
            taken[each.name] = each.at
        except RefusedMessageError as error:
            said.append(f"{each.name}: {error}")
        except UnavailableError as error:
            said.append(f"{each.name}: {error}")
            break
    if taken:
        kept = {"schema_version": SCHEMA_VERSION, "sent": {name: iso(at) for name, at in {**sent, **taken}.items()}}
        lake.write(announced_key(), json.dumps(kept).encode())
    return said


def _sent(lake: Lake, now: datetime) -> dict[str, datetime]:
    """Return the messages of the last day that were sent, with the times of their records."""
    try:
        kept = json.loads(lake.read(announced_key()))["sent"]
    except NotFoundError:
        return {}
    found = {str(name): parse_iso(at) for name, at in kept.items()}
    return {name: at for name, at in found.items() if at > now - KEPT_TRYING}
