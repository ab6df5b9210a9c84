"""One worker of the router for `hot_route.py`, with POST /v1/predict on one of three ways to the predictor.

The rest is the product's: settings, protocol with its bounds, cache, batcher, log. `--profile` times each stage.
"""

import argparse
import asyncio
import functools
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvloop
from fastapi import FastAPI, Request, Response

from absa.inference.engine import Engine
from absa.inference.package import load_package
from absa.inference.tokenization import PairTokenizer
from absa.ledger.routing import single
from absa.policies import RouterTuning
from absa.router_settings import RouterSettings
from serving.engine.batcher import Batcher
from serving.http import predict_route
from serving.http.exchange import Exchange
from serving.http.hot_protocol import HotProtocol
from serving.http.messages import PREDICT_PATH, Receive, Scope, Send, response
from serving.http.predict_route import Predictor
from serving.log.spool import SpoolWriter
from serving.problems import PROBLEM_TYPE, Problem
from serving.process.worker import WorkerProcess
from serving.replica_state import RouterState, write_state

ROUTES: Final = ("hot route", "ASGI", "FastAPI")
_SWITCH_S: Final = 0.001  # as serving/process/worker.py has it
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Above:
    """Stands before a router, so that its protocol finds no predictor and hands every request to ASGI.

    Args:
        router: the worker's.
        app: answers POST /v1/predict.
    """

    def __init__(self, router: Any, app: Any) -> None:
        self.edge, self.cors, self._router, self._app = router.edge, router.cors, router, app

    def predictor_on(self, _port: int | None) -> None:
        """Return None: there is no hot route."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        app = self._app if scope["path"] == PREDICT_PATH else self._router
        await app(scope, receive, send)


def fastapi_app(predictor: Predictor) -> FastAPI:
    """Return an app with one route, which hands the body to the predictor as the hot route does."""
    app = FastAPI()

    @app.post(PREDICT_PATH)
    async def predict(request: Request) -> Response:
        started = time.perf_counter()
        answered: asyncio.Future[bytes | Problem] = asyncio.get_running_loop().create_future()
        headers = request.scope["headers"]
        predictor.admit(headers)
        predictor.ask(headers, await request.body(), answered.set_result, started)
        result = await answered
        if isinstance(result, Problem):
            return response(result.body(), result.status, PROBLEM_TYPE, result.headers)
        return response(result)

    return app


class Profile:
    """CPU time by stage and thread. A stage's time is without that of the stages inside it."""

    def __init__(self) -> None:
        self._spent: dict[tuple[str, str], list[int]] = {}
        self._open = threading.local()
        self._before: dict[str, list[float]] | None = None

    def time(self, owner: Any, name: str, stage: str) -> None:
        """Time each call of a method or function."""
        original: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(original)
        def timed(*arguments: Any, **named: Any) -> Any:
            inside = self._open.__dict__.setdefault("inside", [])
            if self._before is None:
                self._before = _threads()
            inside.append(0)
            begin = time.thread_time_ns()
            try:
                return original(*arguments, **named)
            finally:
                spent = time.thread_time_ns() - begin
                own = self._spent.setdefault((_name(threading.current_thread()), stage), [0, 0])
                own[0] += 1
                own[1] += spent - inside.pop()
                if inside:
                    inside[-1] += spent

        setattr(owner, name, timed)

    def found(self) -> dict[str, Any]:
        """Return the stages, and the CPU time of each thread since the first timed call, in microseconds."""
        before, after = self._before or {}, _threads()
        nothing = [0.0, 0.0, 0.0]
        return {
            "stages": [
                {"thread": thread, "stage": stage, "calls": calls, "us": spent / 1000}
                for (thread, stage), (calls, spent) in self._spent.items()
            ],
            "threads": {
                name: [now - earlier for now, earlier in zip(each, before.get(name, nothing), strict=True)]
                for name, each in after.items()
            },
        }


