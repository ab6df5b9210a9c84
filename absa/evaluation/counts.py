"""Confusion counts, and F1 from them, with numpy alone.

The trainer has to run without scikit-learn. A bootstrap needs the F1 of thousands of tables at once; scikit-learn
measures one pair of label lists at a time, which is over 100 times slower. A test checks that both give equal values.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from absa.task import ABSA, EVALUATED, N_LABELS, TaskSpec

Labels = npt.ArrayLike
Scores = npt.NDArray[np.floating]
Counts = npt.NDArray[np.float64]


def confusion_counts(
    labels: Labels, predicted: Labels, weights: Counts | None = None, *, n_labels: int = N_LABELS
) -> Counts:
    """Return counts (labels, labels), or sums of weights: true labels as rows, predicted ones as columns."""
    true, guessed = np.asarray(labels, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    flat = np.bincount(true * n_labels + guessed, weights=weights, minlength=n_labels**2)
    return flat.reshape(n_labels, n_labels).astype(np.float64)


def f1_of(confusion: Counts) -> Counts:
    """Return the F1 of each label (..., n) from counts (..., n, n); 0 if a label is neither true nor predicted."""
    found = 2 * np.diagonal(confusion, axis1=-2, axis2=-1)
    involved = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return np.asarray(np.divide(found, involved, out=np.zeros_like(involved), where=involved > 0))


def mean_f1_of(confusion: Counts, labels: Sequence[int]) -> Counts:
    """Return the mean F1 of some labels from counts (..., n, n)."""
    return np.asarray(f1_of(confusion)[..., list(labels)].mean(axis=-1))


def pos_neg_f1_of(confusion: Counts, labels: Sequence[int] = EVALUATED) -> Counts:
    """Return the mean F1 of negative and positive, or of other labels, from counts (..., 3, 3)."""
    return mean_f1_of(confusion, labels)


def task_f1(labels: Labels, predicted: Labels, task: TaskSpec = ABSA) -> float:
    """Return the primary metric: the mean F1 of the task's evaluated labels over all rows.

    Equals scikit-learn's `f1_score(labels, predicted, labels=evaluated, average="macro", zero_division=0)`.
    """
    return float(mean_f1_of(confusion_counts(labels, predicted, n_labels=task.n_labels), task.evaluated_numbers))


def pos_neg_f1(labels: Labels, predicted: Labels) -> float:
    """Return `task_f1` of the default task: the mean F1 of negative and positive, neutral rows included."""
    return task_f1(labels, predicted)
