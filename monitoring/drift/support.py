"""Support: the share of a window's rows that are like rows of the reference, by the model's embeddings.

A classifier is trained to separate the window's rows from the reference's by their embeddings. It scores rows of units
that it was not trained on. Its score rises with the ratio of both densities (Sugiyama, Suzuki and Kanamori 2012,
'Density ratio estimation in machine learning'). A row that scores above nearly all rows of the reference is unlike the
reference: confidence was never checked on such rows. Distances to the nearest rows separate such rows far worse,
because the last layer puts rows of a new area near known ones.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from monitoring.drift.sample import Bools, Floats, Ints, Sample

MIN_EMBEDDED: Final = 100
_TRUSTED: Final = 0.9
_UNLIKE: Final = 0.05  # share of the reference; a row is unlike it if no larger share scores as high
_RIDGE: Final = 1.0
_FOLDS: Final = 5


@dataclass(frozen=True, kw_only=True)
class Support:
    """Share of a window's rows that are like rows of the reference (0 to 1)."""

    share: float

    @property
    def trusted(self) -> bool:
        """Return True if enough rows are like the reference for an estimate without labels."""
        return self.share >= _TRUSTED


def support_of(reference: Sample, current: Sample) -> Support | None:
    """Return the support of a window; None with fewer than `MIN_EMBEDDED` embedded rows on a side."""
    if reference.embeddings is None or current.embeddings is None:
        return None
    before, now = (np.flatnonzero(np.isfinite(each[:, 0])) for each in (reference.embeddings, current.embeddings))
    if min(len(before), len(now)) < MIN_EMBEDDED:
        return None
    rows = np.vstack([reference.embeddings[before], current.embeddings[now]])
    units = np.concatenate([reference.groups[before], current.groups[now]])
    scores = _scores_of_strangers(rows, np.arange(len(rows)) >= len(before), units)
    limit = np.quantile(scores[: len(before)], 1.0 - _UNLIKE)
    unlike = float((scores[len(before) :] > limit).mean())
    return Support(share=1.0 - max(0.0, (unlike - _UNLIKE) / (1.0 - _UNLIKE)))


def _scores_of_strangers(rows: npt.NDArray[np.float32], is_current: Bools, units: Ints) -> Floats:
    """Return each row's score (n,) by a ridge classifier that was trained without rows of its unit."""
    from scipy.linalg import cho_factor, cho_solve

    rows = rows - rows.mean(axis=0)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    alike = (rows @ rows.T).astype(np.float64)
    alike /= np.trace(alike) / len(rows)
    share = is_current.mean()
    target = np.where(is_current, 1.0 - share, -share) / (share * (1.0 - share))
    fold = np.unique(units, return_inverse=True)[1] % _FOLDS
    scores = np.zeros(len(rows))
    for each in range(_FOLDS):
        held, seen = fold == each, fold != each
        system = alike[np.ix_(seen, seen)]
        np.fill_diagonal(system, system.diagonal() + _RIDGE)
        weights = cho_solve(cho_factor(system, overwrite_a=True), target[seen])
        scores[held] = alike[np.ix_(held, seen)] @ weights
    return scores
