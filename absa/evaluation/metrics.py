"""Metrics of a model on labelled rows, by scikit-learn. `f1` is the primary one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from absa.evaluation.counts import Labels, Scores
from absa.evaluation.reliability import calibration_error_by_chance, expected_calibration_error
from absa.task import ABSA, N_LABELS, Label, TaskSpec

OF_DEFAULT_TASK: Final = ("pos_neg_f1", "flip_rate", "neutral_miss_rate")
"""Fields of `Metrics` that only the default task has."""


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Quality on `rows` rows; every other field is a share.

    `f1` is `f1_score(labels, predicted, labels=evaluated, average="macro")` over all rows, where `evaluated` are the
    task's evaluated labels; labels that are neither true nor predicted count as 0. `f1_by_label` is in label order.
    `confusion` has true labels as rows and predicted labels as columns. `ece_by_chance` is the calibration error that
    these scores would show on `rows` rows if they were perfectly calibrated.

    Only the default task has the other fields: `pos_neg_f1` repeats `f1`. `flip_rate` is the share of rows whose label
    positive was predicted as negative or the other way round, the worst mistakes. `neutral_miss_rate` is the share of
    rows whose label positive or negative was predicted as neutral.
    """

    rows: int
    accuracy: float
    macro_f1: float
    f1: float
    f1_by_label: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    ece: float
    ece_by_chance: float
    pos_neg_f1: float | None = None
    flip_rate: float | None = None
    neutral_miss_rate: float | None = None


def evaluate(labels: Labels, scores: Scores, task: TaskSpec = ABSA) -> Metrics:
    """Measure scores (n, labels) against labels (n).

    Raises:
        ValueError: there are no rows, or the numbers of labels and scores differ.
    """
    from sklearn.metrics import confusion_matrix, f1_score  # the import takes a second

    true = np.asarray(labels, dtype=np.int64)
    if len(true) == 0 or scores.shape != (len(true), task.n_labels):
        raise ValueError(f"expected as many rows of scores as labels, got {scores.shape} for {len(true)} labels")
    predicted, every, evaluated = scores.argmax(axis=1), list(range(task.n_labels)), list(task.evaluated_numbers)
    confusion = confusion_matrix(true, predicted, labels=every)
    by_label = f1_score(true, predicted, labels=every, average=None, zero_division=0)
    found = Metrics(
        rows=len(true),
        accuracy=float(np.trace(confusion)) / len(true),
        macro_f1=float(by_label.mean()),
        f1=float(by_label[evaluated].mean()),
        f1_by_label=tuple(float(f1) for f1 in by_label),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        ece=expected_calibration_error(true, scores),
        ece_by_chance=calibration_error_by_chance(scores),
    )
    if not task.is_default:
        return found
    negative, neutral, positive = Label
    return replace(
        found,
        pos_neg_f1=found.f1,
        flip_rate=float(confusion[negative, positive] + confusion[positive, negative]) / len(true),
        neutral_miss_rate=float(confusion[negative, neutral] + confusion[positive, neutral]) / len(true),
    )


def one_hot(labels: Sequence[int] | npt.NDArray[np.integer], n_labels: int = N_LABELS) -> npt.NDArray[np.float32]:
    """Return scores (n, labels) that are 1 for the given labels."""
    return np.eye(n_labels, dtype=np.float32)[np.asarray(labels, dtype=np.int64)]
