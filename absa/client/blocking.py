"""Blocking client of a router."""

import os
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import httpx

from absa.client.calls import (
    FEEDBACK_ROUTE,
    ITEMS_A_REQUEST,
    PREDICT_ROUTE,
    Again,
    BodyFields,
    GivenLabel,
    Retries,
    bodies_of,
    champion_labels,
    item_of,
    label_of,
)
from absa.errors import EvergreenError
from absa.proxies import is_local, require_route


class Client:
    """Client of one router; may be shared by threads. It is a context manager that closes its connections.

    A request is repeated if the router refuses it for now (429, 503) or cannot be reached. The header Retry-After gives
    the pause before a retry; without the header, pauses grow. All pauses together are at most `patience_s`.

    Args:
        url: address of the router, or of the load balancer before it.
        predict_key: API key of predictions, if the router requires one.
        feedback_key: API key of labels, which names their source.
        timeout_s: limit of connecting, sending and each read, in seconds.
        patience_s: limit of the sum of all pauses before retries, in seconds; 0: no retry.
        transport: replaces the network, for tests.
        sleep: waits for a number of seconds.

    Raises:
        UnavailableError: the address needs a proxy that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        predict_key: str | None = None,
        feedback_key: str | None = None,
        timeout_s: float = 10.0,
        patience_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        require_route(url, os.environ)
        self._url, self._patience_s, self._sleep = url, patience_s, sleep
        self._keys = {PREDICT_ROUTE: predict_key, FEEDBACK_ROUTE: feedback_key}
        self._http = httpx.Client(
            base_url=url, timeout=timeout_s, transport=transport, trust_env=transport is None and not is_local(url)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def predict(
        self,
        text: str,
        aspect: str | None = None,
        *,
        topic: str | None = None,
        unit_id: str | None = None,
        segment: str | None = None,
    ) -> dict[str, Any]:
        """Return the answer to one text, with an aspect or a topic if the router's task requires one.

        Args:
            text: text to label.
            aspect: phrase of the text.
            topic: any phrase.
            unit_id: user or account; all requests of a unit get the same arm of an experiment.
            segment: product, customer or market.

        Returns:
            `request_id`, `label`, `name`, `scores`, `certain`, `model_version` and the other fields of the API.

        Raises:
            PermanentError: the request is not valid.
            UnavailableError: the router was down, busy or not ready for longer than the client waits.
        """
        answer: dict[str, Any] = self._call("POST", PREDICT_ROUTE, item_of(text, aspect, topic, unit_id, segment))
        return answer

    def predict_many(self, items: Iterable[BodyFields], *, batch: int = ITEMS_A_REQUEST) -> list[dict[str, Any]]:
        """Return the answers to many texts in their order, `batch` of them per request.

        Raises:
            EvergreenError: see `predict`.
        """
        answers: list[dict[str, Any]] = []
        for body in bodies_of(items, batch):
            answers += self._call("POST", PREDICT_ROUTE, body)["predictions"]
        return answers

    def feedback(self, request_id: str, label: int | str, *, sampling_probability: float | None = None) -> None:
        """Send the right label of a prediction, as its number or its name. The last label of a prediction counts.

        Args:
            request_id: request id of the answer.
            label: number or name of the right label.
            sampling_probability: chance, above 0 and at most 1, that this prediction was chosen for a label.

        Raises:
            PermanentError: the label, the id or the key is refused.
            UnavailableError: see `predict`.
        """
        self._call("POST", FEEDBACK_ROUTE, label_of(request_id, label, sampling_probability))

    def feedback_many(self, labels: Iterable[GivenLabel], *, batch: int = ITEMS_A_REQUEST) -> int:
        """Send many labels, `batch` of them per request. The router accepts all labels of a request or none.

        Sending labels again changes nothing, so after an error the caller may send all of them again.

        Returns:
            The number of accepted labels.

        Raises:
            EvergreenError: see `feedback`; the message gives the number of labels that were accepted before.
        """
        taken = 0
        for body in bodies_of((label_of(*each) for each in labels), batch):
            try:
                self._call("POST", FEEDBACK_ROUTE, body)
            except EvergreenError as error:
                raise type(error)(f"{error}; {taken} labels were taken before") from error
            taken += len(body["instances"])
        return taken

    def labels(self) -> tuple[str, ...]:
        """Return the names of the champion's labels, in the order of the scores.

        If the router has an admin port, the client needs the address of that port.

        Raises:
            EvergreenError: see `predict`.
        """
        return champion_labels(self._call("GET", "/v1/models"))

    def is_ready(self) -> bool:
        """Return True if the router answers predictions now."""
        try:
            return self._http.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def _call(self, method: str, path: str, body: BodyFields | None = None) -> Any:
        key = self._keys.get(path)
        headers = {} if key is None else {"X-API-Key": key}
        retries = Retries(self._url, self._patience_s)
        while True:
            try:
                found = retries.result(self._http.request(method, path, json=body, headers=headers))
            except httpx.HTTPError as error:
                found = retries.again(error)
            if not isinstance(found, Again):
                return found
            self._sleep(retries.pause_s(found))
