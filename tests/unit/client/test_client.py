"""Tests of the router's client, blocking and for asyncio, against a transport in memory."""

import asyncio
import json
import runpy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from absa.client import AsyncClient, Client
from absa.client.calls import retry_pause_s
from absa.errors import PermanentError, UnavailableError

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
BUSY = httpx.Response(429, json={"detail": "more requests wait"}, headers={"retry-after": "2"})
NOT_READY = httpx.Response(503, json={"detail": "no model is active yet"})
DOWN = httpx.ConnectError("refused")


@dataclass
class FakeRouter:
    """Router in memory. `fails` holds what it answers first, one per request."""

    fails: list[httpx.Response | Exception] = field(default_factory=list)
    seen: list[httpx.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if self.fails:
            failed = self.fails.pop(0)
            if isinstance(failed, Exception):
                raise failed
            return httpx.Response(failed.status_code, content=failed.content, headers=failed.headers)
        if request.url.path == "/v1/models":
            held = [{"alias": None, "labels": None}, {"alias": "champion", "labels": ["no", "yes"]}]
            return httpx.Response(200, json={"workers": [{"models": held}]})
        body = json.loads(request.content)
        if request.url.path == "/v1/feedback":
            return httpx.Response(202, json={"accepted": True})
        if "instances" not in body:
            return httpx.Response(200, json={"request_id": "r", "name": "yes"})
        return httpx.Response(200, json={"predictions": [{"request_id": each["text"]} for each in body["instances"]]})

    def bodies(self) -> list[Any]:
        return [json.loads(request.content) for request in self.seen]

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


Call = Callable[..., Any]


@pytest.fixture(params=["blocking", "asyncio"])
def call(request: pytest.FixtureRequest) -> Call:
    """Call a method of a client of either kind: call(router, "predict", "text", patience_s=1)."""

    def blocking(
        router: FakeRouter, name: str, *given: Any, options: dict[str, Any] | None = None, **named: Any
    ) -> Any:
        transport = httpx.MockTransport(router.answer)
        with Client("http://router", transport=transport, sleep=router.slept.append, **(options or {})) as client:
            return getattr(client, name)(*given, **named)

    def in_loop(router: FakeRouter, name: str, *given: Any, options: dict[str, Any] | None = None, **named: Any) -> Any:
        async def run() -> Any:
            transport = httpx.MockTransport(router.answer)
            async with AsyncClient(
                "http://router", transport=transport, sleep=router.sleep, **(options or {})
            ) as client:
                return await getattr(client, name)(*given, **named)

        return asyncio.run(run())

    return blocking if request.param == "blocking" else in_loop


def test_prediction_sends_what_is_given(call: Call) -> None:
    router = FakeRouter()
    answer = call(router, "predict", "it is fine", "it", unit_id="u", options={"predict_key": "k"})
    assert answer == {"request_id": "r", "name": "yes"}
    assert router.bodies() == [{"text": "it is fine", "aspect": "it", "unit_id": "u"}]
    assert router.seen[0].headers["x-api-key"] == "k"


def test_many_predictions_keep_their_order(call: Call) -> None:
    router = FakeRouter()
    answers = call(router, "predict_many", ({"text": str(number)} for number in range(250)))
    assert [answer["request_id"] for answer in answers] == [str(number) for number in range(250)]
    assert [len(body["instances"]) for body in router.bodies()] == [100, 100, 50]


def test_feedback_goes_out_in_batches(call: Call) -> None:
    router = FakeRouter()
    given = [("a", 0), ("b", "yes"), ("c", 1)]
    assert call(router, "feedback_many", given, batch=2, options={"feedback_key": "f", "predict_key": "k"}) == 3
    assert router.bodies()[0] == {"instances": [{"request_id": "a", "label": 0}, {"request_id": "b", "label": "yes"}]}
    assert router.seen[0].headers["x-api-key"] == "f"


def test_single_feedback_carries_its_probability(call: Call) -> None:
    router = FakeRouter()
    call(router, "feedback", "a", "no", sampling_probability=0.5)
    assert router.bodies() == [{"request_id": "a", "label": "no", "sampling_probability": 0.5}]


def test_labels_are_those_of_the_champion(call: Call) -> None:
    assert call(FakeRouter(), "labels") == ("no", "yes")


def test_busy_router_is_asked_again_as_it_says(call: Call) -> None:
    router = FakeRouter(fails=[BUSY, NOT_READY, DOWN])
    assert call(router, "predict", "x")["name"] == "yes"
    assert len(router.seen) == 4
    assert 2.0 <= router.slept[0] <= 2.5
    assert 0.2 <= router.slept[1] <= 0.4 <= router.slept[2] <= 0.8


def test_patience_bounds_all_pauses(call: Call) -> None:
    router = FakeRouter(fails=[BUSY] * 9)
    with pytest.raises(UnavailableError, match="the router answered 429: more requests wait"):
        call(router, "predict", "x", options={"patience_s": 6.0})
    assert sum(router.slept) <= 6.0
    with pytest.raises(UnavailableError):
        call(FakeRouter(fails=[DOWN]), "predict", "x", options={"patience_s": 0})


def test_request_that_may_have_arrived_is_not_repeated(call: Call) -> None:
    router = FakeRouter(fails=[httpx.ReadTimeout("late")])
    with pytest.raises(UnavailableError, match=r"router at http://router is unavailable \(ReadTimeout\)"):
        call(router, "predict", "x")
    assert len(router.seen) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(422, json={"detail": "text is missing"}), "the router answered 422: text is missing"),
        (httpx.Response(500, text="<html>"), "the router answered 500: Internal Server Error"),
        (httpx.Response(200, text="<html>"), "the router answered 200: OK"),
        (httpx.Response(302, headers={"location": "/login"}), "the router answered 302: Found"),
    ],
)
def test_other_answers_are_errors(call: Call, answer: httpx.Response, said: str) -> None:
    router = FakeRouter(fails=[answer])
    with pytest.raises(PermanentError, match=said):
        call(router, "predict", "x")
    assert len(router.seen) == 1


