"""Simulated customers over HTTP: they send requests to the router at a steady rate, and feedback later."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import httpx
from pydantic import SecretStr

from absa.data.traffic.pool_traffic import SimulatedRequest
from absa.errors import UnavailableError

_CONNECTIONS: Final = 32
_MOST_WAITING: Final = 256  # requests in flight; with more, this process would be slower than the router
_TIMEOUT_S: Final = 10.0


@dataclass
class TrafficReport:
    """Counts of requests. `served` and `right` are by arm and version; an answer is right if it is the true label."""

    sent: int = 0
    held_back: int = 0  # not sent, because `_MOST_WAITING` requests were in flight
    answered: int = 0
    feedback: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    right: Counter[tuple[str, str]] = field(default_factory=Counter)

    def accuracy(self) -> dict[tuple[str, str], float]:
        """Return the share of right answers, 0 to 1, by (arm, version)."""
        return {key: self.right[key] / count for key, count in self.served.items()}

    @property
    def share_right(self) -> float:
        """Share of right answers over all arms, 0 to 1; 0 without an answer."""
        return sum(self.right.values()) / self.answered if self.answered else 0.0


class _Connections(contextlib.AsyncExitStack):
    """Connections to a router, with a client each.

    The pool of a single client would search all its connections for each request.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        certificates = httpx.create_ssl_context()
        self._free: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for _ in range(_CONNECTIONS):
            client = httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, verify=certificates)
            self.push_async_callback(client.aclose)
            self._free.put_nowait(client)

    async def post(self, path: str, content: object, key: SecretStr | None) -> httpx.Response:
        """Send JSON on the connection that became free last.

        Raises:
            httpx.HTTPError: the router is unavailable.
        """
        client = await self._free.get()
        try:
            return await client.post(path, json=content, headers={"X-API-Key": key.get_secret_value()} if key else {})
        finally:
            self._free.put_nowait(client)


async def _send(
    customers: Iterator[SimulatedRequest],
    url: str,
    feedback_key: str,
    predict_key: SecretStr | None,
    rate: float,
    duration_s: float,
    delay_scale: float,
    on_tick: Callable[[TrafficReport], None],
    stop: Callable[[], bool],
) -> TrafficReport:
    report = TrafficReport()
    async with _Connections(url) as connections, asyncio.TaskGroup() as group:
        started = time.monotonic()
        in_flight = 0

        async def one(request: SimulatedRequest) -> None:
            given = {"text": request.text, "aspect": request.aspect, "unit_id": request.unit_id}
            body = {name: value for name, value in (given | {"segment": request.segment}).items() if value}
            nonlocal in_flight
            try:
                response = await connections.post("/v1/predict", body, predict_key)
            except httpx.HTTPError as error:
                report.failed[type(error).__name__] += 1
                return
            finally:
                in_flight -= 1
            if response.status_code != 200:
                report.failed[str(response.status_code)] += 1
                return
            answer = response.json()
            arm = (str(answer["arm"]), str(answer["model_version"]))
            report.answered += 1
            report.served[arm] += 1
            right = answer["label"] == request.true_label
            report.right[arm] += int(right)
            if request.feedback_label is not None and not (right and request.feedback_only_if_wrong):
                await asyncio.sleep(request.feedback_delay_s * delay_scale)
                told = {"request_id": answer["request_id"], "label": request.feedback_label}
                try:
                    reply = await connections.post("/v1/feedback", told, SecretStr(feedback_key))
                    reply.raise_for_status()
                    report.feedback += 1
                except httpx.HTTPError as error:
                    report.failed[f"feedback {type(error).__name__}"] += 1

        while (elapsed := time.monotonic() - started) < duration_s and not stop():
            due = int(elapsed * rate) + 1  # open loop: late answers do not slow the customers down
            while report.sent + report.held_back < due:
                if in_flight >= _MOST_WAITING:
                    report.held_back += 1
                    continue
                in_flight += 1
                group.create_task(one(next(customers)))
                report.sent += 1
            on_tick(report)
            await asyncio.sleep(0.1)
    on_tick(report)
    return report


def send_traffic(
    customers: Iterator[SimulatedRequest],
    *,
    url: str,
    feedback_key: str,
    predict_key: SecretStr | None = None,
    rate: float,
    duration_s: float,
    delay_scale: float = 1.0,
    on_tick: Callable[[TrafficReport], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> TrafficReport:
    """Send simulated requests to a router and, after each one's delay, its feedback.

    Args:
        customers: source of the requests.
        url: the router's address.
        feedback_key: key for POST /v1/feedback.
        predict_key: key for POST /v1/predict, if the router requires one.
        rate: requests per second.
        duration_s: seconds in which requests are sent. The function then waits for the last answers and feedback.
        delay_scale: factor of the delays of feedback.
        on_tick: called about ten times a second.
        stop: ends the requests early when it returns True.

    Raises:
        UnavailableError: no request was answered.
    """
    report = asyncio.run(_send(customers, url, feedback_key, predict_key, rate, duration_s, delay_scale, on_tick, stop))
    if report.sent and not report.answered:
        reasons = ", ".join(f"{reason} × {count}" for reason, count in report.failed.most_common(3))
        raise UnavailableError(f"the router at {url} answered none of {report.sent} requests ({reasons})")
    return report
