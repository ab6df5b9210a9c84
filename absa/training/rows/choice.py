"""Choice of the rows to learn from if not all fit into the time; newer rows are preferred.

A pass reads the data chunk by chunk, with `pool` candidates for every row that it learns from, and picks among them. So
a pass ends at about the planned end of the training, for any size of the data, and reads no row twice.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from absa.training.rows.tokens import Index

CHUNK_ROWS: Final = 16_384  # rows are picked, joined and cut into batches within chunks of at least so many rows
MOST_CANDIDATES: Final = 8  # per row; with more, the choice is hardly better and reading takes longer
_FEWEST_ROWS: Final = 1_024  # of a chunk, for batches of similar length
_OLDEST_WEIGHT: Final = 0.25  # weight of the oldest row, relative to the newest


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Rule that picks rows. Equal choice, seed and data give equal rows, so a run that starts again keeps its choice.

    Attributes:
        pool: number of candidates per picked row, 1 to 8; 1: all rows are picked.
        chunk_rows: number of rows that are picked at a time.
        since: rows observed later (seconds since the epoch) are recent; None: unknown.
        replay: largest number of established rows per recent row; None: all.
    """

    pool: float = 1.0
    chunk_rows: int = CHUNK_ROWS
    since: float | None = None
    replay: float | None = None

    def fitted(self, *, rows: int, fits: float) -> "Choice":
        """Return the choice for a pass over `rows` rows, if the time is enough for `fits` of them."""
        fits = max(fits, 1.0)
        chunk = int(np.clip(2.0 ** np.ceil(np.log2(fits)), _FEWEST_ROWS, self.chunk_rows))
        return replace(self, chunk_rows=chunk).corrected(rows=rows, fits=fits)

    def corrected(self, *, rows: int, fits: float) -> "Choice":
        """Return the choice for the rest of a pass: `rows` rows are left, and the time is enough for `fits` of them."""
        return replace(self, pool=float(np.clip(rows / max(fits, 1.0), 1.0, MOST_CANDIDATES)))

    @property
    def candidates(self) -> int:
        """Number of candidates of a chunk."""
        return max(1, round(self.chunk_rows * self.pool))

    def to_json(self) -> dict[str, Any]:
        """Return the fields for a checkpoint."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Read the fields from a checkpoint; further fields of earlier releases are ignored."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


def chunk_rows_of(batch_tokens: int) -> int:
    """Return the number of rows of a chunk, which is enough for batches of the given size."""
    return max(CHUNK_ROWS, 2 * batch_tokens)


def choose(rows: int, observed: npt.NDArray[Any] | None, choice: Choice, chance: np.random.Generator) -> Index:
    """Pick among candidates, in random order.

    Established rows above their share are left out first. The weight of the remaining rows rises linearly from the
    oldest to the newest.
    """
    wanted = math.ceil(round(rows / choice.pool, 6))
    left = chance.permutation(rows)
    if choice.replay is not None and choice.since is not None:
        recent = np.zeros(rows, np.bool_) if observed is None else np.asarray(observed > choice.since)[left]
        allowed = round(choice.replay * int(recent.sum()))
        left = left[recent | (np.cumsum(~recent) <= allowed)]
    if choice.pool <= 1 or len(left) <= wanted:
        return left
    best = np.argpartition(-_keys(_by_age(observed, left), chance), wanted - 1)[:wanted]
    return left[np.sort(best)]


def _keys(weights: npt.NDArray[np.float64], chance: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return random keys; the rows with the highest keys are a weighted sample without replacement.

    Efraimidis and Spirakis 2006, https://doi.org/10.1016/j.ipl.2005.11.003.
    """
    keys: npt.NDArray[np.float64] = np.log(np.maximum(chance.random(len(weights)), 1e-300)) / np.maximum(weights, 1e-9)
    return keys


def _by_age(observed: npt.NDArray[Any] | None, index: Index) -> npt.NDArray[np.float64]:
    if observed is None:
        return np.ones(len(index))
    seen = observed[index].astype(np.float64)
    span = float(np.ptp(seen))
    share = (seen - seen.min()) / span if span else np.ones(len(index))
    return np.asarray(_OLDEST_WEIGHT + (1.0 - _OLDEST_WEIGHT) * share)
