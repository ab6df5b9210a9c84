"""What is measured of a model on labelled rows. `pos_neg_f1` is the number that counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from absa.task import EVALUATED, N_LABELS, Label

Labels = npt.ArrayLike
Scores = npt.NDArray[np.floating]
Counts = npt.NDArray[np.float64]

CALIBRATION_BINS: Final = 10
_CHANCE_DRAWS: Final = 50


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Quality on `rows` rows; every other field is a share.

    `f1_by_label` is in label order. `confusion` counts true labels as rows and predicted ones as columns. `flip_rate`
    is the share of rows whose positive was called negative or the other way round, the worst of mistakes;
    `neutral_miss_rate` the share whose positive or negative was called neutral. `ece_by_chance` is the calibration
    error that these very scores would show on so many rows if they were right as often as they say.
    """

    rows: int
    accuracy: float
    macro_f1: float
    pos_neg_f1: float
    f1_by_label: tuple[float, float, float]
    confusion: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]]
    ece: float
    ece_by_chance: float
    flip_rate: float
    neutral_miss_rate: float


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Rows of like confidence: their mean confidence, and the share of them that was right."""

    rows: int
    confidence: float
    accuracy: float


def pos_neg_f1(labels: Labels, predicted: Labels) -> float:
    """Mean of the F1 of negative and of positive, over all rows, the neutral ones included.

    As scikit-learn's `f1_score(labels, predicted, labels=[0, 2], average="macro")`; 0 where there is nothing to find.
    """
    return float(pos_neg_f1_of(confusion_counts(labels, predicted)))


def evaluate(labels: Labels, scores: Scores) -> Metrics:
    """Measure scores (n, 3) against labels (n).

    Raises:
        ValueError: no rows, or another number of labels than of scores.
    """
    true = _checked(labels, scores)
    predicted = scores.argmax(axis=1)
    confusion = confusion_counts(true, predicted)
    by_label = f1_of(confusion)
    negative, neutral, positive = Label
    return Metrics(
        rows=len(true),
        accuracy=float(np.trace(confusion)) / len(true),
        macro_f1=float(by_label.mean()),
        pos_neg_f1=float(pos_neg_f1_of(confusion)),
        f1_by_label=(float(by_label[0]), float(by_label[1]), float(by_label[2])),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),  # type: ignore[arg-type]
        ece=expected_calibration_error(true, scores),
        ece_by_chance=calibration_error_by_chance(scores),
        flip_rate=float(confusion[negative, positive] + confusion[positive, negative]) / len(true),
        neutral_miss_rate=float(confusion[negative, neutral] + confusion[positive, neutral]) / len(true),
    )


def reliability(labels: Labels, scores: Scores, bins: int = CALIBRATION_BINS) -> tuple[ReliabilityBin, ...]:
    """Cut rows into bins of equal size by confidence (the highest score), least confident first.

    Bins of equal size rather than width: a good model is rarely unsure, so most bins of equal width are empty.
    """
    true = _checked(labels, scores)
    confidence = scores.max(axis=1)
    # Rows of equal confidence share their accuracy, so that the order of the rows does not decide on their bin.
    _, tie, of_tie = np.unique(confidence, return_inverse=True, return_counts=True)
    right = (np.bincount(tie, weights=scores.argmax(axis=1) == true) / of_tie)[tie]
    return tuple(
        ReliabilityBin(rows=len(part), confidence=float(confidence[part].mean()), accuracy=float(right[part].mean()))
        for part in np.array_split(np.argsort(confidence, kind="stable"), bins)
        if len(part)
    )


def expected_calibration_error(labels: Labels, scores: Scores, bins: int = CALIBRATION_BINS) -> float:
    """Mean distance between confidence and accuracy over bins of equal size (Nixon et al. 2019, arXiv:1904.01685).

    Few rows make it larger: see `calibration_error_by_chance`.
    """
    parts = reliability(labels, scores, bins)
    return sum(part.rows * abs(part.confidence - part.accuracy) for part in parts) / sum(part.rows for part in parts)


def calibration_error_by_chance(scores: Scores, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error that scores (n, 3) have where they are perfectly calibrated, for n is finite.

    The mean over labels drawn from the scores (consistency resampling, Broecker & Smith 2007,
    doi:10.1175/WAF993.1). Equal scores give an equal result.

    Raises:
        ValueError: no rows.
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


def confusion_counts(labels: Labels, predicted: Labels) -> Counts:
    """Counts (3, 3): true labels as rows, predicted ones as columns."""
    true, guessed = np.asarray(labels, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    flat = np.bincount(true * N_LABELS + guessed, minlength=N_LABELS * N_LABELS)
    return flat.reshape(N_LABELS, N_LABELS).astype(np.float64)


def f1_of(confusion: Counts) -> Counts:
    """F1 of each label from confusion counts (..., 3, 3), as (..., 3); 0 where a label is neither there nor guessed."""
    found = np.diagonal(confusion, axis1=-2, axis2=-1)
    involved = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return np.asarray(2 * found / np.maximum(involved, 1.0))


def pos_neg_f1_of(confusion: Counts) -> Counts:
    """As `pos_neg_f1`, from confusion counts (..., 3, 3)."""
    return np.asarray(f1_of(confusion)[..., list(EVALUATED)].mean(axis=-1))


def one_hot(labels: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Scores (n, 3) of a model that is sure of these labels."""
    return np.eye(N_LABELS, dtype=np.float32)[np.asarray(labels, dtype=np.int64)]


def _checked(labels: Labels, scores: Scores) -> npt.NDArray[np.int64]:
    true = np.asarray(labels, dtype=np.int64)
    if len(true) == 0 or scores.shape != (len(true), N_LABELS):
        raise ValueError(f"expected as many rows of scores as labels, got {scores.shape} for {len(true)} labels")
    return true
