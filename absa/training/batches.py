"""Which rows make a step: rows of near-equal length up to a number of tokens, in an order that the seed decides."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from absa.errors import InvalidDataError
from absa.training.choice import Choice, Losses, choose
from absa.training.corpus import Corpus, order_of_pass
from absa.training.shards import ShardCorpus
from absa.training.tokens import SPECIAL_TOKENS, Index, TokenRows

CHUNK_ROWS: Final = 16_384  # rows are composed, sorted by length and cut within chunks of so many
_POOL_BATCHES: Final = 24  # and within a chunk in pools of so many batches: little padding, much chance

Compose = Callable[[TokenRows, np.random.Generator], TokenRows]


@dataclass(frozen=True)
class Batch:
    """One step's rows, padded to the longest of them. `mask` is None where no row is padded."""

    input_ids: npt.NDArray[np.int64]  # (B, T)
    token_types: npt.NDArray[np.int64]  # (B, T)
    mask: npt.NDArray[np.bool_] | None  # (B, T)
    labels: npt.NDArray[np.int64]  # (B,)
    tokens: int  # real ones
    targets: npt.NDArray[np.float32] | None = None  # (B, 3), where a teacher says more than the label does


class Position(NamedTuple):
    """The next batch of a training: pass over the data, chunk of the pass, batch of the chunk; all from 0."""

    epoch: int = 0
    chunk: int = 0
    batch: int = 0


def chunk_rows_of(batch_tokens: int) -> int:
    """Rows of a chunk: enough of them for batches of that size."""
    return max(CHUNK_ROWS, 2 * batch_tokens)


def cut(lengths: Index, batch_tokens: int, *, padding: bool) -> list[Index]:
    """Cut rows, sorted by length, into batches of at most that many tokens with their padding.

    A row that is longer is a batch of its own. Every row stands in exactly one batch. Without padding a batch holds
    rows of one length, so nothing is masked; that takes enough rows of each length to fill batches.
    """
    order = np.argsort(lengths, kind="stable")
    if not padding:
        return _cut_equal(lengths[order], order, batch_tokens)
    batches: list[Index] = []
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * int(lengths[order[end]]) > batch_tokens:
            batches.append(order[begin:end])
            begin = end
    return batches


