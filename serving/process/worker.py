"""Worker process: an event loop for HTTP, one inference thread and its part of the log. Builds all of its parts.

Started by the parent as `python -m serving.process.worker`, with a listening socket of its own.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import uvicorn
import uvloop

from absa.data.mapping import DataMapping
from absa.errors import ConflictError, PermanentError
from absa.ledger.routing import TrafficPlan
from absa.policies import RouterTuning, ServingPolicy
from absa.router_settings import RouterSettings
from absa.task import TaskSpec
from serving.console.compare_versions import Comparer
from serving.console.console_routes import add_console
from serving.engine.answer_cache import AnswerCache
from serving.engine.batcher import Batcher
from serving.engine.pool import ModelPool
from serving.http.api import WorkerPorts, build_api
from serving.http.api_keys import Keys
from serving.http.bodies import BodiesByTask
from serving.http.cors import Cors
from serving.http.edge import SlowClients
from serving.http.hot_protocol import HotProtocol
from serving.http.predict_route import Predictor
from serving.http.router import Router
from serving.log.spool import SpoolWriter
from serving.observe.json_logs import log_to_stderr
from serving.observe.outcomes import OutcomeCounts
from serving.observe.replica_metrics import Status, StatusBoard
from serving.observe.traces import open_traces
from serving.replica_identity import replica_name, unit_secret
from serving.replica_state import RouterState, read_state

_log = logging.getLogger("evergreen.worker")
_LOOK_S: Final = 0.1
_STATUS_S: Final = 0.5
_RETRY_FIRST_S: Final = 1.0  # wait before a state is tried again: loading a model may fail for a moment only
_RETRY_LAST_S: Final = 30.0
_KEEP_ALIVE_S: Final = 75  # longer than a load balancer's (60 s on AWS), which would else use a closed connection
_SWITCH_S: Final = 0.001  # with Python's 5 ms the inference thread waits for the event loop after each batch
_COLLECT_AFTER: Final = (10_000, 10, 10)  # requests make few cycles; the default collects after every 700 objects


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which would end the process before the log is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WorkerProcess:
    """All parts of a worker process.

    Args:
        settings: settings of the replica.
        index: number of the worker, from 0.
        folder: the replica's folder: state file, spool, status files.
        sockets: listening sockets; the first one has the public port.

    Attributes:
        config: configuration of the HTTP server; read when `run` starts.
    """

    def __init__(self, settings: RouterSettings, *, index: int, folder: Path, sockets: list[socket.socket]) -> None:
        self._settings, self._index, self._sockets = settings, index, sockets
        tuning = settings.router
        self._incarnation = f"w{index}_{os.getpid()}_{time.time_ns() // 1000}"
        self._state_path = folder / "state.json"
        self._state_mark: tuple[int, int] | None = None
        self._retry_at, self._retry_after_s = math.inf, _RETRY_FIRST_S
        self._state: RouterState | None = None
        self._board = StatusBoard(folder / "status")
        self._spool = SpoolWriter(folder / "spool", self._incarnation, limit_bytes=tuning.spool_limit_mb * 1024 * 1024)
        self._outcomes = OutcomeCounts()
        self._pool = ModelPool(promise=settings.serving.promise)
        self._bodies = BodiesByTask(max_text_chars=tuning.max_text_chars, max_instances=tuning.max_instances)
        self._cache = AnswerCache(tuning.cache_entries)
        self._draining = False
        loop = asyncio.get_running_loop()
        self._batcher = Batcher(loop, token_budget=tuning.token_budget, after_batch=self._flush)
        self._predictor = Predictor(
            pool=self._pool,
            batcher=self._batcher,
            cache=self._cache,
            spool=self._spool,
            outcomes=self._outcomes,
            keys=(keys := Keys.of(settings)),
            bodies=self._bodies,
            secret=unit_secret(settings),
            queue_ms=settings.queue_ms,
            body_limit_bytes=tuning.body_limit_bytes,
            request_timeout_s=tuning.request_timeout_s,
            redact_text=settings.redact_text,
            traces=(traces := open_traces(str(index))),
        )
        self._traces = traces
        app = build_api(
            WorkerPorts(
                task=self._task,
                home_task=settings.task,
                bodies=self._bodies,
                spool=self._spool,
                keys=keys,
                state=lambda: self._state,
                statuses=self._statuses,
                set_plan=self._set_plan,
                ready=self._ready,
                body_limit_bytes=tuning.body_limit_bytes,
            )
        )
        add_console(
            app,
            folder=folder,
            statuses=self._statuses,
            state=lambda: self._state,
            task=self._task,
            compare=Comparer(
                pool=self._pool,
                batcher=self._batcher,
                keys=keys,
                bodies=self._bodies,
                queue_ms=settings.queue_ms,
                timeout_s=tuning.request_timeout_s,
            ),
            links=settings.links,
            body_limit_bytes=tuning.body_limit_bytes,
        )
        self._router = Router(
            predict=self._predictor,
            rest=app,
            body_limit_bytes=tuning.body_limit_bytes,
            admin_port=sockets[1].getsockname()[1] if len(sockets) > 1 else None,
            cors=Cors(settings.cors_origins) if settings.cors_origins else None,
        )
        self.config = uvicorn.Config(
            self._router,
            http=HotProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, int(tuning.stop_timeout_s)),
            backlog=2048,
        )
        self._server = _Server(self.config)
        self._slow = SlowClients(
            self._server.server_state.connections, timeout_s=tuning.request_timeout_s, idle_s=_KEEP_ALIVE_S
        )

    def _flush(self) -> None:
        self._predictor.flush()

    def stop(self) -> None:
        """Stop accepting requests, answer the accepted ones, then end."""
        if not self._draining:
            self._draining = True
            self._server.should_exit = True

    async def run(self, lifeline: int) -> None:
        """Serve until SIGTERM arrives or the parent ends, which closes its side of `lifeline`."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches the group; the parent decides
        loop.add_reader(lifeline, self.stop)
        await _guarded(self._follow)
        gc.freeze()  # these objects stay, so the collector need not visit them again
        gc.set_threshold(*_COLLECT_AFTER)
        tasks = [
            asyncio.create_task(each)
            for each in (
                _for_ever(_LOOK_S, self._follow),
                _for_ever(_STATUS_S, self._report),
                _for_ever(self._settings.router.ship_interval_s, self._rotate),
                self._slow.run(),
            )
        ]
        try:
            await self._server.serve(sockets=self._sockets)
        finally:
            loop.remove_reader(lifeline)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._batcher.stop(self._settings.router.stop_timeout_s)
            await asyncio.sleep(0)  # lets the last batch of the inference thread be logged
            self._pool.close()
            self._log_outcomes()
            self._spool.close()
            if self._traces is not None:
                self._traces.close()
            self._board.put(self._incarnation, self._status())

    async def _follow(self) -> None:
        try:
            stat = self._state_path.stat()
        except OSError:
            return
        mark = (stat.st_mtime_ns, stat.st_ino)
        if mark != self._state_mark:
            self._retry_after_s = _RETRY_FIRST_S
        elif time.monotonic() < self._retry_at:
            return
        state = read_state(self._state_path)
        if state is None:
            return
        before = self._pool.in_force
        in_force = await self._pool.follow(state)
        self._retry_at = math.inf if in_force else time.monotonic() + self._retry_after_s
        self._retry_after_s = min(2 * self._retry_after_s, _RETRY_LAST_S)
        self._state_mark = mark
        self._state = state
        after = self._pool.in_force
        if after is not None and after is not before:
            self._bodies.of(after.task)  # builds the bodies before the first request
            self._cache.keep_only(frozenset(model.digest for model in after.models.values()))
            _log.info("revision %d is %s: %s", state.revision, "active" if in_force else "not active", after.plan)
        self._board.put(self._incarnation, self._status())

    async def _report(self) -> None:
        self._log_outcomes()
        self._board.put(self._incarnation, self._status())

    async def _rotate(self) -> None:
        self._spool.rotate()

    def _log_outcomes(self) -> None:
        for minute_us, lines, rows in self._outcomes.take():
            self._spool.append_outcomes(minute_us, lines, rows)

    def _task(self) -> TaskSpec | None:
        return self._pool.in_force.task if self._pool.in_force else None

    def _ready(self) -> tuple[bool, str]:
        if self._draining:
            return False, "this worker is stopping"
        if self._pool.in_force is None:
            return False, "no model is active yet; promote a version, then try again"
        return True, "ready"

    def _status(self) -> Status:
        in_force = self._pool.in_force
        return Status(
            worker=str(self._index),
            pid=os.getpid(),
            ready=self._ready()[0],
            revision=in_force.revision if in_force else 0,
            models=self._pool.describe(),
            counters={
                "cache_hits": self._predictor.cache_hits,
                "answers_certain": self._predictor.certain[True],
                "answers_deferred": self._predictor.certain[False],
                "batches": self._batcher.batches,
                "batched_rows": self._batcher.batched_rows,
                "shadow_dropped": self._batcher.shadow_dropped,
                "log_bytes": self._spool.appended_bytes,
                "log_dropped": sum(self._spool.dropped.values()),
                "model_load_failures": self._pool.load_failures,
                "slow_clients_closed": self._slow.closed,
            },
            gauges={
                "queue_ms": round(self._batcher.waiting_ms, 3),
                "rows_waiting": self._batcher.rows_waiting,
                "unfinished_body_bytes": self._router.edge.held_bytes,
                "cache_entries": len(self._cache),
                "plan_revision": in_force.revision if in_force else 0,
                "ready": float(self._ready()[0]),
            },
            outcomes=self._outcomes.totals(),
            refused=_summed(self._predictor.refused, self._router.edge.refused),
        )

    def _statuses(self) -> list[Status]:
        return [*self._board.all(but=self._incarnation), self._status()]

    def _set_plan(self, revision: int, plan: TrafficPlan, reason: str, actor: str) -> int:
        """Append a plan to the ledger and return the new revision.

        Raises:
            ConflictError: the ledger has a newer record.
            PermanentError: the plan has another champion, or a version that is not in the ledger.
        """
        from absa.adapters.lake_stores import open_lake
        from absa.ledger.lifecycle import rerouted
        from absa.ledger.store import Ledger

        ledger = Ledger(open_lake(self._settings.lake_uri))
        head = ledger.head()
        if head is None:
            raise PermanentError("there is no champion yet; promote a version first")
        if head.number != revision:
            raise ConflictError(f"expected the current revision {head.number}, got {revision}; read the plan again")
        state = rerouted(head.state, plan)
        return ledger.append(expected=revision, actor=actor, action="traffic", reason=reason, state=state).number


