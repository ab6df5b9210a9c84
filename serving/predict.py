"""The hot route: POST /v1/predict as bare ASGI, because a framework's route costs more than a small model does."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import orjson

from absa.labels import SENTIMENTS
from absa.routing import Arm, assign
from serving.batcher import Batcher, Job
from serving.cache import AnswerCache
from serving.identifiers import RequestIds, unit_hash
from serving.keys import Keys
from serving.outcomes import Outcome, OutcomeCounts
from serving.parsing import Item, Limits, parse_predict
from serving.pool import InForce, LoadedModel, ModelPool
from serving.problems import PROBLEM_TYPE, Problem, invalid, not_ready, overload
from serving.spool import PREDICTIONS, SpoolWriter

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON: Final = b"application/json"
_DEADLINE_HEADER: Final = b"x-timeout-ms"
SECURITY_HEADERS: Final = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]


class _Row:
    """One item of a request: who answers it, and with what."""

    __slots__ = ("arm", "cached", "item", "model", "request_id", "scores")

    def __init__(self, item: Item, request_id: str, arm: Arm, model: LoadedModel) -> None:
        self.item, self.request_id, self.arm, self.model = item, request_id, arm, model
        self.scores: list[float] | None = None
        self.cached = False


class _Ticket:
    """One request that waits for its rows."""

    __slots__ = ("at_us", "failure", "future", "in_force", "left", "rows", "started")

    def __init__(self, in_force: InForce, at_us: int, started: float, future: "asyncio.Future[None]") -> None:
        self.in_force, self.at_us, self.started, self.future = in_force, at_us, started, future
        self.rows: list[_Row] = []
        self.left = 0
        self.failure: str | None = None


class Predictor:
    """Answers predictions: assign, look in the cache, queue, log, answer.

    Args:
        pool: holds the plan and models in force.
        batcher: scores what the cache does not have.
        cache: answers given before.
        spool: where answers are logged before they leave.
        outcomes: counts.
        keys: who may ask.
        limits: how much a request may carry.
        secret: what units are hashed with.
        queue_ms: most work that may wait; beyond it the answer is 429.
        body_limit_bytes: largest body.
        request_timeout_s: longest wait, unless the client's `X-Timeout-Ms` is shorter.
        redact_text: log neither text nor aspect.
    """

    def __init__(
        self,
        *,
        pool: ModelPool,
        batcher: Batcher,
        cache: AnswerCache,
        spool: SpoolWriter,
        outcomes: OutcomeCounts,
        keys: Keys,
        limits: Limits,
        secret: bytes,
        queue_ms: float,
        body_limit_bytes: int,
        request_timeout_s: float,
        redact_text: bool,
    ) -> None:
        self._pool, self._batcher, self._cache, self._spool, self._outcomes = pool, batcher, cache, spool, outcomes
        self._keys, self._limits, self._secret = keys, limits, secret
        self._queue_ms, self._body_limit_bytes = queue_ms, body_limit_bytes
        self._request_timeout_s, self._redact_text = request_timeout_s, redact_text
        self._ids = RequestIds()
        self._loop = asyncio.get_running_loop()
        self._finished: list[_Ticket] = []
        self.cache_hits = 0
        self.refused: dict[int, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        started = time.perf_counter()
        try:
            if self._keys.predict_key is not None:
                self._keys.check_predict(scope["headers"])
            body = await read_body(scope, receive, self._body_limit_bytes)
            ticket, several = self._begin(scope, body, started)
            if ticket.left:
                await ticket.future
            if ticket.failure is not None:
                raise _failed(ticket.failure)
            answers = [_answer(row, ticket.in_force) for row in ticket.rows]
            content = orjson.dumps({"predictions": answers} if several else answers[0])
        except Problem as problem:
            self.refused[problem.status] = self.refused.get(problem.status, 0) + 1
            await send_problem(send, problem)
            return
        await send_json(send, 200, content)

    def _begin(self, scope: Scope, body: bytes, started: float) -> tuple[_Ticket, bool]:
        in_force = self._pool.in_force
        if in_force is None:
            raise not_ready("no model is in force yet; promote a version, then ask again")
        deadline = started + self._timeout_s(scope)
        items, several = parse_predict(body, self._limits)
        at_us = time.time_ns() // 1000
        ticket = _Ticket(in_force, at_us, started, self._loop.create_future())
        jobs: list[Job] = []
        for item in items:
            row = self._assigned(item, in_force, at_us)
            ticket.rows.append(row)
            row.scores = self._cache.get((row.model.digest, item.text, item.aspect))
            if row.scores is not None:
                row.cached = True
                self.cache_hits += 1
            else:
                jobs.append(self._job(row, ticket, deadline))
        if jobs:
            self._admit(ticket, jobs)
        else:
            self._finished.append(ticket)
            self.flush()
        return ticket, several

    def _assigned(self, item: Item, in_force: InForce, at_us: int) -> _Row:
        request_id = self._ids.new(at_us)
        arm = assign(in_force.plan, request_id if item.unit_id is None else item.unit_id)
        return _Row(item, request_id, arm, in_force.models[arm.version])

    def _job(self, row: _Row, ticket: _Ticket, deadline: float) -> Job:
        def done(job: Job) -> None:
            row.scores = job.scores
            if job.scores is None:
                ticket.failure = job.failure
                self._outcomes.add(ticket.at_us, row.model.version, row.arm.name, _outcome(job.failure), 0.0)
            else:
                self._cache.put((row.model.digest, row.item.text, row.item.aspect), job.scores)
            ticket.left -= 1
            if not ticket.left:
                self._finished.append(ticket)

        return Job(row.model.engine, row.item.text, row.item.aspect, deadline=deadline, done=done)

    def _admit(self, ticket: _Ticket, jobs: list[Job]) -> None:
        waiting_ms = self._batcher.waiting_ms
        if waiting_ms > self._queue_ms:
            for row in ticket.rows:
                self._outcomes.add(ticket.at_us, row.model.version, row.arm.name, "shed", 0.0)
            raise overload(max(1, round(waiting_ms / 1000)))
        ticket.left = len(jobs)
        self._batcher.submit(jobs)

    def flush(self) -> None:
        """Log the requests that are complete, in one write, then let them go. Called after each batch."""
        if not self._finished:
            return
        finished, self._finished = self._finished, []
        lines: list[bytes] = []
        now = time.perf_counter()
        for ticket in finished:
            if ticket.failure is None:
                latency_ms = round((now - ticket.started) * 1000, 3)
                for row in ticket.rows:
                    lines.append(self._line(row, row.scores, row.model, row.arm, ticket, latency_ms, shadow=False))
                    self._outcomes.add(ticket.at_us, row.model.version, row.arm.name, "ok", latency_ms)
        if lines:
            self._spool.append(PREDICTIONS, b"".join(lines), len(lines))
        for ticket in finished:
            if not ticket.future.done():  # its client may have gone
                ticket.future.set_result(None)
            if ticket.in_force.plan.mode == "shadow" and ticket.failure is None:
                self._shadow(ticket)

    def _line(
        self,
        row: _Row,
        scores: list[float] | None,
        model: LoadedModel,
        arm: Arm,
        ticket: _Ticket,
        latency_ms: float,
        *,
        shadow: bool,
    ) -> bytes:
        assert scores is not None
        item = row.item
        unit = item.unit_id
        return orjson.dumps(
            [
                row.request_id,
                ticket.at_us,
                unit_hash(row.request_id if unit is None else unit, self._secret),
                unit is not None,
                item.segment,
                None if self._redact_text else item.text,
                None if self._redact_text else item.aspect,
                scores.index(max(scores)),
                scores,
                model.version,
                arm.name,
                ticket.in_force.plan.experiment,
                ticket.in_force.revision,
                shadow,
                row.cached and not shadow,
                latency_ms,
            ],
            option=orjson.OPT_APPEND_NEWLINE,
        )

    def _shadow(self, ticket: _Ticket) -> None:
        """Score the challengers on what the champion answered, when there is time for it."""
        for row in ticket.rows:
            for arm in ticket.in_force.plan.challengers:
                model = ticket.in_force.models[arm.version]
                self._batcher.submit_shadow(self._shadow_job(row, arm, model, ticket))

    def _shadow_job(self, row: _Row, arm: Arm, model: LoadedModel, ticket: _Ticket) -> Job:
        def done(job: Job) -> None:
            if job.scores is None:
                if job.failure == "error":
                    self._outcomes.add(ticket.at_us, model.version, arm.name, "error", 0.0)
                return
            latency_ms = round((time.perf_counter() - job.since) * 1000, 3)
            line = self._line(row, job.scores, model, arm, ticket, latency_ms, shadow=True)
            self._spool.append(PREDICTIONS, line, 1)

        deadline = time.perf_counter() + self._request_timeout_s
        job = Job(model.engine, row.item.text, row.item.aspect, deadline=deadline, done=done, shadow=True)
        job.since = time.perf_counter()
        return job

    def _timeout_s(self, scope: Scope) -> float:
        for name, value in scope["headers"]:
            if name == _DEADLINE_HEADER:
                if not value.isdigit() or not 1 <= int(value) <= 600_000:
                    raise invalid("X-Timeout-Ms", "must be a whole number of milliseconds from 1 to 600000")
                return min(int(value) / 1000, self._request_timeout_s)
        return self._request_timeout_s


def _answer(row: _Row, in_force: InForce) -> dict[str, Any]:
    scores = row.scores
    assert scores is not None
    label = scores.index(max(scores))
    return {
        "request_id": row.request_id,
        "label": label,
        "sentiment": SENTIMENTS[label],
        "scores": scores,
        "model_version": row.model.version,
        "arm": row.arm.name,
        "experiment": in_force.plan.experiment,
        "cached": row.cached,
    }


def _outcome(failure: str | None) -> Outcome:
    return "timeout" if failure == "timeout" else "error"


def _failed(failure: str) -> Problem:
    if failure == "timeout":
        return Problem(504, "timeout", "the answer would have come after the deadline; try again, or allow more time")
    return Problem(500, "inference", "the model could not score this request; the log of the router says why")


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """The whole body.

    Raises:
        Problem: 413 where it is larger than the limit.
    """
    for name, value in scope["headers"]:
        if name == b"content-length" and len(value) > 3 and value.isdigit() and int(value[:20]) > limit_bytes:
            raise _too_large(limit_bytes)
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body
    chunks = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "disconnected", "the client went away in the middle of its request")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit_bytes:
            raise _too_large(limit_bytes)
    return b"".join(chunks)


def _too_large(limit_bytes: int) -> Problem:
    return Problem(413, "too-large", f"the body may have at most {limit_bytes} bytes")


async def send_json(send: Send, status: int, content: bytes) -> None:
    """Answer with JSON."""
    headers = [
        (b"content-type", _JSON),
        (b"content-length", str(len(content)).encode()),
        *SECURITY_HEADERS,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def send_problem(send: Send, problem: Problem) -> None:
    """Answer with a problem; what is left of a body that was too large is not read."""
    content = problem.body()
    headers = [
        (b"content-type", PROBLEM_TYPE),
        (b"content-length", str(len(content)).encode()),
        *SECURITY_HEADERS,
        *problem.headers,
    ]
    if problem.status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
