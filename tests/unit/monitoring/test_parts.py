"""Tests of the figures a class and a segment."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sklearn.metrics import f1_score

from monitoring.drift.sample import Sample, make_sample
from monitoring.parts import parts_of
from monitoring.performance import back_test

Make = Callable[..., Sample]


def in_segments(sample: Sample, names: tuple[str, ...]) -> Sample:
    return replace(sample, segments=tuple(names[i % len(names)] for i in range(sample.rows)))


def test_a_class_has_its_own_f1(make: Make) -> None:
    sample = make(1, 800)
    found = parts_of(sample)["class:negative"]
    assert found.f1 is not None
    assert np.isclose(found.f1, f1_score(sample.truth, sample.labels, labels=[0], average="macro"))


def test_bad_segment_differs_from_stable_one(make: Make) -> None:
    sample = in_segments(make(2, 1_000), ("eu", "us"))
    truth = sample.truth.copy()
    bad = np.flatnonzero((np.arange(sample.rows) % 2 == 1) & (np.arange(sample.rows) % 4 == 1))
    truth[bad] = 2 - truth[bad]
    found = parts_of(replace(sample, truth=truth))
    assert found["segment:eu"].trusted is True
    assert found["segment:us"].trusted is False, "the scores promise what labels refute"
    assert found["segment:eu"].f1 > found["segment:us"].f1  # type: ignore[operator]


def test_intervals_of_parts_cover_what_labels_show(make: Make) -> None:
    covered = 0
    for seed in range(40):
        part = parts_of(make(seed, 400))["class:positive"]
        covered += part.estimated_low <= part.f1 <= part.estimated_high  # type: ignore[operator]
    assert covered >= 34


def test_small_and_nameless_segments_have_no_figures(make: Make) -> None:
    sample = in_segments(make(3, 300), ("a", "b", "c", "d"))
    assert not [name for name in parts_of(sample) if name.startswith("segment:")]
    assert not [name for name in parts_of(replace(sample, segments=("",) * 300)) if name.startswith("segment:")]
    assert parts_of(sample.take(np.array([], dtype=np.int64))) == {}


def test_back_test_ignores_weights_of_chosen_rows() -> None:
    rng = np.random.default_rng(0)
    n = 2_000
    confidence = rng.uniform(0.4, 0.99, n)
    predicted = rng.choice([0, 2], n)
    truth = np.where(rng.random(n) < confidence, predicted, 2 - predicted)
    scores = np.zeros((n, 3))
    scores[np.arange(n), predicted] = confidence
    scores[np.arange(n), 2 - predicted] = 1 - confidence
    chance = np.clip(1.2 - confidence, 0.05, 1.0)
    chosen = rng.random(n) < chance
    sample = make_sample(predicted, scores, truth=np.where(chosen, truth, -1), weights=1 / chance)
    found = back_test(sample)
    assert found is not None
    assert found.trusted
