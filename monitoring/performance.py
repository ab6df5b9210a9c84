"""Quality of the model in a window: measured where labels came back, estimated from calibrated scores where not.

The figure is `pos_neg_f1`: macro F1 of the negative and the positive class over all rows, the neutral ones included.
The estimate is confidence-based performance estimation (CBPE; Garg et al. 2022, and NannyML's form of it): the expected
confusion matrix under the scores. It sees a loss that shows in confidence, and is blind to a change of concept: where
labels contradict it, it is marked as not to be trusted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import erfc, sqrt
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.evaluation.counts import confusion_counts, pos_neg_f1_of
from absa.task import EVALUATED, N_LABELS
from monitoring.drift.sample import Floats, Ints, Sample

_DRAWS: Final = 400
_MAX_ROWS: Final = 10_000
MIN_LABELS: Final = 50


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A pos/neg F1 with its 95 % interval and standard error, all shares, and the rows behind it."""

    pos_neg_f1: float
    low: float
    high: float
    standard_error: float
    rows: int


@dataclass(frozen=True, kw_only=True)
class FrozenTest:
    """Test result of a version when it was trained: counts of (true, predicted), 3 by 3."""

    confusion: tuple[tuple[float, ...], ...]

    @classmethod
    def from_f1(cls, pos_neg_f1: float, rows: int) -> "FrozenTest":
        """Return the test of a version of which only F1 and the number of rows are known: a balanced stand-in."""
        share = np.full((N_LABELS, N_LABELS), (1.0 - pos_neg_f1) / 2.0)
        np.fill_diagonal(share, pos_neg_f1)
        return cls(confusion=tuple(tuple(float(x) for x in row) for row in share * rows / N_LABELS))

    @property
    def rows(self) -> float:
        """Number of test rows."""
        return float(np.sum(self.confusion))

    @property
    def right(self) -> int:
        """Number of right answers."""
        return round(float(np.trace(self.confusion)))

    def estimate(self, *, seed: int = 0) -> Estimate:
        """Return the test's own pos/neg F1 with the uncertainty of its size."""
        counts = np.array(self.confusion, dtype=np.float64)
        return _multinomial(counts, rows=round(counts.sum()), rng=np.random.default_rng(seed))


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Loss of pos/neg F1 against a baseline. `p_value`: one-sided, that the loss is at most `tolerated`."""

    baseline: Estimate
    now: Estimate
    tolerated: float
    loss: float
    low: float
    high: float
    p_value: float


def _estimate(value: float, draws: Floats, rows: int) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(
        pos_neg_f1=value,
        low=min(float(low), value),
        high=max(float(high), value),
        standard_error=float(draws.std()),
        rows=rows,
    )


def _multinomial(counts: Floats, *, rows: int, rng: np.random.Generator, labels: Sequence[int] = EVALUATED) -> Estimate:
    smoothed = counts.ravel() + 1.0 / N_LABELS**2  # a perfect score on few rows is still uncertain
    draws = rng.multinomial(max(rows, 1), smoothed / smoothed.sum(), size=_DRAWS * 5)
    drawn = draws.reshape(-1, N_LABELS, N_LABELS).astype(np.float64)
    return _estimate(float(pos_neg_f1_of(counts, labels)), pos_neg_f1_of(drawn, labels), rows)


def measure(sample: Sample, *, seed: int = 0, labels: Sequence[int] = EVALUATED) -> Estimate | None:
    """Return the F1 that the labels show, weighted by inverse sampling probability; None without labels.

    `labels` are the classes that count: both, or one for that class's F1.
    The interval is a bootstrap over groups where units sent several requests, over rows elsewhere.
    """
    known = np.flatnonzero(sample.truth >= 0)
    if len(known) == 0:
        return None
    truth, predicted, weights = sample.truth[known], sample.labels[known], sample.weights[known]
    counts = confusion_counts(truth, predicted, weights)
    rng = np.random.default_rng(seed)
    groups, member = np.unique(sample.groups[known], return_inverse=True)
    if len(groups) == len(known) and np.ptp(weights) == 0.0:
        return _multinomial(counts / weights[0], rows=len(known), rng=rng, labels=labels)
    cells = np.zeros((len(groups), N_LABELS**2))
    np.add.at(cells, (member, truth * N_LABELS + predicted), weights)
    drawn = rng.multinomial(len(groups), np.full(len(groups), 1.0 / len(groups)), size=_DRAWS)  # (B, groups)
    draws = pos_neg_f1_of((drawn @ cells).reshape(-1, N_LABELS, N_LABELS), labels)
    smooth = _multinomial(counts * (len(known) / counts.sum()), rows=len(known), rng=rng, labels=labels)
    found = _estimate(float(pos_neg_f1_of(counts, labels)), draws, len(known))
    # with few groups the bootstrap can collapse; it is never narrower than independent rows would be
    return found if found.standard_error >= smooth.standard_error else smooth


def estimate(sample: Sample, *, seed: int = 0, labels: Sequence[int] = EVALUATED) -> Estimate | None:
    """Return the F1 that the scores promise for these rows (CBPE); None for an empty sample.

    The interval spans what the labels of just these rows may turn out to be, if the scores are calibrated.
    """
    if sample.rows == 0:
        return None
    rng = np.random.default_rng(seed)
    expected = np.zeros((N_LABELS, N_LABELS))
    np.add.at(expected.T, sample.labels, sample.scores)  # expected[true, predicted]
    kept = sample if sample.rows <= _MAX_ROWS else sample.take(rng.choice(sample.rows, _MAX_ROWS, replace=False))
    draws = _drawn_confusions(kept.labels, kept.scores, rng)
    value = float(pos_neg_f1_of(expected, labels))
    found = _estimate(value, pos_neg_f1_of(draws, labels), sample.rows)
    if kept.rows == sample.rows:
        return found
    shrink = sqrt(kept.rows / sample.rows)
    return Estimate(
        pos_neg_f1=value,
        low=value - (value - found.low) * shrink,
        high=value + (found.high - value) * shrink,
        standard_error=found.standard_error * shrink,
        rows=sample.rows,
    )


def _drawn_confusions(predicted: Ints, scores: Floats, rng: np.random.Generator) -> Floats:
    """Confusion matrices (B, 3, 3) with every row's label drawn from its scores."""
    bounds = np.cumsum(scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12), axis=1)
    confusions = np.zeros((_DRAWS, N_LABELS, N_LABELS))
    for column in range(N_LABELS):
        below = bounds[predicted == column]
        if len(below) == 0:
            continue
        drawn = rng.random((_DRAWS, len(below)), dtype=np.float32)
        first = (drawn < below[:, 0]).sum(axis=1)
        second = (drawn < below[:, 1]).sum(axis=1)
        confusions[:, :, column] = np.stack([first, second - first, len(below) - second], axis=1)
    return confusions


