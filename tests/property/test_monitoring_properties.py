"""Properties of monitoring: corrections, weights, intervals and records hold whatever comes in."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from absa.evaluation.counts import confusion_counts, pos_neg_f1_of
from monitoring.experiments.ab_statistics import Allocation, Outcomes, difference, sample_ratio_p_value
from monitoring.labels.label_queue import _chances

shares = st.floats(0.0, 1.0)


@given(st.lists(st.floats(0.001, 1.0), min_size=1, max_size=50), shares, st.integers(1, 60))
def test_row_chances_sum_to_requested_count(hardness: list[float], audit: float, count: int) -> None:
    base = min(1.0, audit * count / len(hardness))
    chances = _chances(np.array(hardness), base, count)
    assert ((chances > 0) & (chances <= 1)).all()
    assert abs(chances.sum() - min(count, len(hardness))) < 1e-3


@settings(max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 200), st.integers(1, 5))
def test_swapping_the_arms_turns_the_difference_round(seed: int, count: int, revisions: int) -> None:
    rng = np.random.default_rng(seed)
    seen = Outcomes(
        challenger=rng.random(count) < 0.5,
        revision=rng.integers(0, revisions, count),
        unit=rng.integers(0, count, count),
        right=(rng.random(count) < 0.7).astype(float),
    )
    turned = Outcomes(challenger=~seen.challenger, revision=seen.revision, unit=seen.unit, right=seen.right)
    one, two = difference(seen), difference(turned)
    assert np.isclose(one.estimate, -two.estimate)
    assert np.isclose(one.low, -two.high)
    assert one.low <= one.estimate <= one.high


@given(st.floats(0.01, 0.99), st.integers(0, 5000), st.integers(0, 5000))
def test_a_sample_ratio_p_value_is_a_share(share: float, champion: int, challenger: int) -> None:
    part = Allocation(revision=1, share=share, champion_units=champion, challenger_units=challenger)
    assert 0.0 <= sample_ratio_p_value([part]) <= 1.0


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=40))
def test_f1_is_share_and_one_when_all_right(rows: list[tuple[int, int]]) -> None:
    truth, predicted = (np.array([row[k] for row in rows], dtype=np.int64) for k in (0, 1))
    found = float(pos_neg_f1_of(confusion_counts(truth, predicted)))
    assert 0.0 <= found <= 1.0
    if found == 1.0:
        assert (truth == predicted)[np.isin(truth, (0, 2))].all()
