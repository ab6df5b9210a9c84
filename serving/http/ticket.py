"""Tickets: requests that wait for the scores of their rows, and the answers made from them."""

from collections.abc import Callable
from typing import Any

import orjson

from absa.inference.certainty import is_certain
from absa.ledger.routing import Arm
from serving.engine.answer_cache import CachedAnswer
from serving.engine.batcher import WaitingRow
from serving.engine.pool import InForce, LoadedModel
from serving.http.bodies import PredictItem, named_label
from serving.http.messages import Headers
from serving.observe.outcomes import Outcome
from serving.problems import Problem

Respond = Callable[[bytes | Problem], None]


class Ticket:
    """Request that waits for its rows. Rows refer to their ticket: clear `rows`, or the cycle keeps texts in memory."""

    __slots__ = ("answer", "at_us", "failure", "headers", "in_force", "left", "rows", "several", "started")

    def __init__(
        self, in_force: InForce, at_us: int, started: float, headers: Headers, answer: Respond, *, several: bool
    ) -> None:
        self.in_force, self.at_us, self.started, self.headers, self.answer = in_force, at_us, started, headers, answer
        self.several = several
        self.rows: list[TicketRow] = []
        self.left = 0
        self.failure: str | None = None

    def problem(self) -> Problem | None:
        """Return the problem of a request with a failed row; None without one."""
        if self.failure is None:
            return None
        if self.failure == "timeout":
            detail = "the answer was not ready before the deadline; try again, or raise X-Timeout-Ms"
            return Problem(504, "timeout", detail)
        return Problem(500, "inference", "the model could not score this request; the router's log has the reason")

    def content(self) -> bytes:
        """Return the answer as JSON, once every row is scored."""
        answers = [row.answer() for row in self.rows]
        return orjson.dumps({"predictions": answers} if self.several else answers[0])

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of a trace; with several items, the attributes of the first item."""
        first = self.rows[0]
        return {
            "evergreen.items": len(self.rows),
            "evergreen.version": first.model.version,
            "evergreen.arm": first.arm.name,
            "evergreen.cached": first.cached is not None,
            "evergreen.revision": self.in_force.revision,
        }


class TicketRow(WaitingRow):
    """One item of a request: its arm, its model and its answer."""

    __slots__ = ("arm", "cached", "item", "model", "request_id", "ticket")

    def __init__(
        self,
        item: PredictItem,
        request_id: str,
        arm: Arm,
        ticket: Ticket,
        deadline: float,
        done: Callable[[Any], None],
    ) -> None:
        self.item, self.request_id, self.arm, self.ticket = item, request_id, arm, ticket
        self.model: LoadedModel = ticket.in_force.models[arm.version]
        self.cached: CachedAnswer | None = None
        super().__init__(self.model.engine, item.text, item.phrase, deadline=deadline, done=done)

    @property
    def truncated(self) -> bool:
        """True if a part of the text was left out. A cached answer has the mark, because it is not encoded again."""
        return super().truncated if self.cached is None else self.cached.truncated

    @property
    def certain(self) -> bool | None:
        """True if the answer is certain under the promise; None if nothing is promised."""
        scores = self.scores
        assert scores is not None
        return is_certain(scores, scores.index(max(scores)), self.model.least_scores)

    @property
    def outcome(self) -> Outcome:
        """Outcome of the row, once it is scored or given up."""
        if self.scores is not None:
            return "ok"
        return "timeout" if self.failure == "timeout" else "error"

    def answer(self) -> dict[str, Any]:
        """Return the row's part of the answer."""
        scores = self.scores
        assert scores is not None
        label = scores.index(max(scores))
        return {
            "request_id": self.request_id,
            **named_label(self.model.engine.task, label),
            "scores": scores,
            "certain": self.certain,
            "truncated": self.truncated,
            "model_version": self.model.version,
            "arm": self.arm.name,
            "experiment": self.ticket.in_force.plan.experiment,
            "cached": self.cached is not None,
        }
