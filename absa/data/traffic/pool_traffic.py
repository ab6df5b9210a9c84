"""Customers, simulated: an endless seeded stream of requests with drift and delayed feedback that are known exactly.

Texts come from a pool of hand-written (or a user's held-back) rows. A request asks about one row, as it was written
the first time, later with a mild variation, or with a second row of the same segment joined to it: the label of the
aspect that is asked about stays known, because the aspect is in its own part only. No text is served twice, and
none whose near-duplicate key the caller has named (what was ingested) is served at all.

Without drift the stream is stationary: rows are drawn uniformly from the pool, and the share of joined texts is the
same, from the first request to the last.
"""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final

from absa.data.normalise import side_key
from absa.data.traffic.feedback_habits import FeedbackHabits
from absa.data.traffic.known_drift import Drift, Swaps
from absa.data.traffic.phrasing import joined_text, noisy_text, swapped_text, varied_text
from absa.data.traffic.row_pool import LabelledRow, RowPool
from absa.inference.aspect_span import has_aspect

_ATTEMPTS_A_LEVEL: Final = 25


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulatedRequest:
    """Request of one customer and the feedback on its answer.

    `feedback_label` is None where the customer gives no feedback, and may be wrong; `feedback_only_if_wrong`: the
    customer gives none on a right answer; `feedback_delay_s` counts from the answer; `feedback_copies` is how often
    it is sent (2 or more: duplicates). `number` counts from 0. `drifted` names
    which parts of the drift took hold of this request.
    """

    number: int
    text: str
    aspect: str
    true_label: int
    unit_id: str
    segment: str | None
    feedback_label: int | None
    feedback_delay_s: float
    feedback_copies: int = 1
    feedback_only_if_wrong: bool = False
    drifted: tuple[str, ...] = ()


class PoolTraffic:
    """The one traffic source: a pool, a new area's pool, accounts, drift and feedback.

    Args:
        pool: rows of the areas that are known.
        new_area: rows that `Drift.new_area_share` draws from.
        seed: equal seed, pools and calls give an equal stream.
        drift: active from the first request; `switch` changes it later.
        feedback: how customers tell what was right.
        avoid: side keys of texts that must not be served.
        units: how many accounts; activity follows Zipf's law, and four in five requests of an account are about the
            segment that is its own.
        composed_share: share of the requests that join two rows.

    Raises:
        ValueError: the pool is empty, or drift asks for a new area where there is none.
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
        units: int = 300,
        composed_share: float = 0.3,
    ) -> None:
        if not pool:
            raise ValueError("the pool of a traffic source holds no rows")
        self._pool, self._new_area = RowPool(pool), RowPool(new_area)
        self._drift: Drift | None = None
        self._drift_from = 0
        self._feedback = feedback or FeedbackHabits()
        self._avoid = avoid
        self._composed_share = composed_share
        self._served: set[int] = set()
        self._number = 0
        # separate generators: how customers tell leaves what they ask as it was
        self._rows, self._typing, self._accounts, self._told, self._drifting = (
            random.Random(f"{seed}/{name}") for name in ("rows", "typing", "accounts", "feedback", "drift")
        )
        segments = sorted({row.segment or "" for row in (*pool, *new_area)})
        self._units = [f"acct-{n:04d}" for n in range(units)]
        self._activity: Mapping[str, tuple[list[str], list[float]]] = _activity(
            self._units, segments, random.Random(f"{seed}/units")
        )
        if drift is not None:
            self.switch(drift)

    def __iter__(self) -> "PoolTraffic":
        return self

    def switch(self, drift: Drift | None) -> None:
        """Activate a drift from the next request on: its starts_at counts from there.

        Raises:
            ValueError: it asks for a new area and the source has none.
        """
        if drift is not None and drift.new_area_share > 0 and not self._new_area.rows:
            raise ValueError("the drift asks for a new area, and this source has no rows of one")
        self._drift, self._drift_from = drift, self._number

    def __next__(self) -> SimulatedRequest:
        number = self._number
        strength = self._drift.strength(number - self._drift_from) if self._drift else 0.0
        drift = self._drift or Drift()
        happened: list[str] = []
        dice = [self._drifting.random() for _ in range(3)]
        pool = self._pool
        if dice[0] < drift.new_area_share * strength:
            pool = self._new_area
            happened.append("new_area")
        shares: Sequence[float] = pool.label_shares
        if drift.class_shares is not None and strength:
            goal = drift.class_shares
            shares = [(1 - strength) * a + strength * b for a, b in zip(shares, goal, strict=True)]
            happened.append("class_shares")
        swaps = drift.vocabulary if dice[1] < drift.vocabulary_share * strength else ()
        noisy = dice[2] < drift.noise_share * strength
        row, text, swapped = self._fresh_text(pool, shares, swaps, noisy)
        label = row.label
        # a concept change ramps by aspect: the share of the aspects that have changed grows
        if strength and replace(drift, concept_share=drift.concept_share * strength).flips(row.aspect) and label != 1:
            label = 2 - label
            happened.append("concept")
        happened += ["vocabulary"] * swapped + ["noise"] * noisy
        self._number += 1
        units, weights = self._activity[row.segment or ""]
        said = self._feedback.say(label, self._told)
        return SimulatedRequest(
            number=number,
            text=text,
            aspect=row.aspect,
            true_label=label,
            unit_id=self._accounts.choices(units, cum_weights=weights)[0],
            segment=row.segment,
            feedback_label=said.label,
            feedback_delay_s=said.delay_s,
            feedback_copies=said.copies,
            feedback_only_if_wrong=said.only_if_wrong,
            drifted=tuple(happened),
        )

    def _fresh_text(
        self, pool: RowPool, shares: Sequence[float], swaps: Swaps, noisy: bool
    ) -> tuple[LabelledRow, str, bool]:
        """Return a row, an unseen text about its aspect, and True if a swap was made."""
        joined = self._typing.random() < self._composed_share
        row = pool.draw(self._rows, shares)
        attempt = 0
        while True:
            level = attempt // _ATTEMPTS_A_LEVEL  # the more was served already, the more is joined and varied
            text = row.text
            for _ in range(int(joined) + level):
                text = joined_text(text, row.aspect, pool.by_segment[row.segment], self._typing)
            if attempt or (row in pool.served and not joined):
                for _ in range(1 + level):
                    text = varied_text(text, row.aspect, self._typing)
            before = text
            text = swapped_text(text, row.aspect, swaps)
            swapped = text != before
            if noisy:
                text = noisy_text(text, row.aspect, self._drifting)
            key = side_key(text)
            if key not in self._served and key not in self._avoid and has_aspect(text, row.aspect):
                self._served.add(key)
                pool.served.add(row)
                return row, text, swapped
            attempt += 1


def _activity(
    units: Sequence[str], segments: Sequence[str], random_: random.Random
) -> dict[str, tuple[list[str], list[float]]]:
    """Return a segment's accounts with cumulated weights: Zipf's law, and four fifths from accounts whose own it is."""
    own = {unit: random_.choice(segments) for unit in units}
    zipf = {unit: 1 / (rank + 1) for rank, unit in enumerate(random_.sample(units, len(units)))}
    table = {}
    for segment in segments:
        inside = sum(zipf[unit] for unit in units if own[unit] == segment) or 1.0
        outside = sum(zipf[unit] for unit in units if own[unit] != segment) or 1.0
        weights = [0.8 * zipf[unit] / inside if own[unit] == segment else 0.2 * zipf[unit] / outside for unit in units]
        table[segment] = (list(units), list(accumulate(weights)))
    return table
