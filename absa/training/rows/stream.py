"""Batches of a training, one after another: the next chunk is prepared while this one is learned from."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from absa.errors import InvalidDataError
from absa.training.rows.batches import Batch, assemble, plan
from absa.training.rows.choice import Choice, choose
from absa.training.rows.shards import Corpus, ShardCorpus
from absa.training.rows.tokens import Index, TokenRows

Compose = Callable[[TokenRows, np.random.Generator], TokenRows]


class Position(NamedTuple):
    """The next batch of a training: pass over the data, chunk of the pass, batch of the chunk; all from 0."""

    epoch: int = 0
    chunk: int = 0
    batch: int = 0


class BatchStream:
    """Endless batches of a training. Equal rows, seed, choice and position give equal batches, whatever the machine.

    A pass goes through the rows chunk by chunk; the next chunk is read, chosen, composed and cut in a thread while this
    one is learned from.
    """

    def __init__(
        self, rows: Corpus, *, batch_tokens: int, padding: bool = True, seed: int, compose: Compose | None = None,
        choice: Choice | None = None,
    ) -> None:  # fmt: skip
        if not len(rows):
            raise ValueError("a training needs rows")
        self._rows, self._seed, self._compose = rows, seed, compose
        self._batch_tokens, self._padding = batch_tokens, padding
        self._choice = choice or Choice()
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
            rows = self._rows.take(block[choose(len(block), self._rows.observed(block), self._choice, chance)])
        else:
            if self._order is None or self._order[0] != epoch:
                self._order = (epoch, np.random.default_rng((self._seed, epoch)).permutation(len(self._rows)))
            rows = self._rows.take(self._order[1][start:stop])
        if self._compose is not None and len(rows):
            rows = self._compose(rows, chance)
        return rows, plan(rows.lengths, self._batch_tokens, chance, padding=self._padding)