def _cut_equal(lengths: Index, order: Index, batch_tokens: int) -> list[Index]:
    starts = np.flatnonzero(np.diff(lengths, prepend=-1))
    batches: list[Index] = []
    for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
        rows = max(1, batch_tokens // int(lengths[start]))
        batches.extend(order[begin : min(begin + rows, stop)] for begin in range(start, stop, rows))
    return batches


def plan(lengths: Index, batch_tokens: int, chance: np.random.Generator, *, padding: bool) -> list[Index]:
    """Cut rows into batches of like length, with padding or of one length, in random order and with random company."""
    if not len(lengths):
        return []
    order = chance.permutation(len(lengths))
    pool = max(1, int(_POOL_BATCHES * batch_tokens / float(lengths.mean()))) if padding else len(order)
    batches: list[Index] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        batches.extend(rows[each] for each in cut(lengths[rows], batch_tokens, padding=padding))
    return [batches[index] for index in chance.permutation(len(batches))]


def assemble(rows: TokenRows, index: Index) -> Batch:
    """Write some rows as `[CLS] text [SEP] aspect [SEP]`, padded with 0. No loop over rows."""
    first, separator = rows.special
    picked = rows.take(index)
    count = len(picked)
    texts, aspects = np.diff(picked.text_ends, prepend=0), np.diff(picked.aspect_ends, prepend=0)
    lengths = texts + aspects + SPECIAL_TOKENS
    width = int(lengths.max())
    input_ids = np.zeros(count * width, np.int64)
    row_starts = np.arange(count) * width
    for values, ends, sizes, offsets in (
        (picked.texts, picked.text_ends, texts, row_starts + 1),
        (picked.aspects, picked.aspect_ends, aspects, row_starts + texts + 2),
    ):
        input_ids[np.arange(len(values)) + np.repeat(offsets - (ends - sizes), sizes)] = values
    input_ids[row_starts] = first
    input_ids[row_starts + texts + 1] = separator
    input_ids[row_starts + lengths - 1] = separator
    places = np.arange(width)[None, :]
    present = places < lengths[:, None]
    token_types = ((places >= texts[:, None] + 2) & present).astype(np.int64)
    return Batch(
        input_ids.reshape(count, width),
        token_types,
        present if lengths.min() < width else None,
        picked.labels.astype(np.int64),
        int(lengths.sum()),
        picked.targets,
    )


def for_scoring(rows: TokenRows, batch_tokens: int = 2_048) -> Iterator[tuple[Index, Batch]]:
    """All rows once in batches of like length: (indices, batch)."""
    for index in cut(rows.lengths, batch_tokens, padding=True):
        yield index, assemble(rows, index)


class BatchStream:
    """Endless batches of a training. Equal rows, seed, choice and position give equal batches, whatever the machine.

    A pass goes through the rows chunk by chunk; the next chunk is read, chosen, composed and cut in a thread while this
    one is learned from.
    """

    def __init__(
        self, rows: Corpus, *, batch_tokens: int, padding: bool = True, seed: int, compose: Compose | None = None,
        chunk_rows: int = CHUNK_ROWS, prefer_new: bool = False, choice: Choice | None = None,
        losses: Losses | None = None,
    ) -> None:  # fmt: skip
        if not len(rows):
            raise ValueError("a training needs rows")
        self._rows, self._seed, self._compose = rows, seed, compose
        self._batch_tokens, self._padding, self._prefer_new = batch_tokens, padding, prefer_new
        self._choice, self._losses = choice or Choice(chunk_rows=chunk_rows), losses
        self._chunk_rows = self._choice.chunk_rows * self._choice.pool
        self._chunks = -(-len(rows) // self._chunk_rows)
        self._order: tuple[int, Index] | None = None

    def from_position(self, position: Position) -> Iterator[tuple[Position, float, Batch]]:
        """Batches from a position on: (the position after it, share of the pass that is over then, the batch).

        Raises:
            InvalidDataError: a whole pass has no row to learn from.
        """
        empty = 0
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as ahead:
            at, first = (position.epoch, position.chunk), position.batch
            coming = ahead.submit(self._prepare, *at)
            while True:
                rows, planned = coming.result()
                epoch, chunk = at
                at = (epoch, chunk + 1) if chunk + 1 < self._chunks else (epoch + 1, 0)
                empty = 0 if planned else empty + 1
                if empty > self._chunks:
                    raise InvalidDataError("no row was observed since the champion's data were taken: nothing to learn")
                coming = ahead.submit(self._prepare, *at)
                for step in range(first, len(planned)):
                    last = step + 1 == len(planned)
                    after = Position(*at) if last else Position(epoch, chunk, step + 1)
                    share = (chunk + (step + 1) / len(planned)) / self._chunks
                    yield after, share, assemble(rows, planned[step])
                first = 0

    def _prepare(self, epoch: int, chunk: int) -> tuple[TokenRows, list[Index]]:
        start, stop = chunk * self._chunk_rows, (chunk + 1) * self._chunk_rows
        chance = np.random.default_rng((self._seed, epoch, chunk))
        if isinstance(self._rows, ShardCorpus):
            block = self._rows.block(epoch, self._seed, start, stop)
            if self._losses is None:  # tokens are read of the chosen alone
                rows = self._rows.take(block[choose(len(block), self._rows.observed(block), self._choice, chance)])
            else:
                rows = self._rows.take(block)
                rows = rows.take(choose(len(rows), rows.observed, self._choice, chance, self._losses(rows)))
        else:
            if self._order is None or self._order[0] != epoch:
                order = order_of_pass(len(self._rows), self._seed, epoch, prefer_new=self._prefer_new)
                self._order = (epoch, order)
            rows = self._rows.take(self._order[1][start:stop])
        if self._compose is not None and len(rows):
            rows = self._compose(rows, chance)
        return rows, plan(rows.lengths, self._batch_tokens, chance, padding=self._padding)
