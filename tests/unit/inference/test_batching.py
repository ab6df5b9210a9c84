"""Groups of like length: every row once, no group over the budget, little padding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from absa.inference.batching import MAX_PADDING, group_by_length

LENGTHS = st.lists(st.integers(min_value=3, max_value=128), max_size=200)


@given(lengths=LENGTHS, budget=st.integers(min_value=16, max_value=2048))
def test_every_row_stands_in_exactly_one_group(lengths: list[int], budget: int) -> None:
    groups = group_by_length(lengths, budget)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert all(groups)


@given(lengths=LENGTHS, budget=st.integers(min_value=16, max_value=2048))
def test_group_of_rows_stays_within_token_budget(lengths: list[int], budget: int) -> None:
    for group in group_by_length(lengths, budget):
        assert len(group) == 1 or len(group) * max(lengths[index] for index in group) <= budget


@given(lengths=LENGTHS, budget=st.integers(min_value=16, max_value=2048))
def test_padding_stays_below_its_share(lengths: list[int], budget: int) -> None:
    for group in group_by_length(lengths, budget):
        padded = len(group) * max(lengths[index] for index in group)
        assert padded - sum(lengths[index] for index in group) <= MAX_PADDING * padded


def test_rows_of_one_length_fill_the_budget() -> None:
    assert [len(group) for group in group_by_length([10] * 25, 100)] == [10, 10, 5]


def test_a_row_over_the_budget_is_scored_alone() -> None:
    assert group_by_length([128, 8, 8], 64) == [[1, 2], [0]]


@pytest.mark.parametrize("lengths", [[], [5]])
def test_few_rows_need_no_special_care(lengths: list[int]) -> None:
    assert group_by_length(lengths) == [[0]] * len(lengths)
