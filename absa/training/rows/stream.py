"""Stream of a training's batches: the next chunk is prepared while the model learns from the present chunk."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, NamedTuple, Self, TypeVar

import numpy as np

from absa.errors import InvalidDataError
from absa.training.rows.batches import Batch, Form, Plan
from absa.training.rows.choice import Choice, choose
from absa.training.rows.shards import Corpus, ShardCorpus
from absa.training.rows.tokens import Index, TokenRows

Compose = Callable[[TokenRows, np.random.Generator, bool], TokenRows]
"""Function that joins random rows; it joins fewer rows if its last argument, `scarce`, is True."""
Correct = Callable[[Choice, int, int], Choice]
"""Function (choice of this chunk, candidates after the chunk, rows of the chunk) that returns the next choice."""

_AHEAD: Final = 4  # batches that are prepared in advance
_T = TypeVar("_T")


class Position(NamedTuple):
    """Position of the next batch: pass over the data, first candidate of the chunk, batch of the chunk; all from 0.

    `pool` is the number of candidates per row of the chunk; None: the training's choice.
    """

    epoch: int = 0
    row: int = 0
    batch: int = 0
    pool: float | None = None

    @classmethod
    def restored(cls, values: list[float], choice: Choice) -> Self:
        """Read a checkpoint's position. Earlier releases counted chunks, and had other batches."""
        if len(values) == 3:
            epoch, chunk, _ = (int(value) for value in values)
            return cls(epoch, chunk * choice.candidates)
        epoch, row, batch = (int(value) for value in values[:3])
        return cls(epoch, row, batch, values[3])


class BatchStream:
    """Endless batches of a training. Equal rows, seed, choice and position give equal batches on every machine.

    A pass goes through the rows chunk by chunk. A thread reads, chooses, joins and cuts the next chunk while the model
    learns from the present one.
    """

    def __init__(
        self, rows: Corpus, *, layout: Form, seed: int, compose: Compose | None = None, choice: Choice | None = None,
        correct: Correct = lambda choice, _left, _coming: choice,
    ) -> None:  # fmt: skip
        if not len(rows):
            raise ValueError("a training needs rows")
        self._rows, self._layout, self._seed, self._compose = rows, layout, seed, compose
        self._choice, self._correct = choice or Choice(), correct
        self._order: tuple[int, Index] | None = None

    def from_position(self, position: Position) -> Iterator[tuple[Position, float, Batch]]:
        """Yield batches from a position on: (position after the batch, completed share of the pass after it, batch).

        Raises:
            InvalidDataError: a whole pass has no row to learn from.
        """
        empty, whole = 0, len(self._rows)
        choice = self._choice if position.pool is None else replace(self._choice, pool=position.pool)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="chunks") as ahead:
            (epoch, row), first = position[:2], position.batch
            coming = ahead.submit(self._prepare, epoch, row, choice)
            while True:
                rows, planned = coming.result()
                stop = min(whole, row + choice.candidates)
                empty = 0 if planned else empty + stop - row
                if empty > whole:
                    raise InvalidDataError("no row was observed since the champion's data were taken: nothing to learn")
                after = (epoch, stop) if stop < whole else (epoch + 1, 0)
                later = self._correct(choice, whole - after[1], len(rows))
                coming = ahead.submit(self._prepare, *after, later)
                for step in range(first, len(planned)):
                    last = step + 1 == len(planned)
                    at = Position(*after, 0, later.pool) if last else Position(epoch, row, step + 1, choice.pool)
                    share = (row + (stop - row) * (step + 1) / len(planned)) / whole
                    yield at, share, self._layout.assemble(rows, planned[step])
                (epoch, row), first, choice = after, 0, later

    def _prepare(self, epoch: int, row: int, choice: Choice) -> tuple[TokenRows, list[Plan]]:
        start, stop = row, row + choice.candidates
        chance = np.random.default_rng((self._seed, epoch, row))
        if isinstance(self._rows, ShardCorpus):
            block = self._rows.block(epoch, self._seed, start, stop)
            picked = block[choose(len(block), self._rows.observed(block), choice, chance)]
        else:
            if self._order is None or self._order[0] != epoch:
                self._order = (epoch, np.random.default_rng((self._seed, epoch)).permutation(len(self._rows)))
            picked = self._order[1][start:stop]
        rows = replace(self._rows.take(picked), numbers=picked)
        if self._compose is not None and len(rows):
            rows = self._compose(rows, chance, choice.pool > 1)
        return rows, self._layout.plan(rows.lengths, chance)


def made_ahead(source: Iterator[_T]) -> Generator[_T, None, None]:
    """Yield the items of a source, which a thread makes in advance; an error is raised at the place of its item."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as thread:
        coming = deque(thread.submit(next, source) for _ in range(_AHEAD))
        try:
            while True:
                try:
                    item = coming.popleft().result()
                except StopIteration:
                    return
                coming.append(thread.submit(next, source))
                yield item
        finally:
            thread.shutdown(wait=True, cancel_futures=True)
