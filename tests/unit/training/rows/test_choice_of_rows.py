"""Which rows are learned from where not all fit: newer and harder ones first, noise and too many old ones out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absa.training.rows.choice import Choice, choose


def ages(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float64)


@given(count=st.integers(1, 300), pool=st.integers(1, 8), seed=st.integers(0, 5))
def test_no_row_is_picked_twice_and_the_share_is_kept(count: int, pool: int, seed: int) -> None:
    picked = choose(count, ages(count), Choice(pool=pool), np.random.default_rng(seed))
    assert len(set(picked.tolist())) == len(picked) == -(-count // pool)


def test_equal_seeds_pick_equal_rows() -> None:
    one, other = (choose(500, ages(500), Choice(pool=4), np.random.default_rng(7)) for _ in range(2))
    assert one.tolist() == other.tolist()


def test_newer_rows_are_picked_more_often_and_old_ones_too() -> None:
    picked = choose(8_000, ages(8_000), Choice(pool=4), np.random.default_rng(0))
    quarters = np.histogram(picked, bins=4, range=(0, 8_000))[0]
    assert list(quarters) == sorted(quarters)
    assert quarters[0] > 150
    assert quarters[3] > 1.5 * quarters[0]


def test_harder_rows_are_picked_more_often_and_the_hardest_established_ones_never() -> None:
    losses = np.linspace(0, 5, 4_000).astype(np.float32)
    same_age = np.zeros(4_000)
    picked = choose(4_000, same_age, Choice(pool=4), np.random.default_rng(0), losses)
    assert (picked > 2_000).sum() > 1.3 * (picked < 2_000).sum()
    assert picked.max() < 0.98 * 4_000


def test_a_recent_row_is_never_taken_for_noise() -> None:
    losses = np.linspace(0, 5, 4_000).astype(np.float32)
    choice = Choice(pool=2, since=3_000.0)
    picked = choose(4_000, ages(4_000), choice, np.random.default_rng(0), losses)
    assert picked.max() > 0.99 * 4_000


@pytest.mark.parametrize("replay", [0.0, 0.5, 2.0])
def test_replay_bounds_the_established_rows_a_recent_one(replay: float) -> None:
    picked = choose(1_000, ages(1_000), Choice(since=899.5, replay=replay), np.random.default_rng(0))
    assert (picked >= 900).sum() == 100
    assert (picked < 900).sum() == round(replay * 100)


def test_all_rows_are_taken_where_all_fit() -> None:
    assert Choice().fitted(rows=1_000, fits=5_000).pool == 1
    assert len(choose(100, ages(100), Choice(), np.random.default_rng(0))) == 100


def test_candidates_grow_with_the_data_up_to_a_bound_and_chunks_shrink_with_the_time() -> None:
    assert Choice().fitted(rows=300_000, fits=100_000) == Choice(pool=3, chunk_rows=16_384)
    assert Choice().fitted(rows=2_000_000, fits=900) == Choice(pool=8, chunk_rows=1_024)


@given(rows=st.integers(1, 10**8), fits=st.floats(0, 1e8), cost=st.floats(0.01, 10))
def test_scores_before_the_first_step_take_a_tenth_of_the_time_at_most(rows: int, fits: float, cost: float) -> None:
    choice = Choice().fitted(rows=rows, fits=fits, scoring_cost=cost)
    if choice.scored:
        assert choice.pool == 2
        assert choice.pool * choice.chunk_rows * cost <= 0.1 * fits
        assert rows >= 2 * fits
    else:
        assert choice == Choice().fitted(rows=rows, fits=fits)


def test_candidates_are_scored_where_there_is_time_for_it() -> None:
    assert Choice().fitted(rows=2_000_000, fits=100_000, scoring_cost=0.3) == Choice(
        pool=2, chunk_rows=16_384, scored=True
    )
    assert not Choice().fitted(rows=2_000_000, fits=900, scoring_cost=0.3).scored
