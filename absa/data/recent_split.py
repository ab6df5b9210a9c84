"""Split of recent texts, and the number of labels that a retraining needs so that its gate can decide. Pure.

A tenth of all texts is on the test side (`normalise.side`). A text is recent if it was observed only after the
champion's snapshot was taken. A larger share of recent texts is on the test side, because the gate compares versions on
them and a small team has few. These texts are those with the highest points below the validation band, so a smaller
share is a subset of every larger one. If the snapshot of a later champion has the texts, they are no longer recent, and
return to the train side. Texts on the validation side and the other test texts never change their side.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.data.normalise import TRAIN_BELOW, VALIDATION_BELOW
from absa.policies import GatePolicy, StalenessPolicy
from absa.records.schema import iso, parse_iso

COMMON_SHARE: Final = 1.0 - VALIDATION_BELOW  # share of all texts that is on the test side
_LARGEST_SHARE: Final = 0.5  # a retraining must still learn from recent texts
_SOUGHT_GAIN: Final = 0.03  # in the primary metric; a gate with enough rows detects it
_APART: Final = 0.12  # share of rows that candidate and champion answer differently
_POWER: Final = 0.8
_ALPHA: Final = 0.05  # two-sided
_SURE: Final = 0.95  # chance that a retraining with enough labels has enough test rows


def _z_total() -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - _ALPHA / 2) + normal.inv_cdf(_POWER)


def smallest_gain(test_rows: int) -> float:
    """Return the gain (0.03: three points) that the gate detects with 80 % power on `test_rows` recent test rows.

    Assumes that the versions answer 12 % of the rows differently (Connor 1987, first order). Returns 1 without rows.
    """
    return min(1.0, _z_total() * math.sqrt(_APART / test_rows)) if test_rows else 1.0


ENOUGH_ROWS: Final = math.ceil(_APART * (_z_total() / _SOUGHT_GAIN) ** 2)  # test rows on which the gain is detected


def share_tested(texts: int, wanted: int) -> float:
    """Return the share of recent texts to test, 0.1 to 0.5, so that `wanted` texts are tested if possible."""
    return min(_LARGEST_SHARE, max(COMMON_SHARE, wanted / texts)) if texts else COMMON_SHARE


def labels_for_gate(min_recent_rows: int) -> int:
    """Return the number of new labels that gives the gate enough test rows to decide, with 95 % certainty.

    The number is the smallest n with n share - z sqrt(n share (1 - share)) >= `min_recent_rows`, for the largest share.
    """
    spread = NormalDist().inv_cdf(_SURE) * math.sqrt((1 - _LARGEST_SHARE) / _LARGEST_SHARE)
    root = (spread + math.sqrt(spread**2 + 4 * min_recent_rows / _LARGEST_SHARE)) / 2
    return math.ceil(root**2) if min_recent_rows else 0


def labels_needed(staleness: StalenessPolicy, gate: GatePolicy) -> int:
    """Return the number of labels since the champion's snapshot that a retraining and its gate need."""
    return max(staleness.min_new_labels, labels_for_gate(gate.min_recent_rows))


def wanted_rows(min_recent_rows: int) -> int:
    """Return the number of recent test rows to aim for: enough to detect the gain, and for the gate to decide."""
    sure = min_recent_rows + NormalDist().inv_cdf(_SURE) * math.sqrt(min_recent_rows)
    return max(ENOUGH_ROWS, math.ceil(sure))


def expected_test_rows(labels: int, min_recent_rows: int) -> int:
    """Return the expected number of test rows among recent labels."""
    return round(labels * share_tested(labels, wanted_rows(min_recent_rows)))


@dataclass(frozen=True, kw_only=True)
class RecentSplit:
    """Split of the texts that a snapshot has only from times after `since`; part of the manifest.

    Attributes:
        since: time at which the champion's snapshot was taken.
        share: share of these texts that is on the test side, 0.1 to 0.5.
        rows: number of rows of these texts on all sides.
        test_rows: number of rows of these texts on the test side.
    """

    since: datetime
    share: float
    rows: int = 0
    test_rows: int = 0

    def holds_out(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return a mask of the points (n,) of texts that are on the test side only because they are recent."""
        return (points >= VALIDATION_BELOW - self.share) & (points < TRAIN_BELOW)

    def to_json(self) -> dict[str, Any]:
        """Return the values that the manifest keeps."""
        return vars(self) | {"since": iso(self.since)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RecentSplit":
        """Read the values that the manifest keeps; unknown fields are ignored."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return cls(**known | {"since": parse_iso(values["since"])})


@dataclass(frozen=True, kw_only=True)
class RecentRows:
    """Request to test `wanted` of the texts that were observed only after `since`, at most half of these texts."""

    since: datetime
    wanted: int = ENOUGH_ROWS

    def split(self, texts: int) -> RecentSplit:
        """Return the split for `texts` recent texts."""
        return RecentSplit(since=self.since, share=share_tested(texts, self.wanted))
