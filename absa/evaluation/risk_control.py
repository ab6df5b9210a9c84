"""Risk control: least scores above which answers are right as often as promised, from held-out rows.

The method is Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei 2021, https://arxiv.org/abs/2110.01052) with
fixed-sequence testing. For each label, one threshold after the other is tested with the exact binomial tail (Clopper
and Pearson 1934). The null hypothesis is that fewer answers are right than promised. The order of the tests depends on
the scores alone, never on the true labels.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.evaluation.counts import Labels, Scores

CONFIDENCE: Final = 0.9
PERCENTS: Final = range(70, 100)
_LEVELS: Final = np.arange(999, 0, -2) / 1000.0  # scores to test, the highest first


@dataclass(frozen=True, kw_only=True)
class Promises:
    """Least scores by promise in percent, each a list by label. A score is None if the rows do not show the promise.

    `rows` is the number of held-out rows. `confidence` is the probability (0 to 1) that all labels keep one promise on
    rows of the same distribution.
    """

    rows: int
    confidence: float
    least_scores: dict[str, list[float | None]]


def control_risk(
    scores: Scores, labels: Labels, *, confidence: float = CONFIDENCE, percents: Iterable[int] = PERCENTS
) -> Promises:
    """Find the least scores for every promise.

    Args:
        scores: calibrated probabilities (n, labels) of rows that neither trained nor calibrated the model.
        labels: true labels (n,).
        confidence: probability that all labels together keep one promise, 0 to 1.
        percents: promises in percent.
    """
    n_labels = scores.shape[1]
    guesses, top = scores.argmax(axis=1), scores.max(axis=1).astype(np.float64)
    right = guesses == np.asarray(labels)
    error = (1.0 - confidence) / n_labels
    counts = [_counts(top[guesses == label], right[guesses == label]) for label in range(n_labels)]
    return Promises(
        rows=len(guesses),
        confidence=confidence,
        least_scores={str(p): [_least_score(*each, p / 100.0, error) for each in counts] for p in percents},
    )


def _counts(
    top: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the numbers of answers at or above each level, of right ones, and of those expected to be right."""
    order = np.argsort(-top, kind="stable")
    answers = np.searchsorted(-top[order], -_LEVELS, side="right")
    sums = (np.concatenate([[0.0], np.cumsum(each[order])]) for each in (right.astype(np.float64), top))
    rightly, expected = (each[answers] for each in sums)
    return answers, rightly, expected


def _least_score(
    answers: npt.NDArray[Any], right: npt.NDArray[Any], expected: npt.NDArray[Any], promise: float, error: float
) -> float | None:
    """Test levels downwards until one fails; the first level is the most likely to pass according to the scores."""
    from scipy.special import bdtrc  # slow to import

    def tail(hits: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return P(X >= hits) for X ~ Binomial(answers, promise)."""
        return np.where(hits > 0, bdtrc(np.maximum(hits - 1.0, 0.0), np.maximum(answers, 1), promise), 1.0)

    start = int(np.argmin(tail(np.floor(expected))))
    passed = tail(right)[start:] <= error
    count = int(np.argmin(passed)) if not passed.all() else len(passed)
    return float(_LEVELS[start + count - 1]) if count else None
