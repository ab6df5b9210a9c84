"""Console: one page with its assets, the JSON that it shows, and the comparison of versions on one text."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, Request, Response

from absa.records.rows import LATENCY_BOUNDS_MS
from absa.task import TaskSpec
from serving.console.chronicle import ask_for_chronicle, read_chronicle, reign_start
from serving.console.compare_versions import Comparer
from serving.http.bodies import PredictItem, VersionAnswers, answered, request_body
from serving.http.messages import COMPARE_PATH, json_response, read_body
from serving.observe.outcomes import OUTCOME_NAMES
from serving.observe.replica_metrics import Status, summed_outcomes
from serving.problems import Problem, documented
from serving.replica_state import RouterState

_TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# Plotly writes its own style sheet; everything else is from this server.
_POLICY: Final = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; img-src 'self' data: "
    "blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def assets() -> dict[str, bytes]:
    """Return the console's files by name, read once."""
    return {
        each.name: each.read_bytes() for each in files("serving.console").joinpath("page").iterdir() if each.is_file()
    }


def add_console(
    app: FastAPI,
    *,
    folder: Path,
    statuses: Callable[[], list[Status]],
    state: Callable[[], RouterState | None],
    task: Callable[[], TaskSpec | None],
    compare: Comparer,
    links: dict[str, str],
    body_limit_bytes: int,
) -> None:
    """Add the console's routes to the app.

    Args:
        app: gets the routes.
        folder: folder of the replica, with the chronicle.
        statuses: returns the status of every process of the replica.
        state: returns the active plan.
        task: returns the task of the active versions; None before there is one.
        compare: scores a text with every active version.
        links: names and addresses of the other tools.
        body_limit_bytes: largest body.
    """

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return _file("index.html")

    @app.get("/console/{name}", include_in_schema=False)
    async def file(name: str) -> Response:
        return _file(name)

    @app.get("/v1/console", summary="Data of the console", response_class=Response)
    async def told() -> Response:
        ask_for_chronicle(folder)
        now, chronicle = state(), read_chronicle(folder)
        return json_response(
            {
                "task": _shown(task()),
                "chronicle": chronicle,
                "champion": now.champion if now else None,
                "champion_since": reign_start(chronicle, now.champion) if now else None,
                "challenger": now.challenger if now else None,
                "revision": now.revision if now else 0,
                "plan": now.plan.to_json() if now and now.plan else None,
                "errors": now.errors if now else {},
                "live": live(statuses()),
                "latency_bounds_ms": LATENCY_BOUNDS_MS,
                "links": links,
            }
        )

    @app.post(
        COMPARE_PATH,
        summary="Answers of each active version to one text; neither logged nor counted",
        response_class=Response,
        responses=answered(VersionAnswers, "The answers")
        | documented(400, 401, 403, 413, 415, 422, 429, 431, 500, 503),
        openapi_extra=request_body(PredictItem, {}),  # the document of a task has the example
    )
    async def compared(request: Request) -> Response:
        compare.admit(request.scope["headers"])
        body = await read_body(request.scope, request.receive, body_limit_bytes)
        return json_response({"versions": await compare(body)})


def live(statuses: list[Status]) -> dict[str, Any]:
    """Return counts since the start by version and arm, over all processes; the page computes differences."""
    return {
        "arms": [
            {"version": version, "arm": arm, **dict(zip(OUTCOME_NAMES, counts, strict=True)), "histogram": histogram}
            for version, arm, *counts, _, histogram in summed_outcomes(statuses)
        ],
        "queue_ms": max((each.gauges.get("queue_ms", 0.0) for each in statuses), default=0.0),
        "log_lag_s": max((each.gauges.get("log_lag_seconds", 0.0) for each in statuses), default=0.0),
        "lake_age_s": max((each.gauges.get("lake_age_seconds", 0.0) for each in statuses), default=0.0),
        "workers": sum(1 for each in statuses if each.worker.isdigit()),
        "ready": sum(1 for each in statuses if each.worker.isdigit() and each.ready),
    }


def _shown(task: TaskSpec | None) -> dict[str, Any] | None:
    if task is None:
        return None
    return {**task.to_json(), "phrase": task.phrase, "metric_name": task.metric_name, "metric": task.metric}


def _file(name: str) -> Response:
    content = assets().get(name)
    kind = _TYPES.get(f".{name.rpartition('.')[2]}")
    if content is None or kind is None:
        raise Problem(404, "not-found", "no route has this path; see /docs")
    headers = {"content-security-policy": _POLICY, "x-content-type-options": "nosniff", "cache-control": "no-cache"}
    return Response(content, headers=headers, media_type=kind)