def _threads() -> dict[str, list[float]]:
    """Return microseconds by thread: on a CPU, of these in the kernel, and ready without a CPU."""
    found: dict[str, list[float]] = {}
    for thread in threading.enumerate():
        name = _name(thread)
        task = Path(f"/proc/self/task/{thread.native_id}")
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        user, system = int(fields[11]) / _TICKS * 1e6, int(fields[12]) / _TICKS * 1e6
        running_ns, waited_ns = map(int, (task / "schedstat").read_text().split()[:2])
        in_kernel = running_ns / 1000 * system / (user + system) if user + system else 0.0
        figures = (running_ns / 1000, in_kernel, waited_ns / 1000)
        found[name] = [sum(each) for each in zip(found.get(name, [0.0] * 3), figures, strict=True)]
    return found


def _name(thread: threading.Thread) -> str:
    if thread is threading.main_thread():
        return "event loop"
    return thread.name if thread.name == "inference" else "other threads"


class ProfiledWorker(WorkerProcess):
    """Worker that takes the figures before it stops."""

    profile: Profile
    found: dict[str, Any]

    def stop(self) -> None:
        """See WorkerProcess."""
        if not hasattr(self, "found"):
            status = self._status()
            self.found = {**self.profile.found(), "counters": status.counters}
        super().stop()


def timed_stages() -> Profile:
    """Time the stages of a request on the hot route, in this process."""
    profile = Profile()
    for owner, name, stage in (
        (HotProtocol, "data_received", "http: parse, protocol"),
        (Predictor, "ask", "assign, cache, ticket"),
        (predict_route, "parse_predict", "json in"),
        (Batcher, "submit", "queue: submit"),
        (Batcher, "_finish", "queue: hand back"),
        (Predictor, "flush", "log lines, json out"),
        (SpoolWriter, "append", "log: write"),
        (Exchange, "answer", "answer: head and write"),
        (PairTokenizer, "encode", "tokens"),
        (Engine, "score_group", "engine"),
    ):
        profile.time(owner, name, stage)
    return profile


async def serve(arguments: argparse.Namespace) -> None:
    """Serve a package until SIGTERM."""
    folder: Path = arguments.folder
    digest = load_package(arguments.package).digest
    plan = single("1", salt="s")
    state = RouterState(
        lake="benchmark", revision=1, champion="1", plan=plan,
        versions={"1": digest}, folders={digest: str(arguments.package)},
    )  # fmt: skip
    write_state(folder / "state.json", state)
    tuning = RouterTuning(cache_entries=arguments.cache, ship_interval_s=3600.0)
    settings = RouterSettings(home=folder, queue_ms=5_000.0, router=tuning)
    listening = socket.create_server(("127.0.0.1", arguments.port), backlog=2048)
    listening.setblocking(False)
    kind = ProfiledWorker if arguments.profile else WorkerProcess
    worker = kind(settings, index=0, folder=folder, sockets=[listening])
    router: Any = worker.config.app
    if arguments.route == "ASGI":
        worker.config.app = Above(router, router)
    elif arguments.route == "FastAPI":
        worker.config.app = Above(router, fastapi_app(router.predictor_on(None)))
    if isinstance(worker, ProfiledWorker):
        worker.profile = arguments.stages
    lifeline, _other_end = os.pipe()
    await worker.run(lifeline)
    if isinstance(worker, ProfiledWorker):
        arguments.profile.write_text(json.dumps(worker.found), encoding="utf-8")


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("route", choices=ROUTES)
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="of the worker's state, log and status")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cache", type=int, default=0, help="answers that are remembered")
    parser.add_argument("--profile", type=Path, help="file for the times of each stage")
    arguments = parser.parse_args()
    if arguments.profile is not None:
        arguments.stages = timed_stages()
    sys.setswitchinterval(_SWITCH_S)
    uvloop.run(serve(arguments))


if __name__ == "__main__":
    main()
