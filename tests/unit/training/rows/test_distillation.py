"""What teachers say becomes what a student learns from."""

import numpy as np
import pytest
import torch

from absa.inference.tokenization import Template
from absa.modeling.architecture import Architecture, PairClassifier
from absa.training.rows.compose import Composer, Connectors
from absa.training.rows.distill import score_as_teacher, taught
from absa.training.rows.tokens import TokenRows, join

TINY = Architecture(layers=1, hidden=16, heads=2, intermediate=32, vocabulary=40, positions=64)


def rows(labels: list[int]) -> TokenRows:
    texts = [np.arange(5 + 8 * index, 9 + 8 * index, dtype=np.uint16) for index in range(len(labels))]
    return join(texts, [text[:1] for text in texts], labels, Template.bert(1, 2))


def test_labelled_row_keeps_share_unlabelled_takes_teacher() -> None:
    sure, split = np.eye(3, dtype=np.float32)[[0, 1, 2]], np.full((3, 3), 1 / 3, np.float32)
    found = taught(rows([2, 1]), rows([1]), [sure, split], weight=0.5)
    assert found.targets is not None
    assert np.allclose(found.targets[0], [1 / 3, 1 / 12, 7 / 12])
    assert np.allclose(found.targets[2], [1 / 6, 1 / 6, 2 / 3])
    assert found.labels.tolist() == [2, 1, 2]
    assert np.allclose(found.targets.sum(1), 1)


def test_targets_follow_their_rows_through_taking_and_composing() -> None:
    found = taught(rows([0, 1, 2, 0]), None, [np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]], weight=0.5)
    picked = found.take([2, 0])
    assert picked.targets is not None
    assert picked.targets.argmax(1).tolist() == [2, 0]
    composed = Composer(Connectors((np.array([30], np.uint16),), frozenset()), 0.9, 64)(found, np.random.default_rng(0))
    assert composed.targets is not None
    assert np.array_equal(composed.targets, found.targets)  # type: ignore[arg-type]
    assert composed.lengths.sum() > found.lengths.sum()


def test_a_model_scores_rows_in_their_order() -> None:
    torch.manual_seed(0)
    model = PairClassifier(TINY, dropout=0.0)
    several = rows([0, 1, 2])
    together = score_as_teacher(model, several)
    assert together.shape == (3, 3)
    assert np.allclose(together.sum(1), 1, atol=1e-5)
    assert np.allclose(together[1], score_as_teacher(model, several.take([1]))[0], atol=1e-5)


def test_student_without_matching_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="teacher"):
        taught(rows([0]), None, [], weight=0.5)
    with pytest.raises(ValueError, match="2 rows"):
        taught(rows([0, 1]), None, [np.eye(3, dtype=np.float32)], weight=0.5)
