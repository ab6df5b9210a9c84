"""Quality of the model in a window: measured from labels, and estimated from calibrated scores.

The figure is the task's primary metric: macro F1 of the evaluated labels over all rows, including rows of other labels.
The estimate is confidence-based performance estimation (CBPE; Garg et al. 2022, and NannyML's form of it): the expected
confusion matrix under the scores. It finds a loss that lowers confidence, and misses concept drift. If labels
contradict the estimate, it is marked as not trusted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import erfc, sqrt
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from absa.evaluation.counts import mean_f1_of
from absa.task import ABSA, TaskSpec
from monitoring.drift.sample import Floats, Ints, Sample
from monitoring.labels.habits import (
    AS_ANSWERED,
    MIN_AUDITED,
    AnswerHabits,
    effective_rows,
    is_right,
    requested,
    unsolicited,
)

_DRAWS: Final = 400
_MAX_ROWS: Final = 10_000
_MAX_BLOCKS: Final = 1_000
MIN_LABELS: Final = 50


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """F1 with its 95 % interval and standard error, all shares (0 to 1), and the number of rows behind it."""

    f1: float
    low: float
    high: float
    standard_error: float
    rows: int


@dataclass(frozen=True, kw_only=True)
class FrozenTest:
    """Test result of a version from its training: counts (labels, labels) of (true, predicted)."""

    confusion: tuple[tuple[float, ...], ...]
    evaluated: tuple[int, ...] = ABSA.evaluated_numbers

    @classmethod
    def from_f1(cls, f1: float, rows: int, task: TaskSpec = ABSA) -> "FrozenTest":
        """Return a balanced substitute for a test of which only F1 and the number of rows are known."""
        k = task.n_labels
        share = np.full((k, k), (1.0 - f1) / (k - 1))
        np.fill_diagonal(share, f1)
        counts = share * rows / k
        return cls(confusion=tuple(map(tuple, counts.tolist())), evaluated=task.evaluated_numbers)

    @property
    def rows(self) -> float:
        """Number of test rows."""
        return float(np.sum(self.confusion))

    @property
    def right(self) -> int:
        """Number of right answers."""
        return round(float(np.trace(self.confusion)))

    def estimate(self, *, seed: int = 0) -> Estimate:
        """Return the test's own F1 with an interval for its number of rows."""
        counts = np.array(self.confusion, dtype=np.float64)
        rng = np.random.default_rng(seed)
        return _multinomial(counts, rows=round(counts.sum()), rng=rng, labels=self.evaluated)


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Loss of F1 against a baseline. `p_value`: one-sided, that the loss is at most `tolerated`.

    `how` names the labels behind the figure, and the reason; empty for an estimate.
    """

    baseline: Estimate
    now: Estimate
    tolerated: float
    loss: float
    low: float
    high: float
    p_value: float
    how: str = ""


def _estimate(value: float, draws: Floats, rows: int) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(
        f1=value,
        low=min(float(low), value),
        high=max(float(high), value),
        standard_error=float(draws.std()),
        rows=rows,
    )


def _multinomial(counts: Floats, *, rows: int, rng: np.random.Generator, labels: Sequence[int]) -> Estimate:
    smoothed = counts.ravel() + 1.0 / counts.size  # a perfect score on few rows is still uncertain
    draws = rng.multinomial(max(rows, 1), smoothed / smoothed.sum(), size=_DRAWS * 5)
    drawn = draws.reshape(-1, *counts.shape).astype(np.float64)
    return _estimate(float(mean_f1_of(counts, labels)), mean_f1_of(drawn, labels), rows)


def measure(
    sample: Sample, *, seed: int = 0, labels: Sequence[int] | None = None, habits: AnswerHabits = AS_ANSWERED
) -> Estimate | None:
    """Return the F1 that the labels show; None without labels.

    With enough requested labels it is the F1 of all answers: each unsolicited label stands for its own row; requested
    labels, weighted by inverse sampling probability, stand for all rows that no customer judged. Otherwise it is the F1
    of the answers that customers judged (`measure_answered`).

    Args:
        sample: rows of which some are labelled.
        seed: seed of the bootstrap.
        labels: numbers of the labels that count; None: the labels that the task evaluates.
        habits: habits of customers, if they are known.
    """
    asked = np.flatnonzero(requested(sample))
    known = np.flatnonzero(unsolicited(sample))
    if effective_rows(sample.weights[asked]) < (MIN_AUDITED if len(known) else 0.0) or len(asked) == 0:
        return measure_answered(sample, seed=seed, labels=labels, habits=habits)
    strata = [_Stratum.of(sample, asked, sample.weights[asked], total=float(sample.rows - len(known)))]
    if len(known):
        strata.append(_Stratum.of(sample, known, np.ones(len(known)), total=float(len(known))))
    return _measured(strata, seed, _counted(sample, labels))


def measure_answered(
    sample: Sample,
    *,
    seed: int = 0,
    labels: Sequence[int] | None = None,
    habits: AnswerHabits = AS_ANSWERED,
    ratio: float | None = None,
) -> Estimate | None:
    """Return the F1 of answers with unsolicited labels; None without any.

    If `habits` know the delays, each label also stands for the late labels like it. If wrong answers are reported
    `ratio` times as often as right ones, it is the F1 of all answers.

    Args:
        sample: rows of which some are labelled.
        seed: seed of the bootstrap.
        labels: numbers of the labels that count; None: the labels that the task evaluates.
        habits: habits of customers.
        ratio: ratio of the report rates, without error; None: the ratio of the habits with its error, 1 if they have
            none.
    """
    known = np.flatnonzero(unsolicited(sample))
    if len(known) == 0:
        return None
    known = known[habits.old_enough(sample.take(known))]
    judged = sample.take(known)
    error = sqrt((habits.log_error if ratio is None else 0.0) ** 2 + habits.arrival_error(judged) ** 2)
    weights = judged.weights / habits.arrived(judged)
    weights = np.where(is_right(judged), weights * (ratio or habits.ratio or 1.0), weights)
    return _measured(
        [_Stratum.of(sample, known, weights, total=float(len(known)), log_error=error)], seed, _counted(sample, labels)
    )


@dataclass(frozen=True, kw_only=True)
class _Stratum:
    """Weighted counts (units, labels²) of (true, predicted), and the number of rows that they stand for.

    `informative` is the number of equally weighted rows with as much information, `log_error` the standard error of the
    logarithm of the weight of right answers.
    """

    members: Ints
    cells: Floats
    total: float
    labelled: int
    informative: float
    log_error: float

    @classmethod
    def of(cls, sample: Sample, index: Ints, weights: Floats, *, total: float, log_error: float = 0.0) -> "_Stratum":
        units, member = np.unique(sample.groups[index], return_inverse=True)
        blocks = np.arange(len(units)) % _MAX_BLOCKS  # units are independent, and so are blocks of them
        k = sample.task.n_labels
        cells = np.zeros((min(len(units), _MAX_BLOCKS), k * k))
        np.add.at(cells, (blocks[member], sample.truth[index] * k + sample.labels[index]), weights)
        return cls(
            members=units,
            cells=cells,
            total=total,
            labelled=len(index),
            informative=effective_rows(weights),
            log_error=log_error,
        )

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return round(sqrt(self.cells.shape[1]))

    def drawn(self, rng: np.random.Generator, *, by_unit: bool) -> Floats:
        """Return bootstrap draws (B, labels, labels) of all rows that the labels stand for."""
        if by_unit:
            blocks = len(self.cells)
            draws = rng.multinomial(blocks, np.full(blocks, 1.0 / blocks), size=_DRAWS) @ self.cells
        else:  # a perfect score on few rows is still uncertain
            size = max(round(self.informative), 1)
            shares = self.cells.sum(axis=0) / self.cells.sum() * size + 1.0 / self.cells.shape[1]
            draws = rng.multinomial(size, shares / shares.sum(), size=_DRAWS * 5).astype(np.float64)
        draws = draws.reshape(-1, self.n_labels, self.n_labels)
        if self.log_error:
            right = np.eye(self.n_labels, dtype=bool)
            draws[:, right] *= np.exp(self.log_error * rng.standard_normal((len(draws), 1)))
        return np.asarray(draws * (self.total / draws.sum(axis=(1, 2), keepdims=True)))


def _measured(strata: Sequence[_Stratum], seed: int, labels: Sequence[int]) -> Estimate:
    """Return the F1 of all strata with the interval of a bootstrap over units, at least as wide as over rows."""
    rng = np.random.default_rng(seed)
    shares = [stratum.cells.sum(axis=0) / stratum.cells.sum() * stratum.total for stratum in strata]
    value = float(mean_f1_of(np.sum(shares, axis=0).reshape(strata[0].n_labels, -1), labels))
    rows = sum(stratum.labelled for stratum in strata)

    def interval(*, by_unit: bool) -> Estimate:
        draws = sum((stratum.drawn(rng, by_unit=by_unit) for stratum in strata), start=np.zeros(()))
        return _estimate(value, mean_f1_of(draws, labels), rows)

    smooth = interval(by_unit=False)
    if all(len(stratum.members) == stratum.labelled for stratum in strata):
        return smooth
    found = interval(by_unit=True)
    return found if found.standard_error >= smooth.standard_error else smooth


def _counted(sample: Sample, labels: Sequence[int] | None) -> Sequence[int]:
    return sample.task.evaluated_numbers if labels is None else labels


def estimate(sample: Sample, *, seed: int = 0, labels: Sequence[int] | None = None) -> Estimate | None:
    """Return the F1 that the scores imply for these rows (CBPE); None for an empty sample.

    If the scores are calibrated, the interval covers the F1 that the labels of these rows would show.
    """
    if sample.rows == 0:
        return None
    labels = _counted(sample, labels)
    rng = np.random.default_rng(seed)
    expected = np.zeros((sample.task.n_labels, sample.task.n_labels))
    np.add.at(expected.T, sample.labels, sample.scores)  # expected[true, predicted]
    kept = sample if sample.rows <= _MAX_ROWS else sample.take(rng.choice(sample.rows, _MAX_ROWS, replace=False))
    draws = _drawn_confusions(kept.labels, kept.scores, rng)
    value = float(mean_f1_of(expected, labels))
    found = _estimate(value, mean_f1_of(draws, labels), sample.rows)
    if kept.rows == sample.rows:
        return found
    shrink = sqrt(kept.rows / sample.rows)
    return Estimate(
        f1=value,
        low=value - (value - found.low) * shrink,
        high=value + (found.high - value) * shrink,
        standard_error=found.standard_error * shrink,
        rows=sample.rows,
    )


def _drawn_confusions(predicted: Ints, scores: Floats, rng: np.random.Generator) -> Floats:
    """Return confusion matrices (B, labels, labels) with every row's label drawn from its scores."""
    bounds = np.cumsum(scores / np.maximum(scores.sum(axis=1, keepdims=True), 1e-12), axis=1)
    k = scores.shape[1]
    confusions = np.zeros((_DRAWS, k, k))
    for column in range(k):
        below = bounds[predicted == column]
        if len(below) == 0:
            continue
        drawn = rng.random((_DRAWS, len(below)), dtype=np.float32)
        up_to = [(drawn < below[:, label]).sum(axis=1) for label in range(k - 1)]
        confusions[:, :, column] = np.diff(np.stack([*up_to, np.full(_DRAWS, len(below))], axis=1), axis=1, prepend=0)
    return confusions


