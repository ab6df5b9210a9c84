"""Rows of a simulated population's requests: bundled texts, drawn answers, truths and feedback. Fast, for benchmarks.

A topic is a segment of the bundled rows. A row's confidence is its own, so texts that a user prefers make dependent
scores; a row with confidence c is right with probability c.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from absa.data.traffic.arrivals import Arrivals, Simulation
from absa.data.traffic.feedback_habits import FeedbackHabits
from absa.data.traffic.population import Cycles, Flood, Growth, Onboarding, Population, Sessions, Users
from absa.records.schema import Window

MONDAY: Final = datetime(2026, 1, 5, tzinfo=UTC)
HOUR_S: Final = 3_600.0
_INDEPENDENT: Final = Population(requests_an_hour=800.0)  # so many that no hour of a night has too few for a verdict
HABITS: Final = {
    "independent": _INDEPENDENT,
    "returning": replace(_INDEPENDENT, users=Users()),
    "sessions": replace(_INDEPENDENT, users=Users(), sessions=Sessions()),
    "cycles": replace(_INDEPENDENT, users=Users(), cycles=Cycles()),
    "growth": replace(_INDEPENDENT, users=Users(), growth=Growth()),
    "together": replace(_INDEPENDENT, users=Users(), sessions=Sessions(), cycles=Cycles(), growth=Growth()),
}
"""Traffic without drift by its name."""
LARGE_UNIT: Final = replace(HABITS["returning"], events=(Onboarding(starts_s=0.0, requests_an_hour=400.0, users=1),))
"""A third of the traffic from one unit, about one topic."""
_N_LABELS: Final = 3
_COPY: Final = " No. "
_TOLD: Final = {
    "feedback_label": "told_label",
    "feedback_at": "told_at",
    "feedback_source": "told_source",
    "sampling_probability": "told_probability",
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """Drift of the rows of a period: shares are 0 to 1.

    `new_share` of the sessions are about the new area; their rows carry the segment of the user's topic or, with
    `own_segment`, one of their own. `negative_points` moves so much of the share of predicted classes from positive to
    negative. `flipped` of the truths are another label.
    """

    new_share: float = 0.0
    own_segment: bool = False
    negative_points: float = 0.0
    flipped: float = 0.0


NO_CHANGE: Final = Change()


class LiveTraffic:
    """Requests of one population as frames of the prediction log.

    Args:
        known: rows with text, aspect, label and segment; each segment is a topic.
        new: the same of the new area.
        population: users and their habits, such as one of `HABITS`.
        feedback: habits of the customers who give feedback.
        seed: of the population and everything drawn.
    """

    def __init__(
        self,
        known: pl.DataFrame,
        new: pl.DataFrame,
        population: Population,
        *,
        feedback: FeedbackHabits | None = None,
        seed: int = 0,
    ) -> None:
        rows = pl.concat([known, new]).with_columns(pl.col("segment").fill_null(""))
        self.topics = sorted(known["segment"].fill_null("").unique().to_list())
        counts = {topic: known.filter(pl.col("segment").fill_null("") == topic).height for topic in self.topics}
        shares = [counts[topic] / known.height for topic in self.topics]
        self._events = population.events
        self._simulation = Simulation(population, shares, seed=seed)
        self._feedback = feedback or FeedbackHabits(answer_rate_right=0.1, delay_mean_s=600.0, error_rate=0.0)
        self._seed = seed
        self._written = rows
        self._labels = rows["label"].to_numpy().astype(np.int64)
        self._confidence = np.clip(np.random.default_rng(0).normal(0.83, 0.1, rows.height), 0.4, 0.99)
        place = {topic: k for k, topic in enumerate(self.topics)}
        topic_of = np.array(
            [place.get(s, -1) if k < known.height else -1 for k, s in enumerate(rows["segment"].to_list())]
        )
        # rows of each topic by label; the last topic (-1) is the new area
        self._rows = [
            [np.flatnonzero((topic_of == topic) & (self._labels == label)) for label in range(_N_LABELS)]
            for topic in (*range(len(self.topics)), -1)
        ]
        sizes = np.array([[len(rows) for rows in of_topic] for of_topic in self._rows], dtype=np.float64)
        self._label_shares = sizes / np.maximum(sizes.sum(axis=1, keepdims=True), 1.0)

    def hours(self, start: int, end: int, change: Change = NO_CHANGE) -> pl.DataFrame:
        """Return the log's rows from an hour to before another, counted from Monday, 00:00; all feedback has come."""
        return pl.concat([self._hour(hour, change) for hour in range(start, end)])

    def first(self, count: int, hour: int, change: Change = NO_CHANGE) -> pl.DataFrame:
        """Return the first `count` rows from an hour on."""
        found = self._hour(hour, change)
        while found.height < count:
            hour += 1
            found = pl.concat([found, self._hour(hour, change)])
        return found.head(count)

    def _hour(self, hour: int, change: Change) -> pl.DataFrame:
        """Return the rows of an hour: equal hours and changes, equal rows."""
        arrivals = self._simulation.between(hour * HOUR_S, (hour + 1) * HOUR_S)
        n, rng = arrivals.count, np.random.default_rng([self._seed, 3, hour])
        rows = self._chosen(arrivals, change, rng)
        predicted = self._labels[rows]
        confidence = np.clip(self._confidence[rows] + rng.normal(0.0, 0.02, n), 0.4, 0.99)
        truth = np.where(rng.random(n) < confidence, predicted, (predicted + rng.integers(1, _N_LABELS, n)) % _N_LABELS)
        truth = np.where(rng.random(n) < change.flipped, (truth + rng.integers(1, _N_LABELS, n)) % _N_LABELS, truth)
        scores = np.repeat(((1.0 - confidence) / 2.0)[:, None], _N_LABELS, axis=1)
        scores[np.arange(n), predicted] = confidence
        text = self._written["text"].gather(rows)
        copies = np.flatnonzero(self._of_floods(arrivals))
        if len(copies):
            text = text.scatter(copies, [f"{text[k]}{_COPY}{k}" for k in copies.tolist()])
        segment = self._written["segment"].gather(rows)
        if not change.own_segment:  # those of the new area are in the segment that the user asks about
            segment = pl.Series(self.topics, dtype=pl.String).gather(arrivals.topic)
        told = self._feedback.tell(truth, predicted, rng)
        label = np.where(told.audited, truth, told.labels)
        at = _times(arrivals.at_s)
        known = pl.Series(label >= 0)
        return pl.DataFrame(
            {
                "request_id": [f"{hour:06d}-{k:06d}" for k in range(n)],
                "at": at,
                "unit_hash": [f"{unit:016x}" for unit in arrivals.unit.tolist()],
                "unit_given": [True] * n,
                "segment": segment,
                "text": text,
                "aspect": self._written["aspect"].gather(rows),
                "label": pl.Series(predicted, dtype=pl.Int8),
                "scores": pl.Series(scores.astype(np.float32)).arr.to_list(),
                "model_version": ["1"] * n,
                "arm": ["champion"] * n,
                "shadow": [False] * n,
                "feedback_label": pl.Series(label, dtype=pl.Int8),
                "feedback_at": _times(arrivals.at_s + told.delay_s),
                "feedback_source": pl.Series(np.where(told.audited, "labels", "customers").tolist(), dtype=pl.String),
                "sampling_probability": np.where(told.audited, self._feedback.audit_share, np.nan),
            }
        ).with_columns(
            pl.when(known).then(pl.col("^feedback_.*$")),
            pl.when(known).then(pl.col("sampling_probability").fill_nan(None)),
        )

    def _of_floods(self, arrivals: Arrivals) -> npt.NDArray[np.bool_]:
        floods = [number for number, event in enumerate(self._events) if isinstance(event, Flood)]
        return np.isin(arrivals.event, floods)

    def _chosen(self, arrivals: Arrivals, change: Change, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return the place of each request's row: its topic's, of a drawn label, at the user's taste."""
        _, session = np.unique(arrivals.session, return_inverse=True)
        moved = rng.random(int(session.max(initial=-1)) + 1) < change.new_share
        topic = np.where(moved[session], len(self.topics), arrivals.topic)
        shares = self._label_shares[topic].copy()
        shift = np.clip(arrivals.negative_shift + change.negative_points, -shares[:, 0], shares[:, 2])
        negative, positive = shares[:, 0] + shift, shares[:, 2] - shift
        draw = rng.random(arrivals.count)
        label = np.where(draw < negative, 0, np.where(draw < 1.0 - positive, 1, 2))
        label = np.where(self._of_floods(arrivals), self._label_shares[topic].argmax(axis=1), label)
        rows = np.empty(arrivals.count, dtype=np.int64)
        for t, of_topic in enumerate(self._rows):
            for k, candidates in enumerate(of_topic):
                mine = (topic == t) & (label == k)
                if mine.any() and len(candidates):
                    rows[mine] = candidates[(arrivals.taste[mine] * len(candidates)).astype(np.int64)]
        return rows


class KnownEmbedder:
    """Embeddings of rows with text and aspect, looked up; of a flood's text, those of its row."""

    def __init__(self, rows: pl.DataFrame, embeddings: npt.NDArray[np.float32]) -> None:
        self._place = {pair: k for k, pair in enumerate(rows.select("text", "aspect").rows())}
        self._embeddings = embeddings

    def __call__(self, pairs: Any) -> npt.NDArray[np.float32]:
        """Embeddings (n, d) in the order of the pairs."""
        places = [
            self._place.get((text, aspect), self._place.get((text.rpartition(_COPY)[0], aspect)))
            for text, aspect in pairs
        ]
        return np.asarray(self._embeddings[np.array(places, dtype=np.int64)])


def window_of(start: int, end: int) -> Window:
    """Return the window from an hour to another, counted from Monday, 00:00."""
    return Window(start=MONDAY + timedelta(hours=start), end=MONDAY + timedelta(hours=end))


def known_at(rows: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Return the rows with the feedback that has come before `now`; a later call brings back what comes until then."""
    if "told_at" not in rows.columns:
        rows = rows.with_columns(pl.col(name).alias(told) for name, told in _TOLD.items())
    come = pl.col("told_at") < now
    return rows.with_columns(pl.when(come).then(pl.col(told)).alias(name) for name, told in _TOLD.items())


def _times(seconds: npt.NDArray[np.float64]) -> pl.Series:
    micros = pl.Series((seconds * 1e6).astype(np.int64)).cast(pl.Duration("us"))
    return (micros + MONDAY).cast(pl.Datetime("us", "UTC"))
