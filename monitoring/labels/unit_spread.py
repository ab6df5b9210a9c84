"""Spread of the share of right answers between units that return.

Units differ in their share of right answers, and a unit has about the same share in all of its windows. Windows with
the same units therefore have a common part of their error, which no number of windows averages out. The variance of
this part is the covariance of two right answers of one unit in different windows, times the chance that two labels are
of one unit. It equals the variance of a cluster-robust mean, less the variance that independent labels have too.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl

from absa.task import ABSA, TaskSpec
from monitoring.drift.sample import Floats, Ints, sample_of
from monitoring.labels.habits import is_right
from monitoring.traffic.cycles import WINDOW_START


@dataclass(frozen=True, kw_only=True)
class UnitSpread:
    """Spread between the units of the last windows.

    `covariance` is the covariance of two right answers of a unit in different windows, 0 to 0.25. `meeting` is the
    chance that two labels of different windows are of one unit. `shares` (k,) has the share of all labels that each of
    `units` (k,) gave.
    """

    covariance: float = 0.0
    meeting: float = 0.0
    units: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    shares: Floats = field(default_factory=lambda: np.zeros(0))

    def variance(self, baseline: Ints) -> float:
        """Return the variance that units add to the gap between a baseline's share of right answers and the windows'.

        Args:
            baseline: units of the baseline, each once; empty if the baseline has other units.
        """
        common = float(self.shares[np.isin(self.units, baseline)].sum()) / max(len(baseline), 1)
        return self.covariance * max(0.0, self.meeting - 2.0 * common)


ALIKE: Final = UnitSpread()
"""Spread without differences between units, or without units that return."""


def unit_spread(reference: pl.DataFrame | None, last: pl.DataFrame | None, task: TaskSpec = ABSA) -> UnitSpread:
    """Return the spread between units.

    Args:
        reference: labelled rows from before, with the start of their window; None without any.
        last: rows of the last windows, in the same form.
        task: task of the home.
    """
    answers = [_Answers.of(rows, task) for rows in (reference, last) if rows is not None]
    pairs = sum(each.pairs for each in answers)
    if last is None or pairs == 0:
        return ALIKE
    covariance = sum(each.products for each in answers) / pairs
    now = answers[-1]
    apart = now.unit.size**2 - float((np.bincount(now.window) ** 2).sum())
    counts = np.bincount(now.unit)
    return UnitSpread(
        covariance=min(max(covariance, 0.0), 0.25),
        meeting=now.pairs / apart if apart else 0.0,
        units=now.units,
        shares=counts / max(counts.sum(), 1),
    )


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """First unsolicited label of each unit in each window (n,): unit, window, and 1 if the answer was right, else 0.

    `unit` and `window` are numbers; `units` (k,) has the groups that `unit` indexes.
    """

    units: Ints
    unit: Ints
    window: Ints
    right: Floats

    @classmethod
    def of(cls, rows: pl.DataFrame, task: TaskSpec) -> "_Answers":
        known = rows.filter(
            pl.col("feedback_label").is_not_null()
            & pl.col("sampling_probability").is_null()
            & pl.col("label").is_not_null()
            & pl.col("scores").is_not_null()
        )
        sample = sample_of(known, task)
        units, unit = np.unique(sample.groups, return_inverse=True)
        _, window = np.unique(known[WINDOW_START].dt.epoch("us").to_numpy(), return_inverse=True)
        _, first = np.unique(unit * (window.max(initial=0) + 1) + window, return_index=True)
        return cls(
            units=units, unit=unit[first], window=window[first], right=is_right(sample)[first].astype(np.float64)
        )

    @property
    def pairs(self) -> int:
        """Number of ordered pairs of a unit's labels in different windows."""
        counts = np.bincount(self.unit)
        return int((counts * (counts - 1)).sum())

    @property
    def products(self) -> float:
        """Sum over these pairs of the products of both deviations from the mean."""
        if self.unit.size == 0:
            return 0.0
        deviations = self.right - self.right.mean()
        return float((np.bincount(self.unit, weights=deviations) ** 2).sum() - (deviations**2).sum())