def loss_between(baseline: Estimate, now: Estimate, *, tolerated: float = 0.0, best: Estimate | None = None) -> Loss:
    """Return the loss between two independent figures, with a 95 % interval and a one-sided p-value.

    `best` is the most favourable figure that an unknown bias allows, `now` the least favourable. The interval spans
    both. The p-value is computed from `best`.
    """
    least, most = (baseline.f1 - each.f1 for each in (best or now, now))
    least_error, most_error = (
        max(sqrt(baseline.standard_error**2 + each.standard_error**2), 1e-9) for each in (best or now, now)
    )
    return Loss(
        baseline=baseline,
        now=now,
        tolerated=tolerated,
        loss=most,
        low=least - 1.96 * least_error,
        high=most + 1.96 * most_error,
        p_value=0.5 * erfc((least - tolerated) / least_error / sqrt(2.0)),
    )


@dataclass(frozen=True, kw_only=True)
class BackTest:
    """Comparison of the estimate with labels; `gap` is estimated minus measured F1."""

    trusted: bool
    gap: float
    sentence: str


def back_test(sample: Sample, *, seed: int = 0, labels: Sequence[int] | None = None) -> BackTest | None:
    """Compare the estimate with the labels of the same rows; None under `MIN_LABELS` labels.

    Not trusted if both differ by more than three standard errors: the scores are then not calibrated for this traffic.
    """
    known = np.flatnonzero(sample.truth >= 0)
    if len(known) < MIN_LABELS:
        return None
    # both figures are of these rows alone, so sampling weights do not matter
    labelled = replace(sample.take(known), weights=np.ones(len(known)))
    promised, found = estimate(labelled, seed=seed, labels=labels), measure(labelled, seed=seed, labels=labels)
    assert promised is not None
    assert found is not None
    gap = promised.f1 - found.f1
    error = max(promised.standard_error, found.standard_error, 1e-9)
    trusted = abs(gap) <= 3.0 * error
    verb = "agrees with" if trusted else "is contradicted by"
    return BackTest(
        trusted=trusted,
        gap=gap,
        sentence=(f"The estimate without labels ({promised.f1:.2f}) {verb} {len(known)} labels ({found.f1:.2f})."),
    )


