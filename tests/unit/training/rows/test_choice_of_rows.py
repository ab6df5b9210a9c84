"""Choice of rows where not all fit: newer ones first, and a bounded share of established ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absa.training.rows.choice import Choice, choose


def ages(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float64)


@given(count=st.integers(1, 300), pool=st.floats(1, 8), seed=st.integers(0, 5))
def test_rows_are_picked_once_and_share_kept(count: int, pool: float, seed: int) -> None:
    picked = choose(count, ages(count), Choice(pool=pool), np.random.default_rng(seed))
    assert len(set(picked.tolist())) == len(picked) == math.ceil(round(count / pool, 6))


def test_equal_seeds_pick_equal_rows() -> None:
    one, other = (choose(500, ages(500), Choice(pool=4), np.random.default_rng(7)) for _ in range(2))
    assert one.tolist() == other.tolist()


def test_newer_rows_are_picked_more_often() -> None:
    picked = choose(8_000, ages(8_000), Choice(pool=4), np.random.default_rng(0))
    quarters = np.histogram(picked, bins=4, range=(0, 8_000))[0]
    assert list(quarters) == sorted(quarters)
    assert quarters[0] > 150
    assert quarters[3] > 1.5 * quarters[0]


def test_newer_rows_are_preferred_below_two_candidates() -> None:
    picked = choose(8_000, ages(8_000), Choice(pool=1.5), np.random.default_rng(0))
    quarters = np.histogram(picked, bins=4, range=(0, 8_000))[0]
    assert list(quarters) == sorted(quarters)
    assert quarters[3] > 1.3 * quarters[0]


@pytest.mark.parametrize("replay", [0.0, 0.5, 2.0])
def test_replay_bounds_the_established_rows_a_recent_one(replay: float) -> None:
    picked = choose(1_000, ages(1_000), Choice(since=899.5, replay=replay), np.random.default_rng(0))
    assert (picked >= 900).sum() == 100
    assert (picked < 900).sum() == round(replay * 100)


def test_all_rows_are_taken_where_all_fit() -> None:
    assert Choice().fitted(rows=1_000, fits=5_000).pool == 1
    assert len(choose(100, ages(100), Choice(), np.random.default_rng(0))) == 100


def test_candidates_grow_with_data_up_to_bound() -> None:
    assert Choice().fitted(rows=300_000, fits=100_000) == Choice(pool=3, chunk_rows=16_384)
    assert Choice().fitted(rows=2_000_000, fits=900) == Choice(pool=8, chunk_rows=1_024)


def test_candidates_may_be_a_fraction() -> None:
    choice = Choice().fitted(rows=150_000, fits=100_000)
    assert (choice.pool, choice.candidates) == (1.5, 24_576)


def test_corrected_choice_ends_pass_with_its_time() -> None:
    choice = Choice(pool=4.0)
    assert choice.corrected(rows=90_000, fits=60_000) == Choice(pool=1.5)
    assert choice.corrected(rows=90_000, fits=-5.0).pool == 8


def test_choice_of_an_earlier_release_is_read() -> None:
    kept = Choice(pool=3, replay=2.0)
    assert Choice.from_json(kept.to_json() | {"scored": True}) == kept
