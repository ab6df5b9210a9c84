"""Tests of measured and estimated loss."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from monitoring.drift.sample import Sample, make_sample
from monitoring.performance import (
    FrozenTest,
    back_test,
    estimate,
    flip_rate,
    frozen_test,
    loss_between,
    measure,
)

Make = Callable[..., Sample]


def test_without_labels_nothing_is_measured(make: Make) -> None:
    assert measure(make(1, 200, labelled=0.0)) is None
    assert estimate(make(1, 0)) is None


def test_the_measured_interval_covers_the_long_run_f1(make: Make) -> None:
    truth = measure(make(0, 60_000))
    assert truth is not None
    covered = 0
    for seed in range(1, 61):
        found = measure(make(seed, 300))
        assert found is not None
        covered += found.low <= truth.f1 <= found.high
    assert covered >= 52


def test_the_estimate_covers_what_the_labels_later_show(make: Make) -> None:
    covered = 0
    for seed in range(60):
        window = make(seed, 400)
        promised, found = estimate(window), measure(window)
        assert promised is not None
        assert found is not None
        covered += promised.low <= found.f1 <= promised.high
    assert covered >= 54


def test_perfect_score_on_few_labels_is_uncertain() -> None:
    few = make_sample([0, 2, 0, 2], np.tile([0.9, 0.05, 0.05], (4, 1)), truth=[0, 2, 0, 2])
    found = measure(few)
    assert found is not None
    assert found.f1 == 1.0
    assert found.low < 0.95


def test_chosen_hard_rows_do_not_bias_f1() -> None:
    """Half the rows are hard (half right) and labelled always, the easy ones (all right) one time in ten."""
    rng = np.random.default_rng(3)
    n = 20_000
    truth = rng.choice([0, 2], n)
    hard = rng.random(n) < 0.5
    predicted = np.where(hard & (rng.random(n) < 0.5), 2 - truth, truth)
    probability = np.where(hard, 1.0, 0.1)
    told = rng.random(n) < probability
    scores = np.tile([0.8, 0.1, 0.1], (n, 1))
    known = np.where(told, truth, -1)
    weighted = measure(make_sample(predicted, scores, truth=known, weights=1.0 / probability))
    plain = measure(make_sample(predicted, scores, truth=known))
    assert weighted is not None
    assert plain is not None
    assert weighted.f1 == pytest.approx(0.75, abs=0.02)
    assert plain.f1 < 0.6


def test_answers_of_few_units_are_less_certain(make: Make) -> None:
    window = make(1, 400)
    right = window.labels == window.truth
    # whole units are right or wrong: sort rows so that equal rows share a unit
    clustered = replace(window.take(np.argsort(right, kind="stable")), groups=np.arange(400) // 40)
    single, shared = measure(window), measure(clustered)
    assert single is not None
    assert shared is not None
    assert shared.standard_error > 1.5 * single.standard_error


def test_f1_loss_is_found_with_size(make: Make) -> None:
    before, now = measure(make(1, 1000, accuracy=0.85)), measure(make(2, 500, accuracy=0.60))
    assert before is not None
    assert now is not None
    loss = loss_between(before, now, tolerated=0.03)
    assert loss.low < 0.25 < loss.high
    assert loss.p_value < 1e-4
    same = loss_between(before, before, tolerated=0.03)
    assert same.p_value > 0.5


def test_back_test_trusts_calibrated_and_finds_concept_change(make: Make) -> None:
    calibrated = make(1, 500)
    good = back_test(calibrated)
    assert good is not None
    assert good.trusted
    flipped = replace(calibrated, truth=np.where(np.arange(500) % 4 == 0, 2 - calibrated.truth, calibrated.truth))
    bad = back_test(flipped)
    assert bad is not None
    assert not bad.trusted
    assert "contradicted" in bad.sentence


def test_a_back_test_needs_labels(make: Make) -> None:
    assert back_test(make(1, 500, labelled=0.02)) is None


def test_flips_count_only_positive_and_negative() -> None:
    flips = make_sample([0, 2, 1, 0], np.full((4, 3), 1 / 3), truth=[2, 2, 0, 1])
    assert flip_rate(flips) == pytest.approx(1 / 3)
    assert flip_rate(make_sample([0], np.full((1, 3), 1 / 3))) is None


def test_frozen_test_comes_from_confusion_or_f1() -> None:
    exact = frozen_test({"confusion": [[8, 1, 1], [1, 8, 1], [1, 1, 8]]})
    assert exact.rows == 30
    assert exact.estimate().f1 == pytest.approx(0.8)
    stand_in = frozen_test({"pos_neg_f1": 0.8, "rows": 300})
    assert stand_in.estimate().f1 == pytest.approx(0.8)
    assert stand_in == FrozenTest.from_f1(0.8, 300)
    with pytest.raises(ValueError, match="at most 3 by 3"):
        frozen_test({"confusion": np.ones((4, 4)).tolist()})
    with pytest.raises(ValueError, match="confusion, or f1"):
        frozen_test({})
