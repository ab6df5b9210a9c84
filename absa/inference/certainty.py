"""Certain answers: answers whose score is at least the one that the promise requires for their label.

The gate's report holds the least scores of a version for each promise, see `absa.evaluation.risk_control`.
"""

import json
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any, Final

LeastScores = tuple[float | None, ...]
"""Least score of a certain answer, by label; None: no answer with this label is certain."""

_REPORT: Final = "gate.json"


def read_least_scores(folder: Path, promise: float | None) -> LeastScores | None:
    """Return the least scores that a promise requires of a package's answers.

    Args:
        folder: folder of the package.
        promise: share of right answers among certain ones, rounded up to whole percents; None: no promise.

    Returns:
        A score for each label. None without a promise, or if the package's gate report has no least scores, as in
        packages of earlier releases.
    """
    if promise is None:
        return None
    try:
        found: Any = json.loads((folder / _REPORT).read_bytes())["evidence"]["promises"]["least_scores"]
        scores = found[str(percent_of(promise))]
        return tuple(None if score is None else float(score) for score in scores)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def percent_of(promise: float) -> int:
    """Return a promise in whole percents, rounded up."""
    return ceil(100.0 * promise - 1e-9)


def is_certain(scores: Sequence[float], label: int, least: LeastScores | None) -> bool | None:
    """Return True if an answer is certain; None without a promise."""
    if least is None:
        return None
    needed = least[label]
    return needed is not None and scores[label] >= needed
