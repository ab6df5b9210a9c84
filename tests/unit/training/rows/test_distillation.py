"""Answers of teachers become targets of a student."""

from pathlib import Path

import numpy as np
import pytest
import torch

from absa.errors import InvalidDataError
from absa.inference.tokenization import Template
from absa.modeling.architecture import Architecture, PairClassifier
from absa.training.rows.compose import Composer, Connectors
from absa.training.rows.distill import Answers, TaughtCorpus, taught
from absa.training.rows.scoring import score_as_teacher
from absa.training.rows.shards import write_shard
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


NONE = np.full(3, np.nan, np.float32)


def test_row_without_answer_keeps_label_or_goes() -> None:
    said = np.stack([NONE, np.eye(3, dtype=np.float32)[1], NONE, np.eye(3, dtype=np.float32)[2]])
    found = taught(rows([0, 0]), rows([1, 1]), [said], weight=0.5)
    assert found.targets is not None
    assert found.targets.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]]


def test_mean_counts_teachers_that_answered() -> None:
    first = Answers(np.stack([NONE, NONE]), np.zeros((0, 3), np.float32))
    second = Answers(np.stack([np.array([0.2, 0.3, 0.5], np.float32), NONE]), np.zeros((0, 3), np.float32))
    mean = Answers.mean([first, second]).labelled
    assert np.allclose(mean[0], [0.2, 0.3, 0.5])
    assert np.isnan(mean[1]).all()


def test_taught_corpus_adds_pairs_as_last_shard(tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}")
    write_shard(tmp_path, rows([0, 1, 2]), tokenizer, 64)
    answers = Answers(np.eye(3, dtype=np.float32)[[1, 1, 1]], np.eye(3, dtype=np.float32)[[2, 0]])
    corpus = TaughtCorpus(tmp_path, rows([1, 1]), answers, 0.25, left_s=lambda: 1.0)
    assert len(corpus) == 5
    found = corpus.take(np.array([4, 0, 3]))
    assert found.targets is not None
    assert found.targets.tolist() == [[1, 0, 0], [0.75, 0.25, 0], [0, 0, 1]]
    assert corpus.observed(corpus.block(0, 0, 0, 5)) is not None
    with pytest.raises(InvalidDataError, match=r"answers of \(3, 0\) rows, got \(3, 2\)"):
        TaughtCorpus(tmp_path, None, answers, 0.25, left_s=lambda: 1.0)


def test_answers_survive_the_file(tmp_path: Path) -> None:
    answers = Answers(np.eye(3, dtype=np.float32), np.stack([NONE]))
    answers.write(tmp_path / "answers.npz")
    assert np.array_equal(Answers.read(tmp_path / "answers.npz").pairs, answers.pairs, equal_nan=True)
    with pytest.raises(InvalidDataError, match="no answers"):
        Answers.read(tmp_path / "nothing.npz")
