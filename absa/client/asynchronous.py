"""Client of a router for asyncio."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
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


class AsyncClient:
    """Client of one router for asyncio: as `Client`, with `async with` and `await`.

    Args:
        url: address of the router, or of the load balancer before it.
        predict_key: API key of predictions.
        feedback_key: API key of labels.
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
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        require_route(url, os.environ)
        self._url, self._patience_s, self._sleep = url, patience_s, sleep
        self._keys = {PREDICT_ROUTE: predict_key, FEEDBACK_ROUTE: feedback_key}
        self._http = httpx.AsyncClient(
            base_url=url, timeout=timeout_s, transport=transport, trust_env=transport is None and not is_local(url)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def predict(
        self,
        text: str,
        aspect: str | None = None,
        *,
        topic: str | None = None,
        unit_id: str | None = None,
        segment: str | None = None,
    ) -> dict[str, Any]:
        """Return the answer to one text; see `Client.predict`."""
        answer: dict[str, Any] = await self._call("POST", PREDICT_ROUTE, item_of(text, aspect, topic, unit_id, segment))
        return answer

    async def predict_many(self, items: Iterable[BodyFields], *, batch: int = ITEMS_A_REQUEST) -> list[dict[str, Any]]:
        """Return the answers to many texts in their order; see `Client.predict_many`."""
        answers: list[dict[str, Any]] = []
        for body in bodies_of(items, batch):
            answers += (await self._call("POST", PREDICT_ROUTE, body))["predictions"]
        return answers

    async def feedback(self, request_id: str, label: int | str, *, sampling_probability: float | None = None) -> None:
        """Send the right label of a prediction; see `Client.feedback`."""
        await self._call("POST", FEEDBACK_ROUTE, label_of(request_id, label, sampling_probability))

    async def feedback_many(self, labels: Iterable[GivenLabel], *, batch: int = ITEMS_A_REQUEST) -> int:
        """Send many labels and return the number of accepted labels; see `Client.feedback_many`."""
        taken = 0
        for body in bodies_of((label_of(*each) for each in labels), batch):
            try:
                await self._call("POST", FEEDBACK_ROUTE, body)
            except EvergreenError as error:
                raise type(error)(f"{error}; {taken} labels were taken before") from error
            taken += len(body["instances"])
        return taken

    async def labels(self) -> tuple[str, ...]:
        """Return the names of the champion's labels; see `Client.labels`."""
        return champion_labels(await self._call("GET", "/v1/models"))

    async def is_ready(self) -> bool:
        """Return True if the router answers predictions now."""
        try:
            return (await self._http.get("/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _call(self, method: str, path: str, body: BodyFields | None = None) -> Any:
        key = self._keys.get(path)
        headers = {} if key is None else {"X-API-Key": key}
        retries = Retries(self._url, self._patience_s)
        while True:
            try:
                found = retries.result(await self._http.request(method, path, json=body, headers=headers))
            except httpx.HTTPError as error:
                found = retries.again(error)
            if not isinstance(found, Again):
                return found
            await self._sleep(retries.pause_s(found))
