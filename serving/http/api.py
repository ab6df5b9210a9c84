"""FastAPI app: every route except `POST /v1/predict`, and errors as problems."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from absa.errors import ConflictError, PermanentError, TransientError
from absa.ledger.routing import TrafficPlan
from absa.records.log_lines import json_line
from absa.records.rows import Feedback
from absa.task import TaskSpec
from serving.http.api_keys import Keys
from serving.http.bodies import (
    Accepted,
    BodiesByTask,
    FeedbackBatch,
    FeedbackBody,
    Models,
    PlanSet,
    Traffic,
    TrafficBody,
    WorkerModels,
    answered,
    request_body,
)
from serving.http.docs_page import add_docs
from serving.http.messages import json_response, read_body, response
from serving.http.parsing import parse_body, parse_feedback
from serving.log.spool import FEEDBACK_LOG, SpoolWriter
from serving.observe.replica_metrics import Status
from serving.problems import PROBLEM_TYPE, Problem, documented, internal_error, invalid, not_ready
from serving.replica_state import RouterState


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPorts:
    """Functions and objects of a worker that the routes use.

    `statuses` returns the status of each process of the replica. `set_plan` appends a plan to the ledger. `ready`
    returns True if predictions are answered, and the reason. `task` returns the task of the active versions, or None
    before there is one; the documentation then shows `home_task`.
    """

    task: Callable[[], TaskSpec | None]
    home_task: TaskSpec
    bodies: BodiesByTask
    spool: SpoolWriter
    keys: Keys
    state: Callable[[], RouterState | None]
    statuses: Callable[[], list[Status]]
    set_plan: Callable[[int, TrafficPlan, str, str], int]
    ready: Callable[[], tuple[bool, str]]
    body_limit_bytes: int


def build_api(worker: WorkerPorts) -> FastAPI:
    """Return the FastAPI app: feedback, models, traffic, health, metrics and the documentation of all routes."""
    app = FastAPI(
        title="Evergreen router",
        version="1",
        description="Live predictions, feedback, and the active traffic plan.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.router.redirect_slashes = False  # its redirects contain the client's Host header
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_crash)
    _add_feedback(app, worker)
    _add_traffic(app, worker)
    _add_state(app, worker)
    add_docs(app, lambda: worker.bodies.of(worker.task() or worker.home_task))
    return app


async def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return response(error.body(), error.status, PROBLEM_TYPE, error.headers)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        if location := _without_slash(request):
            return response(b"", 307, headers=[(b"location", location.encode("latin-1"))])
        return await _on_problem(request, Problem(404, "not-found", "no route has this path; see /docs"))
    if error.status_code == 405:
        allow = ", ".join(sorted(_methods(request, request.scope["path"])))
        detail = f"this path accepts {allow}; see /docs"
        return await _on_problem(request, Problem(405, "method", detail, headers=[(b"allow", allow.encode())]))
    return await _on_problem(request, Problem(error.status_code, "http", "the request cannot be answered"))


def _methods(request: Request, path: str) -> set[str]:
    """Return the methods that a path accepts; empty if no route has the path."""
    scope = {**request.scope, "path": path}
    routes = [route for route in request.app.routes if route.matches(scope)[0] is not Match.NONE]
    methods = {method for route in routes for method in route.methods}
    return methods | {"HEAD"} if "GET" in methods else methods


def _without_slash(request: Request) -> str | None:
    """Return the relative address of the same path without its final slash; None if no route has that path.

    A relative address contains no Host header of a client, and it is right behind a proxy that adds a prefix.
    """
    path = request.scope["path"]
    if not path.endswith("/") or not _methods(request, path[:-1]):
        return None
    query = request.scope["query_string"].decode("latin-1")
    return f"../{quote(path[:-1].rpartition('/')[2])}" + (f"?{query}" if query else "")


async def _on_crash(request: Request, _error: Exception) -> Response:
    return await _on_problem(request, internal_error())


def _add_feedback(app: FastAPI, worker: WorkerPorts) -> None:
    @app.post(
        "/v1/feedback",
        status_code=202,
        summary="Send the right label of a prediction",
        description="One label, or several as instances: all are stored or none. Requires a feedback key, which names "
        "the source. The last feedback of a prediction counts.",
        response_class=Response,
        responses=answered(Accepted, "Stored", 202) | documented(400, 401, 403, 413, 415, 422, 429, 431, 503),
        openapi_extra=request_body(
            FeedbackBody, {"request_id": "019a8f0e-0000-7000-8000-000000000000", "label": 0}, FeedbackBatch
        ),
    )
    async def feedback(request: Request) -> Response:
        source = worker.keys.feedback_source(request.scope["headers"])
        task = worker.task()
        if task is None:  # its labels are not known yet
            raise not_ready("no model is active yet; promote a version, then send the label again")
        content = await read_body(request.scope, request.receive, worker.body_limit_bytes)
        labels = parse_feedback(content, worker.bodies.of(task))
        at_us = time.time_ns() // 1000
        rows = [
            Feedback(each.request_id, each.label, at_us + place, source.source, each.sampling_probability)
            for place, each in enumerate(labels)  # if a prediction has two labels, the last counts
        ]
        if not worker.spool.append(FEEDBACK_LOG, b"".join(map(json_line, rows)), len(rows)):
            raise Problem(503, "log-full", "the log is full, so feedback cannot be stored; try again later")
        return json_response({"accepted": True}, 202)


def _add_traffic(app: FastAPI, worker: WorkerPorts) -> None:
    @app.get(
        "/v1/traffic",
        summary="The active traffic plan, with its revision",
        response_class=Response,
        responses=answered(Traffic, "The plan") | documented(503),
    )
    async def traffic() -> Response:
        state = worker.state()
        if state is None or state.plan is None:
            raise Problem(503, "not-ready", "there is no traffic plan yet; promote a version first")
        shown = {name: getattr(state, name) for name in Traffic.model_fields if name != "plan"}
        return json_response({**shown, "plan": state.plan.to_json()})

    @app.put(
        "/v1/traffic",
        summary="Set a new traffic plan",
        description="Requires the admin token. Name the revision that the plan replaces; 409 if there is a newer one.",
        response_class=Response,
        responses=answered(PlanSet, "Set") | documented(400, 401, 403, 409, 413, 415, 422, 429, 431, 503),
        openapi_extra=request_body(
            TrafficBody,
            {
                "revision": 12,
                "plan": {
                    "mode": "ab",
                    "experiment": "v7-vs-v8",
                    "salt": "9f2c",
                    "arms": [
                        {"name": "champion", "version": "7", "share": 0.75},
                        {"name": "challenger", "version": "8", "share": 0.25},
                    ],
                },
                "reason": "ramp to 25 %",
            },
        ),
    )
    async def set_traffic(request: Request) -> Response:
        worker.keys.check_admin(request.scope["headers"])
        body = parse_body(await read_body(request.scope, request.receive, worker.body_limit_bytes), TrafficBody)
        try:
            plan = TrafficPlan.from_json(body.plan.model_dump())
        except ValueError as error:
            raise invalid("plan", str(error)) from None
        try:
            revision = await asyncio.to_thread(worker.set_plan, body.revision, plan, body.reason, body.actor)
        except ConflictError as error:
            raise Problem(409, "conflict", str(error)) from None
        except PermanentError as error:
            raise invalid("plan", str(error)) from None
        except TransientError as error:
            raise Problem(503, "lake-away", str(error), headers=[(b"retry-after", b"2")]) from None
        return json_response({"revision": revision, "plan": plan.to_json()})


def _add_state(app: FastAPI, worker: WorkerPorts) -> None:
    @app.get(
        "/v1/models",
        summary="Versions of each worker",
        response_class=Response,
        responses=answered(Models, "The workers"),
    )
    async def models() -> Response:
        workers = sorted(
            (each for each in worker.statuses() if each.worker.isdigit()), key=lambda each: int(each.worker)
        )
        shown = [{name: getattr(each, name) for name in WorkerModels.model_fields} for each in workers]
        return json_response({"workers": shown})

    @app.get("/healthz", summary="Liveness of this process", response_class=Response)
    async def healthz() -> Response:
        return json_response({"status": "alive"})

    @app.get("/readyz", summary="Readiness for predictions", response_class=Response, responses=documented(503))
    async def readyz() -> Response:
        ready, why = worker.ready()
        if not ready:
            raise Problem(503, "not-ready", why, headers=[(b"retry-after", b"1")])
        state = worker.state()
        problem = None if state is None else state.problem
        return json_response({"status": "ready", **({} if problem is None else {"problem": problem})})

    @app.get("/metrics", summary="Prometheus metrics of the whole replica", response_class=Response)
    async def metrics() -> Response:
        from serving.observe.exposition import prometheus_text  # takes 60 ms, which a start should not pay for

        return Response(prometheus_text(worker.statuses()), media_type="text/plain; version=0.0.4; charset=utf-8")
