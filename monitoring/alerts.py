"""Messages to a webhook, one per incident: a version goes stale, or the monitor does not run."""

import json
import os
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import httpx

from absa.errors import AlreadyExistsError, PermanentError, UnavailableError
from absa.proxies import require_route
from absa.records.lake import Lake
from absa.records.layout import incident_key
from absa.records.schema import SCHEMA_VERSION, compact, iso
from absa.records.verdict import Verdict
from absa.sinks import chat_text
from monitoring.verdicts import VerdictStore

_TIMEOUT_S: Final = 5.0
_UNJUDGED: Final = frozenset({"too_few_rows", "no_history", "reference_too_small"})


def alert(
    lake: Lake, verdict: Verdict, url: str, *, verdicts: VerdictStore | None = None, timeout_s: float = _TIMEOUT_S
) -> bool:
    """Notify a webhook of a STALE verdict, once per incident.

    An incident lasts from its first STALE window to the next FRESH one of the same version. It is marked before the
    message goes out, so that one of two monitors sends it and a crash sends it at most once.

    Returns:
        True if a message was sent.

    Raises:
        UnavailableError: the webhook is unavailable, or needs a proxy that cannot be used. A refused message may be
            sent later; one that may have arrived counts as sent.
        PermanentError: the address is not http(s).
    """
    _must_be_http(url)
    if verdict.verdict != "STALE":
        return False
    key = incident_key(_first_of_incident(verdicts or VerdictStore(lake), verdict).window.key)
    return _send_once(lake, key, message(verdict), url, timeout_s)


def alert_silence(lake: Lake, sentence: str, *, since: datetime, url: str) -> bool:
    """Notify a webhook that the monitor does not run, once per silence.

    Args:
        lake: keeps the incidents that were sent.
        sentence: the message.
        since: when the monitor ran last; names the incident.
        url: the webhook.

    Returns:
        Whether a message was sent.

    Raises:
        UnavailableError: the webhook is unavailable; see `alert`.
        PermanentError: the address is not http(s).
    """
    _must_be_http(url)
    body: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "text": chat_text(sentence),
        "monitor_ran_at": iso(since),
    }
    return _send_once(lake, incident_key(f"silent-{compact(since)}"), body, url, _TIMEOUT_S)


def _must_be_http(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise PermanentError("the webhook's address cannot be used: expected one such as https://HOST/PATH")


def _send_once(lake: Lake, key: str, content: Mapping[str, object], url: str, timeout_s: float) -> bool:
    require_route(url, os.environ)
    try:
        lake.create(key, json.dumps(content).encode())
    except AlreadyExistsError:
        return False
    try:
        httpx.post(url, json=content, timeout=timeout_s).raise_for_status()
    except httpx.HTTPStatusError as error:  # its own sentence names the address, which is a secret
        lake.delete(key)
        raise UnavailableError(f"the webhook refused the message with status {error.response.status_code}") from None
    except httpx.HTTPError as error:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):  # it cannot have arrived
            lake.delete(key)
        raise UnavailableError(f"the webhook is unavailable: {str(error) or type(error).__name__}") from error
    return True


def message(verdict: Verdict) -> dict[str, object]:
    """Body of a webhook's request. Chat tools show `text`, which may name a customer's segment."""
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
    """Return True for a window whose drift could not be judged: it does not end an incident."""
    return any(reason.kind in _UNJUDGED for reason in verdict.reasons)
