"""Simulated customers: an endless seeded stream of requests whose drift and delayed feedback are known exactly.

Texts come from a pool of hand-written rows, or of a user's held-back rows. The first request of a row uses the row as
written. Later requests use a mild variation, or join the row with a second row of the same segment. The label stays
known, because only the first row names the aspect. No text is sent twice. A text with a near-duplicate key in `avoid`,
such as an ingested text, is never sent.

Without drift the stream is stationary, unless the population has cycles, growth or events. Users return with their own
topics, rows of a topic and label are drawn uniformly, and the share of joined texts is constant.
"""

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from absa.data.normalise import side_key
from absa.data.traffic.arrivals import Simulation
from absa.data.traffic.feedback_habits import FeedbackHabits
from absa.data.traffic.known_drift import Drift, Swaps
from absa.data.traffic.phrasing import joined_text, noisy_text, swapped_text, varied_text
from absa.data.traffic.population import Flood, Population, Sessions, Users
from absa.data.traffic.row_pool import LabelledRow, RowPool
from absa.inference.aspect_span import has_aspect
from absa.task import ABSA, TaskSpec

RETURNING: Final = Population(users=Users(count=300), sessions=Sessions())
_ATTEMPTS_A_LEVEL: Final = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedRequest:
    """Request of one customer, and the feedback on its answer.

    `feedback_label` may be wrong; it is None if the customer gives no feedback. If `feedback_only_if_wrong` is True, a
    right answer gets no feedback. `feedback_delay_s` counts from the answer. `number` counts from 0. `drifted` names
    the parts of the drift that changed this request. `at_s` is the simulated time in seconds from a Monday, 00:00; the
    sender may use another pace.
    """

    number: int
    text: str
    aspect: str | None
    true_label: int
    unit_id: str
    segment: str | None
    feedback_label: int | None
    feedback_delay_s: float
    feedback_only_if_wrong: bool = False
    drifted: tuple[str, ...] = ()
    at_s: float = 0.0


