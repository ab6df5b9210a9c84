"""Greedy batcher: one inference thread scores waiting rows in groups of similar length, and never waits for more.

An idle worker answers with the latency of a single row; groups form under load. The oldest waiting row is always in
the next group, so no row starves. Shadow rows, for which no client waits, are scored only when no other row waits.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from absa.inference.batching import MAX_PADDING
from absa.inference.engine import Engine
from absa.inference.tokenization import Encoded

_log = logging.getLogger("evergreen.batcher")
_INTAKE: Final = 256
_SHADOW_INTAKE: Final = 8
_FIRST_MS_PER_TOKEN: Final = 0.02
_SMOOTHING: Final = 0.1
_CHARS_PER_TOKEN: Final = 4.0
_SPECIAL_TOKENS: Final = 3.0


class WaitingRow:
    """One row that waits for its scores.

    Args:
        engine: scores the row.
        text: text of the row.
        phrase: aspect or topic; None for plain text.
        deadline: `time.perf_counter()` after which the client no longer waits.
        done: called in the event loop's thread with the row, once `scores` or `failure` is set.
        shadow: True if no client waits for the row.
    """

    __slots__ = (
        "deadline",
        "done",
        "encoded",
        "engine",
        "failure",
        "phrase",
        "scores",
        "shadow",
        "since",
        "text",
        "work",
    )

    def __init__(
        self,
        engine: Engine,
        text: str,
        phrase: str | None,
        *,
        deadline: float,
        done: "Callable[[WaitingRow], None]",
        shadow: bool = False,
    ) -> None:
        self.engine, self.text, self.phrase = engine, text, phrase
        self.deadline, self.done, self.shadow = deadline, done, shadow
        work = (len(text) + len(phrase or "")) / _CHARS_PER_TOKEN + _SPECIAL_TOKENS  # estimated tokens
        most = engine.tokenizer.max_tokens
        self.work = work if work < most else most
        self.since = 0.0
        self.encoded: Encoded | None = None
        self.scores: list[float] | None = None
        self.failure: str | None = None  # "timeout" or "error"

    @property
    def truncated(self) -> bool:
        """True if the row is encoded and a part of the text or the phrase was left out."""
        return self.encoded is not None and self.encoded.truncated


class Batcher:
    """Passes waiting rows to engines. `submit` and all callbacks run in the event loop's thread.

    Args:
        loop: event loop that gets the results.
        token_budget: largest number of tokens of a group, padding included.
        shadow_rows: largest number of waiting shadow rows.
        after_batch: called in the event loop's thread after each batch.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        token_budget: int,
        shadow_rows: int = 256,
        after_batch: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop, self._token_budget, self._shadow_rows, self._after_batch = (
            loop,
            token_budget,
            shadow_rows,
            after_batch,
        )
        self._arrivals: queue.SimpleQueue[WaitingRow | None] = queue.SimpleQueue()
        self._shadow: deque[WaitingRow] = deque()
        self._waiting_work = 0.0
        self._ms_per_token = _FIRST_MS_PER_TOKEN
        self._batch_ended = 0.0
        self._stopping = False
        self.rows_waiting = 0
        self.batches = 0
        self.batched_rows = 0
        self.shadow_dropped = 0
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def waiting_ms(self) -> float:
        """Return the estimated time to score all waiting rows, in milliseconds."""
        return self._waiting_work * self._ms_per_token

    def submit(self, jobs: Sequence[WaitingRow]) -> None:
        """Queue rows of clients."""
        now = time.perf_counter()
        for job in jobs:
            job.since = now
            self._waiting_work += job.work
            self.rows_waiting += 1
            self._arrivals.put(job)

    def submit_shadow(self, job: WaitingRow) -> bool:
        """Queue a shadow row. If too many wait, or the batcher stops, drop and count it, and return False."""
        if len(self._shadow) >= self._shadow_rows or self._stopping:
            self.shadow_dropped += 1
            return False
        self._shadow.append(job)
        self._arrivals.put(None)
        return True

    def stop(self, timeout_s: float) -> None:
        """End the thread after the waiting rows of clients; wait for it up to `timeout_s`."""
        self._stopping = True
        self._arrivals.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pending, shadow = _Pending(), _Pending()
        while True:
            if not pending and not shadow and not self._shadow:
                if self._stopping:
                    return
                first = self._arrivals.get()
                if first is not None:
                    self._take_in([first], pending)
            self._drain(pending)
            if pending:
                self._score(pending.group(self._token_budget))
            elif self._stopping:
                return
            else:
                self._score_shadow(shadow)

    def _drain(self, pending: "_Pending") -> None:
        arrived: list[WaitingRow] = []
        try:
            while len(arrived) < _INTAKE:
                job = self._arrivals.get_nowait()
                if job is not None:
                    arrived.append(job)
        except queue.Empty:
            pass
        if arrived:
            self._take_in(arrived, pending)

    def _take_in(self, jobs: list[WaitingRow], pending: "_Pending") -> None:
        now = time.perf_counter()
        late = [job for job in jobs if job.deadline < now]
        if late:
            self._hand_over(late, failure="timeout")
            jobs = [job for job in jobs if job.deadline >= now]
        by_engine: dict[int, list[WaitingRow]] = {}
        for job in jobs:
            by_engine.setdefault(id(job.engine), []).append(job)
        for each in by_engine.values():
            if self._encode(each):
                pending.add(each)
            else:
                self._hand_over(each, failure="error")

    @staticmethod
    def _encode(jobs: list[WaitingRow]) -> bool:
        try:
            rows = jobs[0].engine.tokenizer.encode([(job.text, job.phrase) for job in jobs])
        except Exception as error:
            _log.exception("rows could not be tokenised: %s", type(error).__name__)
            return False
        for job, row in zip(jobs, rows, strict=True):
            job.encoded = row
        return True

    def _score_shadow(self, shadow: "_Pending") -> None:
        """Score only one group of shadow rows, so that rows of clients can come before the next one."""
        if not shadow:
            self._take_in([self._shadow.popleft() for _ in range(min(_SHADOW_INTAKE, len(self._shadow)))], shadow)
        if shadow:
            self._score(shadow.group(self._token_budget))

    def _score(self, jobs: list[WaitingRow]) -> None:
        now = time.perf_counter()
        late = [job for job in jobs if job.deadline < now]
        if late:
            self._hand_over(late, failure="timeout")
            jobs = [job for job in jobs if job.deadline >= now]
            if not jobs:
                return
        try:
            scores = jobs[0].engine.score_group([job.encoded for job in jobs if job.encoded is not None])
            rows = scores.astype("float64").round(6).tolist()
        except Exception as error:
            _log.exception("a batch could not be scored: %s", type(error).__name__)
            self._hand_over(jobs, failure="error")
            return
        for job, row in zip(jobs, rows, strict=True):
            job.scores = row
        self.batches += 1
        self._learn_rate(jobs, now)
        self.batched_rows += len(jobs)
        self._hand_over(jobs)

    def _learn_rate(self, jobs: list[WaitingRow], begun: float) -> None:
        """Update the time per token. Without a pause before the batch, the time since the last batch is included."""
        ended = time.perf_counter()
        since = max(self._batch_ended, min(job.since for job in jobs)) if self._batch_ended else begun
        self._batch_ended = ended
        ms_per_token = (ended - since) * 1000 / sum(job.work for job in jobs)
        self._ms_per_token += max(_SMOOTHING, 1 / self.batches) * (ms_per_token - self._ms_per_token)

    def _hand_over(self, jobs: list[WaitingRow], *, failure: str | None = None) -> None:
        if failure is not None:
            for job in jobs:
                job.failure = failure
        try:
            self._loop.call_soon_threadsafe(self._finish, jobs)
        except RuntimeError:  # the loop is closed, so the process ends
            return

    def _finish(self, jobs: list[WaitingRow]) -> None:
        for job in jobs:
            if not job.shadow:
                self._waiting_work -= job.work
                self.rows_waiting -= 1
            job.done(job)
        if not self.rows_waiting:
            self._waiting_work = 0.0  # removes errors of rounding
        self._after_batch()