def test_refused_batch_names_labels_taken_before(call: Call) -> None:
    router = FakeRouter()
    call(router, "feedback_many", [("a", 0)] * 2, batch=2)
    router.fails = [httpx.Response(422, json={"detail": "instances[0].label must be 0"})]
    with pytest.raises(PermanentError, match=r"instances\[0\]\.label must be 0; 0 labels were taken before"):
        call(router, "feedback_many", [("a", 9)] * 2, batch=2)


def test_readiness_of_a_router_that_is_down(call: Call) -> None:
    assert call(FakeRouter(fails=[DOWN]), "is_ready") is False
    assert call(FakeRouter(fails=[httpx.Response(200, json={})]), "is_ready") is True


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("3", 3.0, 3.75),
        ("0", 0.0, 0.0),
        ("Mon, 30 Nov 2026 12:00:04 GMT", 4.0, 5.0),
        ("Mon, 30 Nov 2026 11:00:00 GMT", 0.0, 0.0),
        ("soon", 0.4, 0.8),
        ("nan", 0.4, 0.8),
        ("-1", 0.4, 0.8),
        (None, 0.4, 0.8),
    ],
)
def test_pause_follows_retry_after(header: str | None, low: float, high: float) -> None:
    assert retry_pause_s(2, header, now=NOW, luck=0.0) == pytest.approx(low)
    assert retry_pause_s(2, header, now=NOW, luck=1.0) == pytest.approx(high)
    assert retry_pause_s(99, None, now=NOW, luck=1.0) == 5.0


def test_wheel_offers_client_as_evergreen() -> None:
    exported = runpy.run_path(str(ROOT / "absa/client/exported/evergreen/__init__.py"))
    assert (exported["Client"], exported["AsyncClient"]) == (Client, AsyncClient)
