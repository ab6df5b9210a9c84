"""Routes around the hot one: methods, redirects, cross-origin requests, and errors as problems."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from absa.router_settings import FeedbackSource, RouterSettings
from absa.task import ABSA, TaskSpec
from serving.console.console_routes import add_console
from serving.http.api import WorkerPorts, build_api
from serving.http.api_keys import Keys
from serving.http.bodies import BodiesByTask
from serving.http.cors import Cors
from serving.http.router import Router
from serving.problems import Problem
from serving.replica_state import RouterState

ORIGIN = "https://a.example"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}


class BrokenPredictor:
    """Fails in a way that nobody foresaw."""

    async def __call__(self, *_: object) -> None:
        raise RuntimeError("no")


class LockedComparer:
    """Lets nobody in."""

    def admit(self, _headers: object) -> None:
        raise Problem(401, "key-missing", "a key is needed")


def router(
    cors: Cors | None = None,
    admin_port: int | None = None,
    task: TaskSpec | None = ABSA,
    state: RouterState | None = None,
) -> Router:
    """A router whose routes that need a model are not asked."""
    unused: Any = None
    locked: Any = LockedComparer()
    broken: Any = BrokenPredictor()
    keys = Keys(admin_token="admin", predict_key=None, feedback={"survey-key": FeedbackSource(source="survey")})
    worker = WorkerPorts(
        task=lambda: task, home_task=ABSA, bodies=BodiesByTask(max_text_chars=50, max_instances=3), spool=unused,
        keys=keys, state=lambda: state,
        statuses=list, set_plan=unused, ready=lambda: (True, "ready"), body_limit_bytes=2000,
    )  # fmt: skip
    app = build_api(worker)
    add_console(
        app,
        folder=Path(),
        statuses=list,
        state=lambda: None,
        task=lambda: task,
        compare=locked,
        links={},
        body_limit_bytes=2000,
    )
    return Router(predict=broken, rest=app, body_limit_bytes=2000, admin_port=admin_port, cors=cors)


def ask(method: str, path: str, *, app: Router | None = None, **more: Any) -> httpx.Response:
    """Send one request to a router in this process."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app or router())  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
            return await client.request(method, path, **more)

    return asyncio.run(send())


def test_readiness_names_the_ledgers_problem() -> None:
    lost = RouterState(lake="lake", revision=2, problem="the lake lost ledger record 2")
    found = ask("GET", "/readyz", app=router(state=lost))
    assert (found.status_code, found.json()) == (200, {"status": "ready", "problem": lost.problem})
    assert ask("GET", "/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/v1/models"])
def test_head_works_where_get_does(path: str):
    got, asked = ask("GET", path), ask("HEAD", path)
    assert (got.status_code, asked.status_code) == (200, 200)
    assert got.headers["content-type"] == asked.headers["content-type"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/traffic", "GET, HEAD, PUT"),
        ("HEAD", "/v1/feedback", "POST"),
        ("HEAD", "/v1/predict", "POST"),
        ("OPTIONS", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/v1/predict", "POST"),
    ],
)
def test_405_names_the_methods_that_work(method: str, path: str, allow: str):
    answer = ask(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/healthz/", "../healthz"),
        ("/v1/models/?a=b&c=%2F", "../models?a=b&c=%2F"),
        ("/console/app.js/", "../app.js"),
        ("/v1/feedback/", "../feedback"),
    ],
)
def test_slash_redirect_is_relative(path: str, location: str):
    answer = ask("POST" if "feedback" in path else "GET", path, headers={"Host": "evil.example"})
    assert (answer.status_code, answer.headers["location"]) == (307, location)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/healthz/", 307), ("/readyz/", 307), ("/v1/feedback/", 307), ("/healthz//", 404), ("/metrics/", 404)],
)
def test_public_port_redirects_slash_of_public_paths(path: str, status: int):
    assert ask("GET", path, app=router(admin_port=9000)).status_code == status


@pytest.mark.parametrize("path", ["/elsewhere/", "/evil.example//", "/console/a/b/"])
def test_slash_of_missing_path_is_404(path: str):
    answer = ask("GET", path)
    assert answer.status_code == 404
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/v1/compare", 401), ("POST", "/v1/feedback", 401), ("PUT", "/v1/traffic", 401)],
)
def test_key_is_checked_before_the_body_is_read(method: str, path: str, status: int):
    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        raise AssertionError("the body was read")

    assert ask(method, path, content=body()).status_code == status


def test_unforeseen_failure_is_a_problem(caplog: pytest.LogCaptureFixture):
    answer = ask("POST", "/v1/predict", content=b"{}")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "RuntimeError" in caplog.text


def test_request_cancelled_by_a_stop_is_a_503():
    async def scenario() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            await asyncio.sleep(60)

        scope = {
            "type": "http", "method": "POST", "path": "/v1/feedback", "server": ("router", 80), "query_string": b"",
            "headers": [(b"x-api-key", b"survey-key")],
        }  # fmt: skip
        task = asyncio.create_task(router()(scope, receive, send))
        await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return sent

    start, body = asyncio.run(scenario())
    assert start["status"] == 503
    assert (b"content-type", b"application/problem+json") in start["headers"]
    assert b"stopping" in body["body"]


@pytest.mark.parametrize("body", [b"[]", b"null", b"7"])
def test_feedback_of_json_but_no_object_is_422(body: bytes):
    answer = ask("POST", "/v1/feedback", content=body, headers={"X-API-Key": "survey-key"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "body"


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/feedback", "/v1/models", "/elsewhere"])
def test_preflight_of_allowed_origin_is_204(path: str):
    answer = ask("OPTIONS", path, app=router(Cors([ORIGIN])), headers=PREFLIGHT)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "X-API-Key" in answer.headers["access-control-allow-headers"]


def test_preflight_of_other_origin_is_403():
    answer = ask("OPTIONS", "/v1/predict", app=router(Cors(["https://b.example"])), headers=PREFLIGHT)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_preflight_is_405_with_cors_off():
    answer = ask("OPTIONS", "/v1/predict", headers=PREFLIGHT)
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(("origins", "named"), [([ORIGIN], ORIGIN), (["*"], "*"), (["https://b.example"], None)])
def test_answers_and_errors_name_an_allowed_origin(origins: list[str], named: str | None):
    app = router(Cors(origins))
    for path in ("/healthz", "/elsewhere"):
        answer = ask("GET", path, app=app, headers={"Origin": ORIGIN})
        assert answer.headers.get("access-control-allow-origin") == named
        assert answer.headers["vary"] == "Origin"


def test_admin_port_answers_no_origin():
    app = router(Cors(["*"]), admin_port=9000)
    for port, named in ((9000, False), (8000, True)):
        answer = ask("GET", f"http://router:{port}/healthz", app=app, headers={"Origin": ORIGIN})
        assert answer.status_code == 200
        assert ("access-control-allow-origin" in answer.headers) == named


@pytest.mark.parametrize(
    ("value", "origins"),
    [
        ("", ()),
        ("https://a.example, http://localhost:3000", ("https://a.example", "http://localhost:3000")),
        ("*", ("*",)),
    ],
)
def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch, value: str, origins: tuple[str, ...]):
    monkeypatch.setenv("EVERGREEN_CORS_ORIGINS", value)
    assert RouterSettings().cors_origins == origins


@pytest.mark.parametrize("value", ["a.example", "https://a.example/", "https://*.a.example", "null", '["https://a"]'])
def test_invalid_origin_is_refused(monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("EVERGREEN_CORS_ORIGINS", value)
    with pytest.raises(ValidationError, match="expected origins such as"):
        RouterSettings()
