"""Metrics of a model on labelled rows, by scikit-learn. `pos_neg_f1` is the primary one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from absa.evaluation.counts import Labels, Scores
from absa.evaluation.reliability import calibration_error_by_chance, expected_calibration_error
from absa.task import EVALUATED, N_LABELS, Label


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Quality on `rows` rows; every other field is a share.

    `pos_neg_f1` is `f1_score(labels, predicted, labels=[0, 2], average="macro")` over all rows, the neutral ones
    included; labels that are neither true nor predicted count as 0. `f1_by_label` is in label order. `confusion` counts
    true labels as rows and predicted ones as columns. `flip_rate` is the share of rows whose positive was called
    negative or the other way round, the worst of mistakes; `neutral_miss_rate` the share whose positive or negative was
    called neutral. `ece_by_chance` is the calibration error that these scores would show on so many rows if they were
    perfectly calibrated.
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


def evaluate(labels: Labels, scores: Scores) -> Metrics:
    """Measure scores (n, 3) against labels (n).

    Raises:
        ValueError: no rows, or another number of labels than of scores.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, f1_score  # a second to import

    true = np.asarray(labels, dtype=np.int64)
    if len(true) == 0 or scores.shape != (len(true), N_LABELS):
        raise ValueError(f"expected as many rows of scores as labels, got {scores.shape} for {len(true)} labels")
    predicted = scores.argmax(axis=1)
    confusion = confusion_matrix(true, predicted, labels=list(Label))
    by_label = f1_score(true, predicted, labels=list(Label), average=None, zero_division=0)
    negative, neutral, positive = Label
    return Metrics(
        rows=len(true),
        accuracy=float(accuracy_score(true, predicted)),
        macro_f1=float(by_label.mean()),
        pos_neg_f1=float(f1_score(true, predicted, labels=list(EVALUATED), average="macro", zero_division=0)),
        f1_by_label=tuple(float(f1) for f1 in by_label),  # type: ignore[arg-type]
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),  # type: ignore[arg-type]
        ece=expected_calibration_error(true, scores),
        ece_by_chance=calibration_error_by_chance(scores),
        flip_rate=float(confusion[negative, positive] + confusion[positive, negative]) / len(true),
        neutral_miss_rate=float(confusion[negative, neutral] + confusion[positive, neutral]) / len(true),
    )


def one_hot(labels: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Return scores (n, 3) of a model that is sure of these labels."""
    return np.eye(N_LABELS, dtype=np.float32)[np.asarray(labels, dtype=np.int64)]