class PoolTraffic:
    """Source of simulated traffic: a pool, the pool of a new area, accounts, drift and feedback.

    Args:
        pool: rows of the known areas.
        new_area: rows that `Drift.new_area_share` draws from.
        seed: equal seed, pools and calls give an equal stream.
        drift: active from the first request; `switch` changes it later.
        feedback: habits of the customers who give feedback.
        avoid: side keys of texts that must not be sent.
        population: accounts and their habits; by default 300 accounts that return, with sessions. A topic is a segment
            of the pool.
        composed_share: share of the requests that join two rows; 0 if labels are not about aspects.
        task: task of the rows.

    Raises:
        ValueError: the pool is empty, or the drift needs a new area that is missing, or has another number of labels.
    """

    def __init__(
        self,
        pool: Sequence[LabelledRow],
        new_area: Sequence[LabelledRow] = (),
        *,
        seed: int = 0,
        drift: Drift | None = None,
        feedback: FeedbackHabits | None = None,
        avoid: Collection[int] = frozenset(),
        population: Population = RETURNING,
        composed_share: float = 0.3,
        task: TaskSpec = ABSA,
    ) -> None:
        if not pool:
            raise ValueError("the pool of a traffic source holds no rows")
        self._pool, self._new_area = RowPool(pool, task.n_labels), RowPool(new_area, task.n_labels)
        self._drift: Drift | None = None
        self._drift_from = 0
        self._feedback = feedback or FeedbackHabits()
        self._avoid = avoid
        self._task, self._spans = task, task.phrase == "aspect"
        self._composed_share = composed_share if self._spans else 0.0
        self._served: set[int] = set()
        self._number = 0
        # separate generators, so that a change of feedback habits does not change the requests
        self._rows, self._typing, self._told, self._drifting = (
            random.Random(f"{seed}/{name}") for name in ("rows", "typing", "feedback", "drift")
        )
        self._segments = sorted(self._pool.by_segment, key=lambda segment: segment or "")
        topic_shares = [len(self._pool.by_segment[segment]) / len(pool) for segment in self._segments]
        seed_of_units = self._rows.getrandbits(32)
        self._visits = _visits(Simulation(population, topic_shares, seed=seed_of_units))
        self._flooded: dict[int, LabelledRow] = {}  # the row that each flood writes about
        if drift is not None:
            self.switch(drift)

    def __iter__(self) -> "PoolTraffic":
        return self

    def switch(self, drift: Drift | None) -> None:
        """Activate a drift from the next request on; its `starts_at` counts from this request.

        Raises:
            ValueError: the drift needs a new area, and this source has none.
        """
        if drift is not None and drift.new_area_share > 0 and not self._new_area.rows:
            raise ValueError("the drift needs a new area, and this source has no rows of one")
        if drift is not None and drift.class_shares is not None and len(drift.class_shares) != self._task.n_labels:
            raise ValueError(f"class_shares: expected {self._task.n_labels} shares, got {len(drift.class_shares)}")
        self._drift, self._drift_from = drift, self._number

    def __next__(self) -> SimulatedRequest:
        number, visit = self._number, next(self._visits)
        strength = self._drift.strength(number - self._drift_from) if self._drift else 0.0
        drift = self._drift or Drift()
        happened: list[str] = []
        dice = [self._drifting.random() for _ in range(3)]
        pool, segment = self._pool, self._segments[visit.topic]
        if dice[0] < drift.new_area_share * strength:
            pool = self._new_area
            segment = self._drifting.choice(pool.rows).segment
            happened.append("new_area")
        shares: Sequence[float] = pool.label_shares(segment)
        if drift.class_shares is not None and strength:
            goal = drift.class_shares
            shares = [(1 - strength) * a + strength * b for a, b in zip(shares, goal, strict=True)]
            happened.append("class_shares")
        shift = min(max(visit.negative_shift, -shares[0]), shares[-1])
        row = pool.draw(self._rows, segment, (shares[0] + shift, *shares[1:-1], shares[-1] - shift))
        joined = self._typing.random() < self._composed_share
        if visit.flood is not None:
            row, joined = self._flooded.setdefault(visit.flood, row), False
        swaps = drift.vocabulary if dice[1] < drift.vocabulary_share * strength else ()
        noisy = dice[2] < drift.noise_share * strength
        text, swapped = self._fresh_text(pool, row, joined, swaps, noisy)
        # a concept change ramps by aspect: the share of the aspects that have changed grows
        concept = replace(drift, concept_share=drift.concept_share * strength)
        label = self._changed(row, concept) if strength else row.label
        if label != row.label:
            happened.append("concept")
        happened += ["vocabulary"] * swapped + ["noise"] * noisy
        self._number += 1
        said = self._feedback.say(label, self._told, n_labels=self._task.n_labels)
        return SimulatedRequest(
            number=number,
            text=text,
            aspect=row.aspect,
            true_label=label,
            unit_id=f"acct-{visit.unit:04d}",
            segment=row.segment,
            feedback_label=said.label,
            feedback_delay_s=said.delay_s,
            feedback_only_if_wrong=said.only_if_wrong,
            drifted=tuple(happened),
            at_s=visit.at_s,
        )

    def _changed(self, row: LabelledRow, drift: Drift) -> int:
        """Return a row's label after a concept change."""
        if row.aspect is None:
            renamed = drift.flips(self._task.labels[row.label])
            return (row.label + 1) % self._task.n_labels if renamed else row.label
        return self._task.n_labels - 1 - row.label if drift.flips(row.aspect) else row.label

    def _fresh_text(self, pool: RowPool, row: LabelledRow, joined: bool, swaps: Swaps, noisy: bool) -> tuple[str, bool]:
        """Return a text on the row's aspect that was not sent before, and True if a swap was made."""
        attempt = 0
        while True:
            level = attempt // _ATTEMPTS_A_LEVEL  # after many attempts, texts are joined and varied more
            text = row.text
            for _ in range(int(joined) + level if self._spans else 0):
                text = joined_text(text, str(row.aspect), pool.by_segment[row.segment], self._typing)
            if attempt or (row in pool.served and not joined):
                for _ in range(1 + level):
                    text = varied_text(text, row.aspect, self._typing)
            before = text
            text = swapped_text(text, row.aspect, swaps)
            swapped = text != before
            if noisy:
                text = noisy_text(text, row.aspect, self._drifting)
            key = side_key(text)
            if key not in self._served and key not in self._avoid and self._keeps_aspect(text, row):
                self._served.add(key)
                pool.served.add(row)
                return text, swapped
            attempt += 1

    def _keeps_aspect(self, text: str, row: LabelledRow) -> bool:
        return not self._spans or row.aspect is None or has_aspect(text, row.aspect)


@dataclass(frozen=True, slots=True)
class _Visit:
    """One request of the population; `flood` is the number of its flood, or None."""

    at_s: float
    unit: int
    topic: int
    negative_shift: float
    flood: int | None


def _visits(simulation: Simulation) -> Iterator[_Visit]:
    floods = {n for n, event in enumerate(simulation.population.events) if isinstance(event, Flood)}
    for hour in simulation:
        columns = (hour.at_s, hour.unit, hour.topic, hour.negative_shift, hour.event)
        for at_s, unit, topic, shift, event in zip(*(column.tolist() for column in columns), strict=True):
            yield _Visit(at_s, unit, topic, shift, event if event in floods else None)
