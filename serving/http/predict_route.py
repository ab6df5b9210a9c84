"""Predictor: answers POST /v1/predict, from the bytes of a body to the bytes of its answer."""

import asyncio
import logging
import time
from typing import Final

from absa.inference.certainty import is_certain
from absa.ledger.routing import Arm, assign
from absa.records.identifiers import RequestIds, unit_hash
from absa.records.log_lines import json_line
from absa.records.rows import Prediction
from serving.engine.answer_cache import AnswerCache, CachedAnswer
from serving.engine.batcher import Batcher, WaitingRow
from serving.engine.pool import LoadedModel, ModelPool
from serving.http.api_keys import Keys
from serving.http.bodies import BodiesByTask
from serving.http.messages import Headers, Receive, Scope, Send, read_body, send_json, send_problem
from serving.http.parsing import parse_predict
from serving.http.ticket import Respond, Ticket, TicketRow
from serving.log.spool import PREDICTION_LOG, SpoolWriter
from serving.observe.outcomes import OutcomeCounts
from serving.observe.traces import Traces
from serving.problems import Problem, internal_error, invalid, not_ready, overload

_DEADLINE_HEADER: Final = b"x-timeout-ms"
_DEADLINE_DIGITS: Final = 6

_log = logging.getLogger("evergreen.predict")


