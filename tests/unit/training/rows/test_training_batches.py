"""Batches: every row once a pass, little padding, and the same order for the same seed."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from absa.inference.tokenization import Template
from absa.training.rows.batches import Form, assemble, cut, pack
from absa.training.rows.choice import Choice, chunk_rows_of
from absa.training.rows.shards import ShardCorpus, write_shard
from absa.training.rows.stream import BatchStream, Position, made_ahead
from absa.training.rows.tokens import TokenRows, join

CLS, SEP = 101, 102


def rows_of(lengths: list[int]) -> TokenRows:
    texts = [np.full(length, 1000 + row, np.uint16) for row, length in enumerate(lengths)]
    aspects = [np.array([7], np.uint16) for _ in lengths]
    return join(texts, aspects, [row % 3 for row in range(len(lengths))], Template.bert(CLS, SEP))


lengths_of_rows = st.lists(st.integers(4, 128), min_size=1, max_size=300)


@given(lengths=lengths_of_rows, budget=st.integers(64, 2_000), most=st.sampled_from([1, 3, 16]), full=st.booleans())
def test_every_row_stands_in_exactly_one_batch(lengths: list[int], budget: int, most: int, full: bool) -> None:
    layout = Form(tokens=budget, most=most, full=full)
    batches = layout.plan(np.array(lengths), np.random.default_rng(0))
    assert sorted(np.concatenate([batch.rows for batch in batches]).tolist()) == list(range(len(lengths)))
    assert all(0 <= batch.line_of.min() <= batch.line_of.max() < batch.lines for batch in batches)


@given(lengths=lengths_of_rows, most=st.integers(1, 20), width=st.sampled_from([128, 130, 512]))
def test_packed_lines_keep_their_limits(lengths: list[int], most: int, width: int) -> None:
    line_of, made = pack(np.array(lengths), width, most)
    assert sorted(set(line_of.tolist())) == list(range(made))
    assert np.bincount(line_of, weights=lengths).max() <= width
    assert np.bincount(line_of).max() <= most


@given(lengths=lengths_of_rows, budget=st.integers(64, 600))
def test_padded_batch_stays_within_budget(lengths: list[int], budget: int) -> None:
    of = np.array(lengths)
    for batch in cut(of, budget):
        assert len(batch) == 1 or len(batch) * of[batch].max() <= budget


@given(lengths=lengths_of_rows, lines=st.integers(1, 9))
def test_full_batches_have_one_shape(lengths: list[int], lines: int) -> None:
    layout, rows = Form(tokens=128 * lines, full=True), rows_of([max(1, length - 4) for length in lengths])
    batches = [layout.assemble(rows, each) for each in layout.plan(rows.lengths, np.random.default_rng(0))]
    assert {batch.input_ids.shape for batch in batches} == {(lines, 128)}
    assert {batch.labels.shape for batch in batches} == {(lines, 16)}
    assert sum(batch.count for batch in batches) == len(rows)


def test_batches_of_a_chunk_are_nearly_equal() -> None:
    lengths = np.random.default_rng(0).poisson(18, 4_000) + 4
    sizes = [batch.lines for batch in Form(tokens=512).plan(lengths, np.random.default_rng(0))]
    assert max(sizes) - min(sizes) <= 1


def test_packed_row_is_written_as_padded_row() -> None:
    rows = rows_of([(7 * row) % 40 + 1 for row in range(60)])
    layout, seen = Form(tokens=512), []
    for plan in layout.plan(rows.lengths, np.random.default_rng(0)):
        batch = layout.assemble(rows, plan)
        for line, number in zip(*np.nonzero(batch.index >= 0), strict=True):
            row = plan.rows[batch.index[line, number]]
            mine, alone = batch.rows[line] == number, assemble(rows, np.array([row]))
            seen.append(int(row))
            assert batch.input_ids[line, mine].tolist() == alone.input_ids[0].tolist()
            assert batch.token_types[line, mine].tolist() == alone.token_types[0].tolist()
            assert batch.places[line, mine].tolist() == alone.places[0].tolist()
            assert batch.labels[line, number] == rows.labels[row]
    assert sorted(seen) == list(range(60))


@pytest.mark.parametrize("between", [(2,), (2, 2), ()])
def test_batch_has_special_tokens_of_its_template(between: tuple[int, ...]) -> None:
    texts, aspects = [np.array([7, 8, 9], np.uint16), np.array([6], np.uint16)], [np.array([8], np.uint16)] * 2
    batch = assemble(join(texts, aspects, [0, 1], Template((1,), between, (2,))), np.arange(2))
    whole = [[1, 7, 8, 9, *between, 8, 2], [1, 6, *between, 8, 2, 0, 0]]
    types = [[0] * (4 + len(between)) + [1, 1], [0] * (2 + len(between)) + [1, 1, 0, 0]]
    assert (batch.input_ids.tolist(), batch.token_types.tolist()) == (whole, types)
    assert batch.mask is not None
    assert batch.mask.sum(1).tolist() == [6 + len(between), 4 + len(between)]


@pytest.mark.parametrize("most", [1, 16])
def test_padding_is_few_percent_on_feedback_lengths(most: int) -> None:
    rows = rows_of((np.random.default_rng(0).poisson(18, 4_000) + 1).tolist())
    layout = Form(tokens=512, most=most)
    batches = [layout.assemble(rows, each) for each in layout.plan(rows.lengths, np.random.default_rng(0))]
    assert sum(batch.input_ids.size for batch in batches) / rows.lengths.sum() < 1.06


def test_a_chunk_is_large_enough_for_large_batches() -> None:
    lengths = np.random.default_rng(0).poisson(18, chunk_rows_of(65_536)) + 4
    batches = Form(tokens=65_536).plan(lengths, np.random.default_rng(0))
    assert lengths.sum() / len(batches) > 0.95 * 65_536


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
    stream = BatchStream(rows_of([5] * 90), layout=Form(tokens=80, most=1), seed=3, choice=Choice(chunk_rows=40))
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
            rows_of([4 + row % 9 for row in range(100)]),
            layout=Form(tokens=64, most=1),
            seed=1,
            choice=Choice(chunk_rows=30),
        )

    whole = list(islice(stream().from_position(Position()), taken + 10))
    resumed = list(islice(stream().from_position(whole[taken - 1][0]), 10))
    for expected, got in zip(whole[taken:], resumed, strict=True):
        assert expected[:2] == got[:2]
        assert expected[2].input_ids.tolist() == got[2].input_ids.tolist()


def test_correction_changes_chunks_that_come_later(tmp_path: Path) -> None:
    rows = rows_of([5] * 100)
    (tmp_path / "tokenizer.json").write_text("{}")
    write_shard(tmp_path, rows, tmp_path / "tokenizer.json", 16)
    seen: list[tuple[int, int]] = []

    def correct(choice: Choice, left: int, coming: int) -> Choice:
        seen.append((left, coming))
        return choice.corrected(rows=2, fits=1.0)

    stream = BatchStream(
        ShardCorpus(tmp_path), layout=Form(tokens=2_000), seed=0, choice=Choice(chunk_rows=20), correct=correct
    )  # fmt: skip
    whole = list(islice(stream.from_position(Position()), 4))
    assert [batch.count for _, _, batch in whole] == [20, 20, 20, 20]
    assert [at for at, _, _ in whole] == [(0, 20, 0, 2.0), (0, 60, 0, 2.0), (1, 0, 0, 2.0), (1, 40, 0, 2.0)]
    assert seen[:3] == [(80, 20), (40, 20), (100, 20)]
    again = next(stream.from_position(whole[0][0]))
    assert again[2].input_ids.tolist() == whole[1][2].input_ids.tolist()


def test_position_of_earlier_release_repeats_its_chunk() -> None:
    assert Position.restored([1, 3, 7], Choice(chunk_rows=20, pool=2)) == Position(1, 120)
    assert Position.restored([1, 60, 7, 1.5], Choice()) == Position(1, 60, 7, 1.5)


def test_items_made_ahead_keep_order_and_errors() -> None:
    def source() -> Iterator[int]:
        yield from range(9)
        raise ValueError("no more")

    made = made_ahead(source())
    assert [next(made) for _ in range(9)] == list(range(9))
    with pytest.raises(ValueError, match="no more"):
        next(made)
    assert list(made_ahead(iter(range(7)))) == list(range(7))


def test_another_seed_gives_another_order() -> None:
    first, second = (
        next(iter(BatchStream(rows_of([5] * 60), layout=Form(tokens=80, most=1), seed=seed).from_position(Position())))[
            2
        ]
        for seed in (0, 1)
    )
    assert first.input_ids.tolist() != second.input_ids.tolist()


def test_a_training_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="needs rows"):
        BatchStream(rows_of([]), layout=Form(tokens=80, most=1), seed=0)