def _summed(*counts: dict[int, int]) -> dict[str, int]:
    return {str(code): sum(each.get(code, 0) for each in counts) for code in sorted(set().union(*counts))}


async def _for_ever(every_s: float, duty: Callable[[], Awaitable[None]]) -> None:
    """Repeat a task until cancelled. A failure is logged and does not end the repetition."""
    while True:
        await asyncio.sleep(every_s)
        await _guarded(duty)


async def _guarded(duty: Callable[[], Awaitable[None]]) -> None:
    try:
        await duty()
    except Exception:  # a failed background task must not end the worker
        _log.exception("a background task failed; it runs again")


async def _main(settings: RouterSettings, arguments: argparse.Namespace) -> None:
    sockets = [socket.socket(fileno=handle) for handle in arguments.sockets]
    for each in sockets:
        each.setblocking(False)
    worker = WorkerProcess(settings, index=arguments.index, folder=arguments.folder, sockets=sockets)
    await worker.run(arguments.lifeline)


def main() -> None:
    """Run a worker process."""
    parser = argparse.ArgumentParser(description="One worker of a router; started by `python -m serving`.")
    parser.add_argument("--index", type=int, required=True, help="number of the worker, from 0")
    parser.add_argument("--folder", type=Path, required=True, help="the replica's folder")
    parser.add_argument("--tuning", required=True, help="section [router] as JSON")
    parser.add_argument("--task", required=True, help="task of the home as JSON")
    parser.add_argument("--promise", type=float, help="share of right answers among certain ones")
    parser.add_argument("--lifeline", type=int, required=True, help="a pipe that closes when the parent ends")
    parser.add_argument("--sockets", type=int, nargs="+", required=True, help="listening sockets: public, then admin")
    arguments = parser.parse_args()
    log_to_stderr(str(arguments.index))
    sys.setswitchinterval(_SWITCH_S)
    data = DataMapping(task=TaskSpec.from_json(json.loads(arguments.task)))
    serving = ServingPolicy(promise=arguments.promise)
    settings = RouterSettings(router=RouterTuning(**json.loads(arguments.tuning)), data=data, serving=serving)
    replica_name(settings)  # if the home cannot be written, fail here and not at the first request
    uvloop.run(_main(settings, arguments))


if __name__ == "__main__":
    main()
