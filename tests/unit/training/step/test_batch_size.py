"""Batches grow where the time is short, as long as there are enough steps."""

import pytest

from absa.training.step.batch_size import FEWEST_STEPS, cpu_batch_tokens, gpu_batch_tokens, rate_factor

SPEEDS = {256: 1_000.0, 512: 1_300.0, 1_024: 1_600.0}


@pytest.mark.parametrize(
    ("needed", "expected"),
    [(900_000, 256), (1_200_000, 512), (1_500_000, 1_024), (90_000_000, 1_024)],
)
def test_smallest_batch_that_fits_all_passes_is_used(needed: float, expected: int) -> None:
    assert cpu_batch_tokens(SPEEDS, needed=needed, time_s=1_000.0) == expected


def test_first_size_that_fits_needs_no_others() -> None:
    assert cpu_batch_tokens({256: 1_000.0}, needed=10.0, time_s=1_000.0) == 256


@pytest.mark.parametrize(("time_s", "expected"), [(30.0, 256), (70.0, 512), (100.0, 1_024)])
def test_large_batches_need_enough_steps(time_s: float, expected: int) -> None:
    found = cpu_batch_tokens(SPEEDS, needed=1e9, time_s=time_s)
    assert found == expected
    assert found == 256 or SPEEDS[found] * time_s / found >= FEWEST_STEPS


def test_larger_batch_that_is_slower_is_not_used() -> None:
    assert cpu_batch_tokens(SPEEDS | {1_024: 1_200.0}, needed=1e9, time_s=1_000.0) == 512


def test_gpu_batch_leaves_steps_in_each_pass() -> None:
    assert [gpu_batch_tokens(rows) for rows in (100, 10_000, 10_000_000)] == [2_048, 8_000, 65_536]


def test_rates_grow_with_fourth_root_of_batch() -> None:
    assert [rate_factor(tokens) for tokens in (256, 4_096)] == [1.0, 2.0]
