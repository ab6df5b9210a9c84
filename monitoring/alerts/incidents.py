"""Messages about incidents, one per incident: a stale version, or a monitor that does not run."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from absa.errors import AlreadyExistsError
from absa.records.lake import Lake
from absa.records.layout import incident_key
from absa.records.schema import SCHEMA_VERSION, compact, iso, utc_now
from absa.records.verdict import Verdict
from absa.sinks import chat_text
from monitoring.alerts.webhook import UndeliveredError, Webhook
from monitoring.verdicts import VerdictStore

_UNJUDGED: Final = frozenset({"too_few_rows", "no_history", "reference_too_small"})


def alert(lake: Lake, verdict: Verdict, webhook: Webhook, *, verdicts: VerdictStore | None = None) -> bool:
    """Notify a webhook of a STALE verdict, once per incident.

    An incident lasts from its first STALE window to the next FRESH window of the same version. The incident is marked
    in the lake before its message is sent. Therefore only one of two monitors sends the message, and at most once, even
    after a crash.

    Returns:
        True if a message was sent.

    Raises:
        UnavailableError: the webhook is unavailable, or needs a proxy that cannot be used. A later call may send a
            refused message again; a message that may have arrived counts as sent.
        PermanentError: see `Webhook.check`.
    """
    if verdict.verdict != "STALE":
        return False
    name = _first_of_incident(verdicts or VerdictStore(lake), verdict).window.key
    return _send_once(lake, name, message(verdict), webhook)


def alert_silence(lake: Lake, sentence: str, *, since: datetime, webhook: Webhook) -> bool:
    """Notify a webhook that the monitor does not run, once per silence.

    Args:
        lake: keeps the incidents that were sent.
        sentence: the message.
        since: time of the monitor's last run; names the incident.
        webhook: receives the message.

    Returns:
        True if a message was sent.

    Raises:
        UnavailableError: the webhook is unavailable; see `alert`.
        PermanentError: see `Webhook.check`.
    """
    body: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "text": chat_text(sentence),
        "monitor_ran_at": iso(since),
    }
    return _send_once(lake, f"silent-{compact(since)}", body, webhook)


def _send_once(lake: Lake, name: str, content: Mapping[str, object], webhook: Webhook) -> bool:
    webhook.check()
    key = incident_key(name)
    try:
        lake.create(key, json.dumps(content).encode())
    except AlreadyExistsError:
        return False
    try:
        webhook.send(f"incident-{name}", content, at=utc_now())
    except UndeliveredError:
        lake.delete(key)
        raise
    return True


def message(verdict: Verdict) -> dict[str, object]:
    """Return the body of the webhook's request. Chat tools show `text`, which may name a customer's segment."""
    sentences = " ".join(reason.sentence for reason in verdict.reasons)
    text = f"{verdict.verdict}: version {verdict.version}. {sentences} Action: {verdict.action_reason}"
    return {
        "schema_version": SCHEMA_VERSION,
        "text": chat_text(text),
        "window_start": iso(verdict.window.start),
        "window_end": iso(verdict.window.end),
        "verdict": verdict.verdict,
        "version": verdict.version,
        "action": verdict.action,
        "report_uri": verdict.report_uri,
    }


def _first_of_incident(store: VerdictStore, verdict: Verdict) -> Verdict:
    first = verdict
    for earlier in store.newest_first():
        if earlier.window.start >= verdict.window.start:
            continue
        if earlier.version != verdict.version or (earlier.verdict == "FRESH" and not _is_unjudged(earlier)):
            break
        if earlier.verdict == "STALE":
            first = earlier
    return first


def _is_unjudged(verdict: Verdict) -> bool:
    """Return True for a window whose drift could not be judged; such a window does not end an incident."""
    return any(reason.kind in _UNJUDGED for reason in verdict.reasons)
