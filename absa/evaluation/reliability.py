"""Calibration error: the distance between confidence and accuracy, and the part of it that is due to chance."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from absa.evaluation.counts import Labels, Scores

CALIBRATION_BINS: Final = 10
_CHANCE_DRAWS: Final = 50


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Rows of similar confidence: their mean confidence, and the share of right answers."""

    rows: int
    confidence: float
    accuracy: float


def reliability(labels: Labels, scores: Scores, bins: int = CALIBRATION_BINS) -> tuple[ReliabilityBin, ...]:
    """Cut rows into bins of equal size by confidence (the highest score), the least confident first.

    Bins have equal size instead of equal width, because a good model is rarely unsure: most bins of equal width would
    be empty.
    """
    confidence = scores.max(axis=1)
    # Rows of equal confidence get their mean accuracy, so that the result does not depend on the order of rows.
    _, tie, of_tie = np.unique(confidence, return_inverse=True, return_counts=True)
    right = (np.bincount(tie, weights=scores.argmax(axis=1) == np.asarray(labels)) / of_tie)[tie]
    return tuple(
        ReliabilityBin(rows=len(part), confidence=float(confidence[part].mean()), accuracy=float(right[part].mean()))
        for part in np.array_split(np.argsort(confidence, kind="stable"), bins)
        if len(part)
    )


def expected_calibration_error(labels: Labels, scores: Scores, bins: int = CALIBRATION_BINS) -> float:
    """Return the mean distance between confidence and accuracy over bins of equal size.

    Nixon et al. 2019, arXiv:1904.01685. The error is larger with few rows: see `calibration_error_by_chance`.
    """
    parts = reliability(labels, scores, bins)
    return sum(part.rows * abs(part.confidence - part.accuracy) for part in parts) / sum(part.rows for part in parts)


def calibration_error_by_chance(scores: Scores, bins: int = CALIBRATION_BINS) -> float:
    """Return the mean calibration error that n perfectly calibrated scores (n, labels) show by chance.

    The result is the mean over labels drawn from the scores (consistency resampling, Broecker & Smith 2007,
    doi:10.1175/WAF993.1). Equal scores give an equal result.

    Raises:
        ValueError: there are no rows.
    """
    if len(scores) == 0:
        raise ValueError("expected rows of scores, got none")
    confidence = np.sort(scores.max(axis=1).astype(np.float64))
    ties = np.flatnonzero(np.diff(confidence, prepend=-1.0))
    of_tie = np.diff(ties, append=len(confidence))
    sizes = [len(part) for part in np.array_split(confidence, bins) if len(part)]
    starts = np.cumsum([0, *sizes[:-1]])
    generator = np.random.default_rng(0)
    errors = []
    for _ in range(_CHANCE_DRAWS):
        right = np.add.reduceat(generator.random(len(confidence)) < confidence, ties, dtype=np.float64)
        gaps = np.add.reduceat(confidence - np.repeat(right / of_tie, of_tie), starts)
        errors.append(np.abs(gaps).sum() / len(confidence))
    return float(np.mean(errors))
