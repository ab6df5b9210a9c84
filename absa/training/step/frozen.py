"""Output of frozen layers, kept by row, because layers that do not learn have the same output in every pass."""

from typing import Final

import torch
from torch import Tensor

MOST_BYTES: Final = 1e9  # largest size of kept states; further rows are computed in every pass
MOST_SHARE: Final = 0.25  # largest share of the available memory
_DTYPE: Final = torch.float16  # norms give values of about 1, so rounding changes them by 0.05 % at most


class FrozenStates:
    """Output vectors of the frozen layers, for each token of the rows of earlier batches.

    Rows that are made for a single pass have no number and are never kept.

    Args:
        rows: rows of the corpus.
        width: length of a vector.
        capacity: largest number of tokens to keep; the operating system provides the memory when it is used.
    """

    def __init__(self, *, rows: int, width: int, capacity: int) -> None:
        self._starts = torch.zeros(rows + 1, dtype=torch.int64)  # first state of each row; 0: none; last entry: row -1
        self._states = torch.empty((capacity + 1, width), dtype=_DTYPE)
        self._states[0] = 0.0  # read where there is no token: any finite value
        self._used = 1

    @property
    def tokens(self) -> int:
        """Number of tokens that are kept."""
        return self._used - 1

    def read(self, numbers: Tensor, rows: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states (L, T, H) in fp32, and True at tokens of rows that are not kept (L, T).

        The states are zero at these tokens, and where there is no token.

        Args:
            numbers: numbers of each line's rows in the corpus, -1 for none (L, R).
            rows: number of each token's row in its line, -1 where there is no token (L, T).
            places: place of each token in its row (L, T).
        """
        starts = self._starts[_of_tokens(numbers, rows)]
        at = torch.where((rows >= 0) & (starts > 0), starts + places, 0)
        states = self._states.index_select(0, at.flatten()).float()
        return states.view(*at.shape, -1), (rows >= 0) & (starts == 0)

    def write(self, numbers: Tensor, rows: Tensor, places: Tensor, states: Tensor) -> None:
        """Keep the states (L, T, H) of the rows that have a number and are new, if there is room for all of them."""
        of = _of_tokens(numbers, rows)
        new = (rows >= 0) & (of >= 0) & (self._starts[of] == 0)
        fresh = states[new]
        stop = self._used + len(fresh)
        if stop > len(self._states):
            return
        self._states[self._used : stop] = fresh.to(_DTYPE)
        first = (places[new] == 0).nonzero()[:, 0]  # tokens of a row are consecutive
        self._starts[of[new][first]] = self._used + first
        self._used = stop


def _of_tokens(numbers: Tensor, rows: Tensor) -> Tensor:
    """Return the number of each token's row in the corpus, -1 for none (L, T)."""
    return numbers.gather(1, rows.clamp(min=0).long())


def capacity_tokens(*, width: int, rows: int, max_tokens: int, available_bytes: float | None) -> int:
    """Return the largest number of tokens whose states can be kept in the permitted memory.

    Args:
        width: length of a vector.
        rows: number of rows of the corpus.
        max_tokens: largest number of tokens of a row.
        available_bytes: memory that the process can still get; None: unknown.
    """
    free = MOST_BYTES if available_bytes is None else min(MOST_BYTES, MOST_SHARE * available_bytes)
    return min(int(free / (width * _DTYPE.itemsize)), rows * max_tokens)
