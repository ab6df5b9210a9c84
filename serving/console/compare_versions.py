"""Comparison of the active versions on one text, for an operator's trials. It is neither logged nor counted."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from serving.engine.batcher import Batcher, WaitingRow
from serving.engine.pool import ModelPool
from serving.http.api_keys import Keys
from serving.http.bodies import BodiesByTask, named_label
from serving.http.parsing import parse_predict
from serving.problems import Problem, invalid, not_ready, overload


class Comparer:
    """Scorer of one text with every version of the plan, beside the traffic and within the same limits."""

    def __init__(
        self, *, pool: ModelPool, batcher: Batcher, keys: Keys, bodies: BodiesByTask, queue_ms: float, timeout_s: float
    ) -> None:
        self._pool, self._batcher, self._keys, self._bodies = pool, batcher, keys, bodies
        self._queue_ms, self._timeout_s = queue_ms, timeout_s

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Check the key, before the body is read.

        Raises:
            Problem: 401 or 403.
        """
        self._keys.check_predict(headers)

    async def __call__(self, body: bytes) -> list[dict[str, Any]]:
        """Return the answer of each version to an admitted request, the champion first.

        Raises:
            Problem: as /v1/predict; 422 for several items at once.
        """
        in_force = self._pool.in_force
        if in_force is None:
            raise not_ready("no model is active yet; promote a version, then try again")
        items, several = parse_predict(body, self._bodies.of(in_force.task))
        if several:
            raise invalid("instances", "is not allowed here: expected one text")
        if self._batcher.waiting_ms > self._queue_ms:
            raise overload(max(1, round(self._batcher.waiting_ms / 1000)))
        loop = asyncio.get_running_loop()
        deadline = time.perf_counter() + self._timeout_s
        jobs, waits = [], []
        for arm in in_force.plan.arms:
            done: asyncio.Future[WaitingRow] = loop.create_future()
            engine = in_force.models[arm.version].engine
            jobs.append(WaitingRow(engine, items[0].text, items[0].phrase, deadline=deadline, done=_setter(done)))
            waits.append(done)
        self._batcher.submit(jobs)
        answers = []
        for arm, job in zip(in_force.plan.arms, await asyncio.gather(*waits), strict=True):
            if job.scores is None:
                raise Problem(500, "inference", f"version {arm.version} could not score this text")
            label = job.scores.index(max(job.scores))
            answers.append(
                {
                    "arm": arm.name,
                    "version": arm.version,
                    **named_label(in_force.models[arm.version].engine.task, label),
                    "scores": job.scores,
                    "truncated": job.truncated,
                }
            )
        return answers


def _setter(done: "asyncio.Future[WaitingRow]") -> Any:
    def set_result(job: WaitingRow) -> None:
        if not done.done():  # the client may have disconnected
            done.set_result(job)

    return set_result