class Predictor:
    """Answers predictions: assign the arm, look in the cache, queue, log, answer.

    Args:
        pool: active plan and models.
        batcher: scores rows that the cache lacks.
        cache: earlier answers.
        spool: log that answers are written to before they are sent.
        outcomes: counts of outcomes.
        keys: checks the keys of clients.
        bodies: validate requests.
        secret: secret for hashing units.
        queue_ms: most work that may wait, in milliseconds; beyond it the answer is 429.
        body_limit_bytes: largest body.
        request_timeout_s: longest wait, unless the client's `X-Timeout-Ms` is shorter.
        redact_text: log neither text nor phrase.
        traces: get each completed request; None: no traces.
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
        bodies: BodiesByTask,
        secret: bytes,
        queue_ms: float,
        body_limit_bytes: int,
        request_timeout_s: float,
        redact_text: bool,
        traces: Traces | None = None,
    ) -> None:
        self._pool, self._batcher, self._cache, self._spool, self._outcomes = pool, batcher, cache, spool, outcomes
        self._keys, self._bodies, self._secret = keys, bodies, secret
        self._queue_ms = queue_ms
        self.body_limit_bytes = body_limit_bytes
        self._request_timeout_s, self._redact_text = request_timeout_s, redact_text
        self._traces = traces
        self._ids = RequestIds()
        self._finished: list[Ticket] = []
        self.cache_hits = 0
        self.certain: dict[bool | None, int] = {True: 0, False: 0, None: 0}
        self.refused: dict[int, int] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that came through ASGI."""
        started = time.perf_counter()
        answered: asyncio.Future[bytes | Problem] = asyncio.get_running_loop().create_future()

        def answer(result: bytes | Problem) -> None:
            if not answered.done():  # the client may have disconnected
                answered.set_result(result)

        try:
            self.admit(scope["headers"])
            body = await read_body(scope, receive, self.body_limit_bytes)
        except Problem as problem:
            answer(self.refuse(problem))
        else:
            self.ask(scope["headers"], body, answer, started)
        result = await answered
        if isinstance(result, Problem):
            await send_problem(send, result)
        else:
            await send_json(send, 200, result)

    @property
    def key_needed(self) -> bool:
        """Return True if `admit` has a key to check."""
        return self._keys.predict_key is not None

    def admit(self, headers: Headers) -> None:
        """Check the key, before any part of the body is kept.

        Raises:
            Problem: 401 or 403.
        """
        started = time.perf_counter()
        try:
            self._keys.check_predict(headers)
        except Problem as problem:
            if self._traces is not None:
                self._traces.note(headers, started, {}, problem)
            raise

    def ask(self, headers: Headers, body: bytes, answer: Respond, started: float) -> None:
        """Answer a whole admitted request, at once or when its rows are scored.

        Args:
            headers: names in lower case.
            body: complete.
            answer: called once, in this thread, with the JSON of a 200 or a problem.
            started: `time.perf_counter()` at the arrival of the request.
        """
        try:
            self._begin(headers, body, answer, started)
        except Problem as problem:
            refused = problem
        except Exception as error:
            _log.exception("a request failed: %s", type(error).__name__)
            refused = internal_error()
        else:
            return
        answer(self.refuse(refused))
        if self._traces is not None:
            self._traces.note(headers, started, {}, refused)

    def refuse(self, problem: Problem) -> Problem:
        """Count a refused request; return its problem without traceback."""
        self.refused[problem.status] = self.refused.get(problem.status, 0) + 1
        return problem.without_traceback()

    def _begin(self, headers: Headers, body: bytes, answer: Respond, started: float) -> None:
        in_force = self._pool.in_force
        if in_force is None:
            raise not_ready("no model is active yet; promote a version, then try again")
        deadline = started + self._timeout_s(headers)
        items, several = parse_predict(body, self._bodies.of(in_force.task))
        at_us = time.time_ns() // 1000
        ticket = Ticket(in_force, at_us, started, headers, answer, several=several)
        jobs: list[WaitingRow] = []
        for item in items:
            request_id = self._ids.new(at_us)
            arm = assign(in_force.plan, request_id if item.unit_id is None else item.unit_id)
            row = TicketRow(item, request_id, arm, ticket, deadline, self._scored)
            ticket.rows.append(row)
            row.cached = self._cache.get((row.model.digest, item.text, row.phrase))
            if row.cached is None:
                jobs.append(row)
            else:
                row.scores = row.cached.scores
                self.cache_hits += 1
        if jobs:
            self._admit(ticket, jobs)
        else:
            self._finished.append(ticket)
            if len(self._finished) == 1:  # requests of the same turn of the loop share one write to the log
                asyncio.get_running_loop().call_soon(self.flush)

    def _scored(self, row: TicketRow) -> None:
        """Handle a row that the batcher has scored or given up."""
        ticket = row.ticket
        if row.scores is None:
            ticket.failure = row.failure
        else:
            answer = CachedAnswer(row.scores, row.truncated)
            self._cache.put((row.model.digest, row.item.text, row.phrase), answer)
        ticket.left -= 1
        if not ticket.left:
            self._finished.append(ticket)

    def _admit(self, ticket: Ticket, jobs: list[WaitingRow]) -> None:
        waiting_ms = self._batcher.waiting_ms
        if waiting_ms > self._queue_ms:
            for row in ticket.rows:
                self._outcomes.add(ticket.at_us, row.model.version, row.arm.name, "shed")
            ticket.rows.clear()
            raise overload(max(1, round(waiting_ms / 1000)))
        ticket.left = len(jobs)
        self._batcher.submit(jobs)

    def flush(self) -> None:
        """Log the completed requests in one write, then send their answers. Called after each batch."""
        if not self._finished:
            return
        finished, self._finished = self._finished, []
        self._write_ahead([ticket for ticket in finished if ticket.failure is None])
        for ticket in finished:
            try:
                self._let_go(ticket)
            except Exception as error:  # the other requests of this batch are still answered
                _log.exception("an answer could not be sent: %s", type(error).__name__)
            ticket.rows.clear()

    def _let_go(self, ticket: Ticket) -> None:
        problem = ticket.problem()
        if problem is None:
            ticket.answer(ticket.content())
        else:
            for row in ticket.rows:
                self._outcomes.add(ticket.at_us, row.model.version, row.arm.name, row.outcome)
            ticket.answer(self.refuse(problem))
        if self._traces is not None:
            self._traces.note(ticket.headers, ticket.started, ticket.attributes(), problem)
        if problem is None and ticket.in_force.plan.mode == "shadow":
            self._shadow(ticket)

    def _write_ahead(self, tickets: list[Ticket]) -> None:
        lines: list[bytes] = []
        rows = 0
        now = time.perf_counter()
        for ticket in tickets:
            latency_ms = round((now - ticket.started) * 1000, 3)
            rows += len(ticket.rows)
            for row in ticket.rows:
                self._outcomes.add(ticket.at_us, row.model.version, row.arm.name, "ok", latency_ms)
                self.certain[row.certain] += 1
                if not self._spool.full:
                    lines.append(self._line(row, row, row.model, row.arm, ticket, latency_ms, shadow=False))
        if rows:
            self._spool.append(PREDICTION_LOG, b"".join(lines), rows)

    def _line(
        self,
        row: TicketRow,
        scored: WaitingRow,
        model: LoadedModel,
        arm: Arm,
        ticket: Ticket,
        latency_ms: float,
        *,
        shadow: bool,
    ) -> bytes:
        scores = scored.scores
        assert scores is not None
        item, label = row.item, scores.index(max(scores))
        unit = item.unit_id
        return json_line(
            Prediction(
                row.request_id,
                ticket.at_us,
                unit_hash(row.request_id if unit is None else unit, self._secret),
                unit is not None,
                item.segment,
                None if self._redact_text else item.text,
                None if self._redact_text else row.phrase,
                label,
                scores,
                model.version,
                arm.name,
                ticket.in_force.plan.experiment,
                ticket.in_force.revision,
                shadow,
                row.cached is not None and not shadow,
                scored.truncated,
                latency_ms,
                certain=is_certain(scores, label, model.least_scores),
            )
        )

    def _shadow(self, ticket: Ticket) -> None:
        """Queue the rows of an answered request for the challengers, which score them when the worker is idle."""
        for row in ticket.rows:
            for arm in ticket.in_force.plan.challengers:
                model = ticket.in_force.models[arm.version]
                self._batcher.submit_shadow(self._shadow_job(row, arm, model, ticket))

    def _shadow_job(self, row: TicketRow, arm: Arm, model: LoadedModel, ticket: Ticket) -> WaitingRow:
        def done(job: WaitingRow) -> None:
            if job.scores is None:
                if job.failure == "error":
                    self._outcomes.add(ticket.at_us, model.version, arm.name, "error")
                return
            latency_ms = round((time.perf_counter() - job.since) * 1000, 3)
            line = self._line(row, job, model, arm, ticket, latency_ms, shadow=True)
            self._spool.append(PREDICTION_LOG, line, 1)

        deadline = time.perf_counter() + self._request_timeout_s
        job = WaitingRow(model.engine, row.item.text, row.phrase, deadline=deadline, done=done, shadow=True)
        job.since = time.perf_counter()
        return job

    def _timeout_s(self, headers: Headers) -> float:
        for name, value in headers:
            if name == _DEADLINE_HEADER:
                digits = value.strip(b" \t")
                if not digits.isdigit() or len(digits) > _DEADLINE_DIGITS or not 1 <= int(digits) <= 600_000:
                    raise invalid("X-Timeout-Ms", "must be a whole number of milliseconds from 1 to 600000")
                return min(int(digits) / 1000, self._request_timeout_s)
        return self._request_timeout_s
