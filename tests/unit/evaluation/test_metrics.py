"""Metrics are those of scikit-learn, and so are the counts that stand in for it in loops."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from absa.evaluation.counts import confusion_counts, f1_of, pos_neg_f1, task_f1
from absa.evaluation.metrics import evaluate, one_hot
from absa.evaluation.reliability import calibration_error_by_chance, expected_calibration_error, reliability
from absa.task import TaskSpec

LABELS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60)


@settings(max_examples=60)
@given(rows=LABELS)
def test_metrics_and_counts_equal_scikit_learn(rows: list[tuple[int, int]]) -> None:
    true, predicted = [row[0] for row in rows], [row[1] for row in rows]
    found = evaluate(true, one_hot(predicted))
    expected = f1_score(true, predicted, labels=[0, 2], average="macro", zero_division=0)
    assert found.f1 == found.pos_neg_f1 == pytest.approx(expected)
    assert pos_neg_f1(true, predicted) == pytest.approx(expected)
    assert found.macro_f1 == pytest.approx(
        f1_score(true, predicted, labels=[0, 1, 2], average="macro", zero_division=0)
    )
    assert found.accuracy == pytest.approx(accuracy_score(true, predicted))
    counts = confusion_counts(true, predicted)
    assert (
        [list(row) for row in found.confusion]
        == counts.tolist()
        == confusion_matrix(true, predicted, labels=[0, 1, 2]).tolist()
    )
    assert f1_of(counts) == pytest.approx(found.f1_by_label)


@settings(max_examples=30)
@given(rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_metric_of_any_task_equals_scikit_learn(rows: list[tuple[int, int]]) -> None:
    task = TaskSpec(name="tickets", input="text", labels=("a", "b", "c", "d", "e"), evaluated=("a", "c", "d"))
    true, predicted = [row[0] for row in rows], [row[1] for row in rows]
    found = evaluate(true, one_hot(predicted, 5), task)
    expected = f1_score(true, predicted, labels=[0, 2, 3], average="macro", zero_division=0)
    assert found.f1 == pytest.approx(expected)
    assert task_f1(true, predicted, task) == pytest.approx(expected)
    assert (found.pos_neg_f1, found.flip_rate, found.neutral_miss_rate) == (None, None, None)
    assert np.array(found.confusion).shape == (5, 5)


def test_flip_differs_from_miss_to_neutral() -> None:
    found = evaluate([0, 0, 2, 2, 1], one_hot([2, 1, 0, 2, 0]))
    assert found.flip_rate == pytest.approx(2 / 5)
    assert found.neutral_miss_rate == pytest.approx(1 / 5)


def draw(rng: np.random.Generator, rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    scores = rng.dirichlet((0.7, 0.7, 0.7), size=rows).astype(np.float32)
    return np.array([rng.choice(3, p=row / row.sum()) for row in scores.astype(np.float64)]), scores


def test_calibrated_scores_have_little_calibration_error() -> None:
    labels, scores = draw(np.random.default_rng(0), 5000)
    assert expected_calibration_error(labels, scores) < 0.03


def test_overconfident_scores_have_matching_calibration_error() -> None:
    """Whatever order the rows come in, though all are equally sure."""
    labels = [0] * 70 + [2] * 30
    scores = np.tile(np.array([0.98, 0.01, 0.01], dtype=np.float32), (100, 1))
    assert expected_calibration_error(labels, scores) == pytest.approx(0.28, abs=1e-6)
    assert expected_calibration_error(labels[::-1], scores) == pytest.approx(0.28, abs=1e-6)


@pytest.mark.parametrize("rows", [100, 400, 4000])
def test_calibrated_errors_are_chance_and_surer_ones_not(rows: int) -> None:
    found, explained, surer = [], [], []
    for seed in range(20):
        labels, scores = draw(np.random.default_rng(seed), rows)
        found.append(expected_calibration_error(labels, scores))
        explained.append(calibration_error_by_chance(scores))
        sharp = scores**4 / (scores**4).sum(axis=1, keepdims=True)
        surer.append(expected_calibration_error(labels, sharp) - calibration_error_by_chance(sharp))
    assert np.mean(found) == pytest.approx(np.mean(explained), rel=0.2)
    assert np.mean(surer) > 0.1


def test_chance_explains_nothing_of_scores_that_are_sure() -> None:
    assert calibration_error_by_chance(one_hot([0, 1, 2])) == 0


def test_reliability_has_each_row_by_confidence() -> None:
    labels, scores = draw(np.random.default_rng(1), 103)
    bins = reliability(labels, scores)
    assert sum(each.rows for each in bins) == 103
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)


@pytest.mark.parametrize(("labels", "rows"), [([], 0), ([0, 1], 1)])
def test_rows_without_matching_labels_are_refused(labels: list[int], rows: int) -> None:
    with pytest.raises(ValueError, match="as many rows"):
        evaluate(labels, np.zeros((rows, 3), dtype=np.float32))
