"""Messages to a webhook, one per incident: a version goes stale, or the monitor does not run."""

import json
import os
from collections.abc import Mapping
from datetime import datetime
from socket import gaierror
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import Request

from absa.errors import AlreadyExistsError, PermanentError, UnavailableError
from absa.proxies import open_url, require_route
from absa.records.lake import Lake
from absa.records.layout import incident_key
from absa.records.schema import SCHEMA_VERSION, compact, iso
from absa.sinks import chat_text
from monitoring.verdicts import Verdict, VerdictStore

_TIMEOUT_S: Final = 5.0


def alert(lake: Lake, verdict: Verdict, url: str) -> bool:
    """Tell a webhook about a STALE verdict if its incident has not been told.

    An incident lasts from its first STALE window to the next FRESH one of the same version. It is marked as told
    before the message goes out, so that of two monitors one tells it and a crash tells it at most once.

    Returns:
        Whether a message was sent.

    Raises:
        UnavailableError: the webhook does not answer, or needs a proxy that cannot be used. The incident is free to be
            told later where the message was refused; where it may have arrived, it counts as told.
        PermanentError: the address is not http(s).
    """
    _must_be_http(url)
    if verdict.verdict != "STALE":
        return False
    return _send_once(lake, incident_key(_first_of_incident(lake, verdict).window.key), message(verdict), url)


def alert_silence(lake: Lake, sentence: str, *, since: datetime, url: str) -> bool:
    """Tell a webhook that the monitor does not run, once per silence.

    Args:
        lake: remembers what was told.
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
    return _send_once(lake, incident_key(f"silent-{compact(since)}"), body, url)


def _must_be_http(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise PermanentError(f"a webhook's address starts with http:// or https://, got {url!r}")


def _send_once(lake: Lake, key: str, content: Mapping[str, object], url: str) -> bool:
    require_route(url, os.environ)
    body = json.dumps(content).encode()
    try:
        lake.create(key, body)
    except AlreadyExistsError:
        return False
    request = Request(url, data=body, headers={"Content-Type": "application/json"}, method="POST")  # noqa: S310 - checked above
    try:
        with open_url(request, timeout_s=_TIMEOUT_S):
            return True
    except (URLError, OSError) as error:
        if not _may_have_arrived(error):
            lake.delete(key)
        raise UnavailableError(f"the webhook is unavailable: {error}") from error


def _may_have_arrived(error: OSError) -> bool:
    """Whether the message could be with the webhook all the same: nobody refused it, and no answer came in time."""
    refused = isinstance(error, HTTPError) or isinstance(getattr(error, "reason", error), ConnectionRefusedError)
    return not refused and not isinstance(getattr(error, "reason", error), gaierror)


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


def _first_of_incident(lake: Lake, verdict: Verdict) -> Verdict:
    first = verdict
    for earlier in reversed(VerdictStore(lake).history()):
        if earlier.window.start >= verdict.window.start:
            continue
        if earlier.version != verdict.version or earlier.verdict == "FRESH":
            break
        if earlier.verdict == "STALE":
            first = earlier
    return first