def flip_rate(sample: Sample) -> float | None:
    """Return the share of rows with an evaluated true label that got another evaluated label; None without any."""
    evaluated = sample.task.evaluated_numbers
    decided = np.isin(sample.truth, evaluated)
    if not decided.any():
        return None
    flipped = decided & np.isin(sample.labels, evaluated) & (sample.labels != sample.truth)
    return float(flipped.sum() / decided.sum())


def frozen_test(data: Mapping[str, Any], task: TaskSpec = ABSA) -> FrozenTest:
    """Return a version's frozen test from stored values: a confusion matrix, or F1 and rows.

    A version that knows fewer labels than the task has no rows of the others.

    Raises:
        ValueError: both are missing, or the confusion matrix is not square or larger than the task's.
    """
    if "confusion" in data:
        counts: npt.NDArray[np.float64] = np.asarray(data["confusion"], dtype=np.float64)
        k = task.n_labels
        if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or len(counts) > k:
            raise ValueError(f"confusion: expected a matrix of at most {k} by {k} labels, got {counts.shape}")
        counts = np.pad(counts, (0, k - len(counts)))
        return FrozenTest(confusion=tuple(map(tuple, counts.tolist())), evaluated=task.evaluated_numbers)
    f1 = data.get("f1", data.get("pos_neg_f1"))
    if f1 is not None:
        return FrozenTest.from_f1(float(f1), int(data.get("rows", 500)), task)
    raise ValueError(f"frozen test: expected confusion, or f1 and rows, got {', '.join(sorted(data)) or 'nothing'}")
