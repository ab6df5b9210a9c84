"""Comparison of the p99 latency of two arms, by blocks of time.

A stall of a busy machine slows all requests of a moment, so requests are not independent: a few stalls that hit one arm
would look like a slow version. Blocks of time are therefore the independent observations (ratio estimator over
clusters, Cochran 1977, chapter 6). Only blocks in which both arms answered are compared.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

BLOCK_S: Final = 5.0
MAX_BLOCKS: Final = 100
MIN_BLOCKS: Final = 5
_SURE: Final = 1.0 - 0.00135  # one side of three standard errors
_SLOW_SHARE: Final = 0.01
_CANDIDATES: Final = 60

_Floats = npt.NDArray[np.floating[Any]]
_Integers = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class ArmLatency:
    """The p99 latency of champion and challenger in ms, over the blocks in which both answered; None: unknown.

    `low_ms` is a latency that the challenger's p99 surely reaches, and that more of the challenger's answers surely
    reach than of the champion's.
    """

    champion_ms: float | None = None
    challenger_ms: float | None = None
    low_ms: float | None = None


def compare_latency(rows: pl.DataFrame) -> ArmLatency:
    """Return the p99 latency of both arms.

    Blocks are 5 s long, or a hundredth of the time that `rows` cover. With fewer than 5 blocks `low_ms` is None.

    Args:
        rows: answers with the columns at, latency_ms and challenger (False: the champion's).
    """
    known = rows.filter(pl.col("latency_ms").is_not_null())
    if known.height == 0:
        return ArmLatency()
    seconds = (known["at"] - known["at"].min()).dt.total_microseconds().to_numpy() / 1e6
    block = (seconds // max(BLOCK_S, seconds.max() / MAX_BLOCKS)).astype(np.int64)
    known = known.with_columns(pl.Series("block", block))
    mine, others = known.filter(pl.col("challenger")), known.filter(~pl.col("challenger"))
    shared = np.intersect1d(mine["block"], others["block"])
    if len(shared) == 0:
        return ArmLatency()
    mine, others = (arm.filter(pl.col("block").is_in(shared)) for arm in (mine, others))
    return _compare(
        mine["latency_ms"].to_numpy().astype(np.float64),
        np.searchsorted(shared, mine["block"].to_numpy()),
        others["latency_ms"].to_numpy().astype(np.float64),
        np.searchsorted(shared, others["block"].to_numpy()),
    )


def _compare(mine: _Floats, my_blocks: _Integers, others: _Floats, other_blocks: _Integers) -> ArmLatency:
    sizes = np.bincount(my_blocks)
    weights = sizes / np.bincount(other_blocks)  # spreads the champion's answers over time like the challenger's
    order = np.argsort(others)
    reached = np.cumsum(weights[other_blocks][order])
    place = np.searchsorted(reached, (1.0 - _SLOW_SHARE) * reached[-1])
    candidates = np.quantile(mine, 1.0 - np.geomspace(1.0, _SLOW_SHARE, _CANDIDATES))
    sure: list[float] = []
    if len(sizes) >= MIN_BLOCKS:
        errors = float(stats.t.ppf(_SURE, len(sizes) - 1))
        for value in np.unique(candidates):
            slow = np.bincount(my_blocks[mine >= value], minlength=len(sizes))
            slow_others = np.bincount(other_blocks[others >= value], minlength=len(sizes)) * weights
            if _low(slow, sizes, errors) > _SLOW_SHARE and _low(slow - slow_others, sizes, errors) > 0:
                sure.append(float(value))
    return ArmLatency(
        champion_ms=float(others[order][place]),
        challenger_ms=float(candidates[-1]),
        low_ms=max(sure, default=None),
    )


def _low(counts: _Floats | _Integers, sizes: _Integers, errors: float) -> float:
    """Return the share in all blocks together, less `errors` standard errors (over blocks)."""
    share = counts.sum() / sizes.sum()
    rest = counts - share * sizes
    error = sqrt(float(rest @ rest) * len(sizes) / (len(sizes) - 1)) / sizes.sum()
    return float(share - errors * error)
