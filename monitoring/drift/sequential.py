"""Detector of a slow loss: an e-detector that adds up labelled answers of all windows.

Each window gives an e-value against the hypothesis that the version is right as often as on its test. E-values are
added up by the rule of Shiryaev and Roberts, R = (R + 1) * e (Shin, Ramdas and Rinaldo 2022, 'E-detectors'). Without a
loss there is on average at most one alarm in 1 / rate windows, for any number and any sizes of windows. This holds for
the units that give labels; the error of the baseline includes how far they may differ from the baseline's units.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Final

import numpy as np

from absa.records.verdict import VersionFigures
from monitoring.drift.sample import Sample

_BETS: Final = (0.05, 0.1, 0.2, 0.4, 0.8)
_REFERENCE_Z: Final = 1.64
_MAX_LOG: Final = 50.0


@dataclass(frozen=True, kw_only=True)
class RightAnswers:
    """Count of a window's labelled answers and of the right ones.

    Requested labels are left out: hard rows are requested more often, and their answers are right less often. Only the
    first label of each unit counts, or of each text if no unit was given: dependent rows are one piece of evidence.
    """

    right: int
    labelled: int

    @classmethod
    def of(cls, sample: Sample) -> "RightAnswers":
        """Count the rows of a sample with an unsolicited label, the first of each group."""
        known = np.flatnonzero((sample.truth >= 0) & ~sample.asked)
        firsts = known[np.unique(sample.groups[known], return_index=True)[1]]
        return cls(right=int((sample.labels[firsts] == sample.truth[firsts]).sum()), labelled=len(firsts))

    def reported(self, ratio: float) -> "RightAnswers":
        """Return the count if wrong answers were reported `ratio` times as often as right ones."""
        right = self.right / max(self.right + ratio * (self.labelled - self.right), 1.0) * self.labelled
        return RightAnswers(right=round(right), labelled=self.labelled)

    @classmethod
    def recorded(cls, figures: VersionFigures | None) -> "RightAnswers | None":
        """Read the count of a verdict record; None if the record has none."""
        if figures is None or figures.right is None:
            return None
        return cls(right=figures.right, labelled=figures.labelled if figures.unasked is None else figures.unasked)


@dataclass(frozen=True, kw_only=True)
class SlowLoss:
    """State of the detector after a window. It alarms once `evidence` reaches 1 / rate."""

    evidence: float = 0.0
    alarm: bool = False


def tolerated_share(reference: RightAnswers, tolerated_loss: float = 0.0, unit_variance: float = 0.0) -> float:
    """Return the share of right answers below which there is a loss: the reference's, less its uncertainty.

    A tolerated loss that is larger than that uncertainty covers it, so only the larger of the two is taken off.
    `unit_variance` is the variance from units that the reference does not have.
    """
    share = (reference.right + 1.0) / (reference.labelled + 2.0)
    uncertain = _REFERENCE_Z * sqrt(share * (1.0 - share) / max(reference.labelled, 1) + unit_variance)
    return share - max(uncertain, tolerated_loss)


def e_value(window: RightAnswers, tolerated: float) -> float:
    """Return one window's evidence that fewer than `tolerated` are right; at most 1 on average if that is false.

    It is a mixture of bets: each label multiplies the stake by 1 + bet * (tolerated - right) (Waudby-Smith and Ramdas
    2024).
    """
    wrong = window.labelled - window.right
    logs = [window.right * log(1.0 + bet * (tolerated - 1.0)) + wrong * log(1.0 + bet * tolerated) for bet in _BETS]
    return float(np.mean([exp(min(value, _MAX_LOG)) for value in logs]))


def detect_slow_loss(
    reference: RightAnswers,
    windows: Iterable[RightAnswers],
    *,
    rate: float = 0.01,
    tolerated_loss: float = 0.0,
    unit_variance: float = 0.0,
) -> list[SlowLoss]:
    """Return the detector after each window, in order of time; windows without labels do not change it.

    Args:
        reference: the version's test or early live labels.
        windows: labelled answers per window since the reference, the oldest first.
        rate: false alarms per window in the long run (on average 1 / rate windows between two of them).
        tolerated_loss: a loss in the share of right answers without an alarm.
        unit_variance: variance of the gap that differences between units cause (`UnitSpread.variance`).
    """
    tolerated = tolerated_share(reference, tolerated_loss, unit_variance)
    evidence = 0.0
    found = []
    for window in windows:
        if window.labelled:
            evidence = min((evidence + 1.0) * e_value(window, tolerated), exp(_MAX_LOG))
        found.append(SlowLoss(evidence=evidence, alarm=evidence >= 1.0 / rate))
    return found
