"""Significance of the difference between two models: paired bootstrap over texts, and Holm's correction.

Rows of the same text are not independent, so whole texts are drawn (Koehn 2004, aclanthology.org/W04-3250, for the
paired bootstrap; Field & Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x, for drawing whole clusters).
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from absa.evaluation.counts import Counts, Labels, confusion_counts, pos_neg_f1_of
from absa.task import N_LABELS

RESAMPLES: Final = 2000
_DRAWS_AT_ONCE: Final = 4_000_000  # numbers in memory at a time (resamples × kinds of clusters, or × counts): 32 MB


@dataclass(frozen=True, kw_only=True)
class Gain:
    """Gain of the candidate over the champion in a metric (a share: 0.01 is one point).

    `low` and `high` are the bounds of the 95 % percentile interval, `se` is the standard error.
    """

    value: float
    low: float
    high: float
    se: float

    def p_worse_than(self, loss: float) -> float:
        """Return the one-sided p-value against 'the candidate loses at most `loss`' (normal approximation).

        A small value means that the candidate loses more than `loss`.
        """
        if self.se == 0:
            return 0.0 if self.value < -loss else 1.0
        return 0.5 * math.erfc(-(self.value + loss) / self.se / math.sqrt(2))


def paired_bootstrap(
    labels: Labels,
    candidate: Labels,
    champion: Labels,
    *,
    clusters: Sequence[Hashable],
    metric: Callable[[Counts], Counts] = pos_neg_f1_of,
    n_labels: int = N_LABELS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Gain:
    """Return the gain of the candidate's predicted labels over the champion's on the same rows.

    Args:
        labels: true labels.
        candidate: labels that the candidate predicted.
        champion: labels that the champion predicted.
        clusters: cluster of each row, normally its text; whole clusters are drawn.
        metric: function from confusion counts (..., n_labels, n_labels) to (...).
        n_labels: number of labels.
        resamples: number of resamples, 1,000 or more.
        seed: equal seeds give equal intervals.

    Raises:
        ValueError: no rows.
    """

    def one(counts: Counts) -> Counts:
        return metric(counts)[..., None]

    (gain,) = paired_bootstraps(
        labels, candidate, champion, clusters=clusters, metrics=one, n_labels=n_labels, resamples=resamples, seed=seed
    )
    return gain


def paired_bootstraps(
    labels: Labels,
    candidate: Labels,
    champion: Labels,
    *,
    clusters: Sequence[Hashable],
    metrics: Callable[[Counts], Counts],
    n_labels: int = N_LABELS,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Gain]:
    """Return the gains of `paired_bootstrap` for k metrics on the same draws; `metrics` returns (..., k)."""
    true, first, second = (np.asarray(each, dtype=np.int64) for each in (labels, candidate, champion))
    if not len(true):
        raise ValueError("a bootstrap needs at least one row")
    cluster = _numbered(clusters)
    n_clusters = int(cluster.max()) + 1
    # Confusion counts add up, so a resample needs only one table per cluster: (clusters, 2 × labels²). Columns that are
    # 0 for both models are left out; with many labels these are most columns.
    n_cells = n_labels * n_labels
    cells = np.concatenate([true * n_labels + first, n_cells + true * n_labels + second])
    occurring, column = np.unique(cells, return_inverse=True)
    table = np.zeros((n_clusters, len(occurring)))
    np.add.at(table, (np.concatenate([cluster, cluster]), column), 1)

    # Clusters with equal tables are interchangeable, so the number of clusters of each kind is drawn.
    table, of_kind = np.unique(table, axis=0, return_counts=True)

    rng = np.random.default_rng(seed)
    gains = []
    at_once = max(1, _DRAWS_AT_ONCE // max(len(table), 2 * n_cells))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = rng.multinomial(n_clusters, of_kind / n_clusters, size=size)  # (size, kinds)
        counts = np.zeros((size, 2 * n_cells))
        counts[:, occurring] = drawn.astype(np.float64) @ table
        summed = counts.reshape(size, 2, n_labels, n_labels)
        gains.append(metrics(summed[:, 0]) - metrics(summed[:, 1]))
    whole = [metrics(confusion_counts(true, each, n_labels=n_labels)) for each in (first, second)]
    drawn_gains = np.ascontiguousarray(np.concatenate(gains).T)  # (metrics, resamples)
    return [_gain(float(value), drawn) for value, drawn in zip(whole[0] - whole[1], drawn_gains, strict=True)]


def _gain(value: float, drawn: Counts) -> Gain:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Gain(value=value, low=float(low), high=float(high), se=float(drawn.std()))


def rules_out(loss: float, low: float) -> bool:
    """Return True if the lower bound of an interval rules out a loss (a share: 0.01 is one point)."""
    return low > -loss


def may_lose(loss: float, *, value: float, low: float, high: float) -> bool:
    """Return True if a slice has enough rows for a decision and does not rule out a loss.

    The rows are enough if the lower half of the interval is narrower than the loss, because equal versions would then
    rule it out. A slice with fewer rows counts if its loss is surely larger.
    """
    return high < -loss or (value - low <= loss and not rules_out(loss, low))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return adjusted p-values that hold for all tests together (Holm 1979), in the order given."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def sign_test(only_candidate: int, only_champion: int) -> float:
    """Return the one-sided exact McNemar p-value; small if the candidate fails more cases than the champion.

    Args:
        only_candidate: number of cases that only the candidate fails.
        only_champion: number of cases that only the champion fails.
    """
    return binomial_tail(only_candidate, only_candidate + only_champion, 0.5)


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """Return P(X >= successes) for X ~ Binomial(trials, share)."""
    from scipy.special import bdtrc  # slow to import

    return float(bdtrc(successes - 1, trials, share)) if successes > 0 else 1.0


def _numbered(clusters: Sequence[Hashable]) -> npt.NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    return np.fromiter((numbers.setdefault(each, len(numbers)) for each in clusters), dtype=np.int64)