def loss_between(baseline: Estimate, now: Estimate, *, tolerated: float = 0.0) -> Loss:
    """Return the loss between two independent figures, with a 95 % interval and a one-sided p-value."""
    loss = baseline.pos_neg_f1 - now.pos_neg_f1
    error = max(sqrt(baseline.standard_error**2 + now.standard_error**2), 1e-9)
    return Loss(
        baseline=baseline,
        now=now,
        tolerated=tolerated,
        loss=loss,
        low=loss - 1.96 * error,
        high=loss + 1.96 * error,
        p_value=0.5 * erfc((loss - tolerated) / error / sqrt(2.0)),
    )


@dataclass(frozen=True, kw_only=True)
class BackTest:
    """Comparison of estimate and labels. `sentence` states it in words."""

    trusted: bool
    gap: float
    sentence: str


def back_test(sample: Sample, *, seed: int = 0, labels: Sequence[int] = EVALUATED) -> BackTest | None:
    """Hold the estimate against the labels of the same rows; None under `MIN_LABELS` labels.

    Not trusted where the measured F1 lies outside the estimate's 95 % interval for the labelled rows by more than the
    tail of chance (z above 3): the scores are then not calibrated for this traffic.
    """
    known = np.flatnonzero(sample.truth >= 0)
    if len(known) < MIN_LABELS:
        return None
    # of just these rows, however they were chosen: sampling weights have no part in it
    labelled = replace(sample.take(known), weights=np.ones(len(known)))
    promised, found = estimate(labelled, seed=seed, labels=labels), measure(labelled, seed=seed, labels=labels)
    assert promised is not None
    assert found is not None
    gap = promised.pos_neg_f1 - found.pos_neg_f1
    error = max(promised.standard_error, found.standard_error, 1e-9)
    trusted = abs(gap) <= 3.0 * error
    verb = "agrees with" if trusted else "is contradicted by"
    return BackTest(
        trusted=trusted,
        gap=gap,
        sentence=(
            f"The estimate without labels ({promised.pos_neg_f1:.2f}) {verb} {len(known)} labels "
            f"({found.pos_neg_f1:.2f})."
        ),
    )


def flip_rate(sample: Sample) -> float | None:
    """Share of rows whose truth is positive or negative and that were answered with the other of the two."""
    decided = np.isin(sample.truth, EVALUATED)
    if not decided.any():
        return None
    flipped = decided & (sample.labels == EVALUATED[0] + EVALUATED[1] - sample.truth)
    return float(flipped.sum() / decided.sum())


def frozen_test(data: Mapping[str, Any]) -> FrozenTest:
    """Return a version's frozen test result from what the gate or the registry kept: a confusion, or F1 and rows.

    Raises:
        ValueError: neither is there, or the confusion is not 3 by 3.
    """
    if "confusion" in data:
        counts: npt.NDArray[np.float64] = np.asarray(data["confusion"], dtype=np.float64)
        if counts.shape != (N_LABELS, N_LABELS):
            raise ValueError(f"a confusion matrix is 3 by 3, got {counts.shape}")
        return FrozenTest(confusion=tuple(tuple(float(x) for x in row) for row in counts))
    if "pos_neg_f1" in data:
        return FrozenTest.from_f1(float(data["pos_neg_f1"]), int(data.get("rows", 500)))
    raise ValueError("a frozen test result needs confusion, or pos_neg_f1 with rows")