class _Pending:
    """Encoded rows by engine and length. Used by the inference thread only."""

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], deque[WaitingRow]] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, jobs: list[WaitingRow]) -> None:
        for job in jobs:
            assert job.encoded is not None
            key = (id(job.engine), job.encoded.tokens)
            waiting = self._by_length.get(key)
            if waiting is None:
                waiting = self._by_length[key] = deque()
            waiting.append(job)
        self._rows += len(jobs)

    def group(self, token_budget: int) -> list[WaitingRow]:
        """Take the oldest row and rows of similar length, within the token budget and with little padding."""
        engine, length = min(self._by_length, key=lambda key: self._by_length[key][0].since)
        others = sorted((n for e, n in self._by_length if e == engine), key=lambda n: abs(n - length))
        jobs: list[WaitingRow] = []
        longest = real = 0
        for tokens in others:
            waiting = self._by_length[engine, tokens]
            width = max(longest, tokens)
            while waiting:
                padded = width * (len(jobs) + 1)
                if jobs and (padded > token_budget or padded - real - tokens > MAX_PADDING * padded):
                    break
                jobs.append(waiting.popleft())
                longest = width
                real += tokens
            if not waiting:
                del self._by_length[engine, tokens]
            if longest * (len(jobs) + 1) > token_budget:
                break
        self._rows -= len(jobs)
        return jobs
