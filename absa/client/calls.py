"""Calls of the router's API: request bodies, the reading of answers, and the pause before a retry."""

import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, Final

import httpx

from absa.errors import PermanentError, UnavailableError

ITEMS_A_REQUEST: Final = 100  # items of a request; a router accepts 128 unless its max_instances is another number
PREDICT_ROUTE: Final = "/v1/predict"
FEEDBACK_ROUTE: Final = "/v1/feedback"
_BUSY: Final = frozenset({429, 503})
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0

BodyFields = Mapping[str, Any]
"""Fields of one text: text, aspect or topic, unit_id, segment."""
GivenLabel = tuple[str, int | str]
"""Request id of a prediction, and its right label as a number or a name."""


class Retries:
    """Attempts of one call: the pause before the next attempt, or the error that ended the call.

    Args:
        url: address of the router, for messages.
        patience_s: limit of the sum of all pauses, in seconds.
    """

    def __init__(self, url: str, patience_s: float) -> None:
        self._url, self._left_s, self._attempt = url, patience_s, 0

    def result(self, answer: httpx.Response) -> Any:
        """Return the JSON of a good answer, or `Again` for a refusal after which a later attempt may succeed.

        Raises:
            PermanentError: the request is not valid.
        """
        try:
            body = answer.json()
        except ValueError:
            body = None
        if answer.status_code < 300 and body is not None:
            return body
        detail = body.get("detail") if isinstance(body, dict) else None
        said = f"the router answered {answer.status_code}: {detail or answer.reason_phrase}"
        if answer.status_code not in _BUSY:
            raise PermanentError(said)
        return Again(error=UnavailableError(said), retry_after=answer.headers.get("retry-after"))

    def again(self, error: httpx.HTTPError) -> "Again":
        """Return `Again` for a router that was not reached.

        Raises:
            UnavailableError: the request was sent, so the router may have answered it.
        """
        failed = UnavailableError(
            f"the router at {self._url} is unavailable ({type(error).__name__}): run `evergreen serve`"
        )
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Again(error=failed)
        raise failed from None

    def pause_s(self, again: "Again") -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            UnavailableError: the sum of the pauses would be above the limit.
        """
        pause_s = retry_pause_s(self._attempt, again.retry_after, now=datetime.now(UTC))
        if pause_s > self._left_s:
            raise again.error
        self._attempt, self._left_s = self._attempt + 1, self._left_s - pause_s
        return pause_s


@dataclass(frozen=True, kw_only=True)
class Again:
    """Attempt that failed for now. `retry_after` is the header Retry-After; None if the answer had none."""

    error: UnavailableError
    retry_after: str | None = None


def retry_pause_s(attempt: int, retry_after: str | None, *, now: datetime, luck: float | None = None) -> float:
    """Return the seconds to wait before the next attempt.

    Args:
        attempt: number of failed attempts before this one, from 0.
        retry_after: header of the refusal, in seconds or as an HTTP date; any other value is ignored.
        now: current time, for a date.
        luck: 0 to 1, so that clients that were refused together do not retry together; None: drawn at random.

    Returns:
        With the header: its value times 1 to 1.25. Without it: 0.2 s, doubled per attempt up to 5 s, times 0.5 to 1.
    """
    drawn = random.random() if luck is None else luck
    asked = _seconds(retry_after, now) if retry_after else None
    if asked is not None:
        return asked * (1.0 + drawn / 4.0)
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**attempt) * (0.5 + drawn / 2.0)


def _seconds(retry_after: str, now: datetime) -> float | None:
    try:
        seconds = float(retry_after)
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def item_of(text: str, aspect: str | None, topic: str | None, unit_id: str | None, segment: str | None) -> BodyFields:
    """Return the body of one text, without the fields that are None."""
    given = {"text": text, "aspect": aspect, "topic": topic, "unit_id": unit_id, "segment": segment}
    return {name: value for name, value in given.items() if value is not None}


def label_of(request_id: str, label: int | str, sampling_probability: float | None = None) -> BodyFields:
    """Return the body of one label."""
    body = {"request_id": request_id, "label": label}
    return body if sampling_probability is None else {**body, "sampling_probability": sampling_probability}


def bodies_of(items: Iterable[BodyFields], batch: int) -> Iterator[dict[str, Any]]:
    """Yield request bodies of at most `batch` items each."""
    left = iter(items)
    while part := list(islice(left, batch)):
        yield {"instances": part}


def champion_labels(models: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels of the champion from the answer of GET /v1/models, in the order of the scores.

    Raises:
        UnavailableError: no worker has loaded the champion yet.
    """
    held = [model for worker in models["workers"] for model in worker["models"] if model["labels"]]
    champion = next((model for model in held if model["alias"] == "champion"), None)
    if champion is None:
        raise UnavailableError("the router has no champion loaded yet: train or promote a version first")
    return tuple(champion["labels"])
