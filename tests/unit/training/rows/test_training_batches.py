"""Batches: every row once a pass, little padding, and the same order for the same seed."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absa.inference.tokenization import Template
from absa.training.rows.batches import assemble, cut, plan
from absa.training.rows.choice import Choice, chunk_rows_of
from absa.training.rows.stream import BatchStream, Position
from absa.training.rows.tokens import TokenRows, join

CLS, SEP = 101, 102


def rows_of(lengths: list[int]) -> TokenRows:
    texts = [np.full(length, 1000 + row, np.uint16) for row, length in enumerate(lengths)]
    aspects = [np.array([7], np.uint16) for _ in lengths]
    return join(texts, aspects, [row % 3 for row in range(len(lengths))], Template.bert(CLS, SEP))


@given(lengths=st.lists(st.integers(4, 128), min_size=1, max_size=300), budget=st.integers(64, 600))
def test_every_row_stands_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    batches = plan(np.array(lengths), budget, np.random.default_rng(0), padding=True)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))


@given(lengths=st.lists(st.integers(4, 128), min_size=1, max_size=300), budget=st.integers(64, 600))
def test_padded_batch_stays_within_budget(lengths: list[int], budget: int) -> None:
    of = np.array(lengths)
    for batch in cut(of, budget, padding=True):
        assert len(batch) == 1 or len(batch) * of[batch].max() <= budget


@pytest.mark.parametrize("between", [(2,), (2, 2), ()])
def test_batch_has_special_tokens_of_its_template(between: tuple[int, ...]) -> None:
    texts, aspects = [np.array([7, 8, 9], np.uint16), np.array([6], np.uint16)], [np.array([8], np.uint16)] * 2
    batch = assemble(join(texts, aspects, [0, 1], Template((1,), between, (2,))), np.arange(2))
    whole = [[1, 7, 8, 9, *between, 8, 2], [1, 6, *between, 8, 2, 0, 0]]
    types = [[0] * (4 + len(between)) + [1, 1], [0] * (2 + len(between)) + [1, 1, 0, 0]]
    assert (batch.input_ids.tolist(), batch.token_types.tolist()) == (whole, types)
    assert batch.mask is not None
    assert batch.mask.sum(1).tolist() == [6 + len(between), 4 + len(between)]


def test_padding_is_few_percent_on_feedback_lengths() -> None:
    lengths = np.random.default_rng(0).poisson(18, 4000) + 4
    batches = plan(lengths, 512, np.random.default_rng(0), padding=True)
    padded = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    assert padded / lengths.sum() < 1.06


@given(lengths=st.lists(st.integers(4, 128), min_size=1, max_size=300), budget=st.integers(128, 20_000))
def test_unpadded_batches_hold_rows_of_one_length(lengths: list[int], budget: int) -> None:
    of = np.array(lengths)
    batches = plan(of, budget, np.random.default_rng(0), padding=False)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(of)))
    for batch in batches:
        assert len(set(of[batch].tolist())) == 1
        assert of[batch].sum() <= budget


def test_a_chunk_is_large_enough_for_large_batches() -> None:
    lengths = np.random.default_rng(0).poisson(18, chunk_rows_of(65_536)) + 4
    batches = plan(lengths, 65_536, np.random.default_rng(0), padding=False)
    assert lengths.sum() / len(batches) > 65_536 / 2


def test_row_is_encoded_as_padded_pair() -> None:
    batch = assemble(rows_of([3, 1]), np.array([0, 1]))
    assert batch.input_ids.tolist() == [[CLS, 1000, 1000, 1000, SEP, 7, SEP], [CLS, 1001, SEP, 7, SEP, 0, 0]]
    assert batch.token_types.tolist() == [[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0, 0]]
    assert batch.mask is not None
    assert batch.mask.sum(axis=1).tolist() == [7, 5]
    assert batch.tokens == 12


def test_rows_of_equal_length_need_no_mask() -> None:
    assert assemble(rows_of([4, 4]), np.array([0, 1])).mask is None


def test_pass_shows_each_row_once_in_new_order() -> None:
    stream = BatchStream(rows_of([5] * 90), batch_tokens=80, seed=3, choice=Choice(chunk_rows=40))
    passes: dict[int, list[int]] = {0: [], 1: []}
    before = Position()
    for after, _, batch in stream.from_position(Position()):
        if before.epoch > 1:
            break
        passes[before.epoch].extend(batch.input_ids[:, 1].tolist())
        before = after
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(1000, 1090))
    assert passes[0] != passes[1]


@pytest.mark.parametrize("taken", [1, 7, 30, 47])
def test_stream_from_position_continues_sequence(taken: int) -> None:
    def stream() -> BatchStream:
        return BatchStream(
            rows_of([4 + row % 9 for row in range(100)]), batch_tokens=64, seed=1, choice=Choice(chunk_rows=30)
        )

    whole = list(islice(stream().from_position(Position()), taken + 10))
    resumed = list(islice(stream().from_position(whole[taken - 1][0]), 10))
    for expected, got in zip(whole[taken:], resumed, strict=True):
        assert expected[:2] == got[:2]
        assert expected[2].input_ids.tolist() == got[2].input_ids.tolist()


def test_another_seed_gives_another_order() -> None:
    first, second = (
        next(iter(BatchStream(rows_of([5] * 60), batch_tokens=80, seed=seed).from_position(Position())))[2]
        for seed in (0, 1)
    )
    assert first.input_ids.tolist() != second.input_ids.tolist()


def test_a_training_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="needs rows"):
        BatchStream(rows_of([]), batch_tokens=80, seed=0)
