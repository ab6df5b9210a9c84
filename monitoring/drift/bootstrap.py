"""Calibrated two-sample tests: statistics of a gap between means, compared with a bootstrap over units.

The unit is the independent piece of evidence, not the row: the rows of a unit may repeat a topic, come in sessions, and
be in the reference, in the window, or in both. A unit's part in the gap is the sum of its rows' parts, so behaviour
that is equal on both sides cancels. A draw multiplies each unit's part by a random number of mean 0, variance 1 and
skewness 1 (wild cluster bootstrap with two-point weights: Mammen 1993, 'Bootstrap and wild bootstrap for high
dimensional linear models'; Cameron, Gelbach and Miller 2008). The result is a gap that chance alone makes. All draws of
a batch are one matrix product. p-values are those of Besag and Clifford (1991, Biometrika 78, 301): drawing stops early
once `ENOUGH` draws are as extreme as the observed statistic.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from monitoring.drift.sample import Bools, Floats, Ints

ENOUGH: Final = 20
_BATCH_CELLS: Final = 4_000_000
_BATCH: Final = 256
_FIRST_BATCH: Final = 64
_ROOT: Final = 5.0**0.5
_LOW: Final = np.float32((1.0 - _ROOT) / 2.0)
_HIGH: Final = np.float32((1.0 + _ROOT) / 2.0)
_OFTEN: Final = np.float32((_ROOT + 1.0) / (2.0 * _ROOT))  # probability of the low factor; makes the mean 0

Statistic = Callable[[Floats], Floats]
"""Gaps between the means of window and reference (k, B) -> (B,); larger values mean more drift."""


@dataclass(frozen=True, kw_only=True)
class Test:
    """One column: each row's part in the gap between the means of window and reference, and the statistic of gaps.

    `parts` is (n, k), dense or sparse; their sum over rows is the observed gap unless `gap` (k,) gives another. If
    centring would make a sparse matrix dense, `parts` are not centred: `means` (k,) then holds the means over both
    sides, and `weights` (n,) the weights of the rows.
    """

    __test__ = False  # not a test case
    parts: Any
    statistic: Statistic
    means: Floats | None = None
    weights: Floats | None = None
    gap: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """Result of a test; `threshold` is the value that chance exceeds at the requested rate, from the draws."""

    __test__ = False
    statistic: float
    threshold: float
    p_value: float
    draws: int


def bootstrap_tests(tests: Mapping[str, Test], groups: Ints, *, rate: float, seed: int = 0) -> dict[str, TestResult]:
    """Return the p-value of each test that window and reference have equal means.

    Args:
        tests: columns by name, over the same n rows.
        groups: (n,) unit of each row; rows of one unit depend on each other, on either side.
        rate: false-alarm rate over all tests together; decides how finely p-values must resolve.
        seed: seed of the draws.
    """
    rng = np.random.default_rng(seed)
    unit = _units(groups)
    n_units = int(unit.max()) + 1
    limit = max(199, int(np.ceil(3 * len(tests) / rate)))
    largest = int(np.clip(_BATCH_CELLS // n_units, 16, _BATCH))
    batch = min(_FIRST_BATCH, largest)  # enough for most columns without drift
    summed = {name: _of_units(test, unit, n_units) for name, test in tests.items()}
    seen = {name: float(test.statistic(_observed(test))[0]) for name, test in summed.items()}
    drawn: dict[str, list[Floats]] = {name: [] for name in tests}
    extreme = dict.fromkeys(tests, 0)
    done = 0
    while done < limit and any(count < ENOUGH for count in extreme.values()):
        size = min(batch, limit - done)
        factors = np.where(rng.random((n_units, size), dtype=np.float32) < _OFTEN, _LOW, _HIGH)
        for name, test in summed.items():
            if extreme[name] < ENOUGH:
                values = test.statistic(_gaps(test, factors))
                extreme[name] += int(_reaches(values, seen[name]).sum())
                drawn[name].append(values)
        done += size
        batch = min(2 * batch, largest)
    return {name: _result(seen[name], np.concatenate(drawn[name]), rate / max(len(tests), 1), limit) for name in tests}


def _units(groups: Ints) -> Ints:
    """Return each row's unit as a number, by first appearance, so that draws do not depend on ids."""
    _, first, unit = np.unique(groups, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return np.asarray(place[unit])


def _of_units(test: Test, unit: Ints, n_units: int) -> Test:
    """Return the test with the parts of each unit's rows summed."""
    if n_units == len(unit):
        return test
    from scipy import sparse

    rows = len(unit)
    membership = sparse.csr_array((np.ones(rows, dtype=np.float32), (unit, np.arange(rows))), shape=(n_units, rows))
    weights = None if test.weights is None else membership @ test.weights
    return Test(
        parts=membership @ test.parts, statistic=test.statistic, means=test.means, weights=weights, gap=test.gap
    )


def _observed(test: Test) -> Floats:
    """Return the gap (k, 1) between window and reference."""
    if test.gap is not None:
        return test.gap[:, None]
    return _gaps(test, np.ones((test.parts.shape[0], 1), dtype=np.float32))


def _gaps(test: Test, factors: npt.NDArray[np.float32]) -> Floats:
    """Return the gaps (k, B) that factors of units (U, B) give."""
    gaps = np.asarray(test.parts.T @ factors, dtype=np.float64)
    if test.means is None or test.weights is None:
        return gaps
    return gaps - np.outer(test.means, test.weights @ factors)


def _reaches(values: Floats, seen: float) -> Bools:
    return np.asarray(values >= seen - 1e-9 * max(1.0, abs(seen)))


def _result(seen: float, drawn: Floats, rate: float, limit: int) -> TestResult:
    reached = np.flatnonzero(np.cumsum(_reaches(drawn, seen)) >= ENOUGH)
    if len(reached):
        draws = int(reached[0]) + 1
        p_value = ENOUGH / draws
    else:
        draws = min(len(drawn), limit)
        p_value = (int(_reaches(drawn, seen).sum()) + 1) / (draws + 1)
    threshold = float(np.quantile(drawn, 1.0 - rate, method="higher"))
    return TestResult(statistic=seen, threshold=threshold, p_value=min(p_value, 1.0), draws=draws)


def rate_per_window(*, alarms: float, period_s: float, window_s: float) -> float:
    """Return the rate per window that gives at most `alarms` false alarms in a period of `period_s` seconds.

    One alarm per month with hourly windows is 1/720.

    Raises:
        ValueError: an argument is not positive.
    """
    if min(alarms, period_s, window_s) <= 0:
        raise ValueError(f"expected positive alarms, period_s and window_s, got {alarms:g}, {period_s:g}, {window_s:g}")
    return min(alarms * window_s / period_s, 0.5)
