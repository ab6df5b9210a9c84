"""Calibrated two-sample tests: statistics of group sums, held against permutations at the samples' real sizes.

Every statistic here is a function of the sums of fixed per-row features over the current window, so that a batch of
permutations is one matrix product; where groups look alike to a statistic, as they do to counts of a few classes, a
permutation is drawn as the number of groups of each kind. Whole groups (a unit's rows, a text's rows) are permuted,
never single rows of them. p-values are those of Besag and Clifford (1991, Biometrika 78, 301): drawing stops early once
`ENOUGH` draws are as extreme as what was seen, and the p-value stays exact.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from monitoring.drift.sample import Floats, Ints

ENOUGH: Final = 20
_BATCH_CELLS: Final = 4_000_000
_BATCH: Final = 256
_FIRST_BATCH: Final = 64
_NARROW: Final = 100
_MAX_KINDS: Final = 256
_RISE: Final = 2.5

Statistic = Callable[[Floats, Floats, Floats, Floats], Floats]
"""(sums over the current rows (k, B), sums over all rows (k,), current sizes (B,), reference sizes (B,)) -> (B,)."""


class Features(Protocol):
    """A (n, k) matrix, dense or sparse, that can be multiplied from the left."""

    @property
    def T(self) -> "Features": ...  # noqa: N802 - numpy's and scipy's name

    def __matmul__(self, other: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True)
class Test:
    """One column's features over reference and current rows together, and what is measured on their sums."""

    __test__ = False  # not a test case
    features: Features
    statistic: Statistic


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """`p_value` is exact; `threshold` is the value that chance exceeds at the asked rate, from the draws made."""

    __test__ = False
    statistic: float
    threshold: float
    p_value: float
    draws: int


def permutation_tests(
    tests: Mapping[str, Test], groups: Ints, current: npt.NDArray[np.bool_], *, rate: float, seed: int = 0
) -> dict[str, TestResult]:
    """Return the p-value of each test that current and reference rows are alike.

    Args:
        tests: named features of shape (n, k) with their statistic; larger values mean more drift.
        groups: (n,) which rows hang together; a group lies wholly in the reference or wholly in the current window.
        current: (n,) whether a row belongs to the current window.
        rate: false-alarm rate over all tests together; decides how finely p-values must resolve.
        seed: of the permutations.
    """
    rng = np.random.default_rng(seed)
    _, group = np.unique(groups, return_inverse=True)
    of_group = np.zeros(int(group.max()) + 1, dtype=bool)
    of_group[group] = current
    n_groups, n_current = len(of_group), int(of_group.sum())
    alone = np.array_equal(group, np.arange(n_groups))  # every row is a group of its own: nothing to look up
    limit = max(199, int(np.ceil(3 * len(tests) / rate)))
    largest = int(np.clip(_BATCH_CELLS // max(len(group), 1), 16, _BATCH))
    batch = min(_FIRST_BATCH, largest)  # most columns without drift have seen enough after so few
    everything = np.ones((len(group), 1), dtype=np.float32)
    totals = {name: _sums(test.features, everything)[:, 0] for name, test in tests.items()}
    observed = current[:, None].astype(np.float32)
    seen = {name: float(_measure(tests[name], totals[name], observed)[0]) for name in tests}
    drawn: dict[str, list[Floats]] = {name: [] for name in tests}
    extreme = dict.fromkeys(tests, 0)

    def count(name: str, values: Floats) -> bool:
        """Add draws of a test, and say whether it has seen enough."""
        drawn[name].append(values)
        extreme[name] += int((values >= seen[name] - 1e-9 * max(1.0, abs(seen[name]))).sum())
        return extreme[name] >= ENOUGH

    open_tests = list(tests)
    done = 0
    while open_tests and done < limit:
        size = min(batch, limit - done)
        ranks = rng.random((size, n_groups), dtype=np.float32)
        last = np.partition(ranks, n_current - 1, axis=1)[:, n_current - 1 :][:, :1]
        chosen = ranks <= last  # a tie, one draw in thousands, lets one group more in
        membership = (chosen if alone else chosen[:, group]).astype(np.float32).T
        open_tests = [name for name in open_tests if not count(name, _measure(tests[name], totals[name], membership))]
        first, done = done == 0, done + size
        batch = min(2 * batch, largest)
        for name in open_tests if first else ():
            kinds = _kinds_of(tests[name].features, group, n_groups)
            if kinds is not None:
                _draw_by_kind(kinds, tests[name], totals[name], n_current, rng, partial(count, name), limit - done)
                open_tests = [other for other in open_tests if other != name]
    return {name: _result(seen[name], np.concatenate(drawn[name]), rate / max(len(tests), 1), limit) for name in tests}


@dataclass(frozen=True, kw_only=True)
class _Kinds:
    """Groups that look alike to a test: how many of each kind there are, their summed features with the rows last."""

    counts: Ints  # (kinds,)
    sums: Floats  # (kinds, k + 1)


def _kinds_of(features: Features, group: Ints, n_groups: int) -> _Kinds | None:
    """Return the kinds of groups of a test with few features; None where there are too many to be worth it."""
    if not isinstance(features, np.ndarray) or features.shape[1] > _NARROW:
        return None
    rows = np.concatenate([features, np.ones((len(features), 1), features.dtype)], axis=1)
    if n_groups < len(group):
        order = np.argsort(group, kind="stable")
        rows = np.add.reduceat(rows[order], np.searchsorted(group[order], np.arange(n_groups)), axis=0)
    as_bytes = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    _, first, counts = np.unique(as_bytes, return_index=True, return_counts=True)
    if len(counts) > _MAX_KINDS:
        return None
    return _Kinds(counts=counts.astype(np.int64), sums=rows[first].astype(np.float64))


def _draw_by_kind(
    kinds: _Kinds,
    test: Test,
    totals: Floats,
    n_current: int,
    rng: np.random.Generator,
    enough: Callable[[Floats], bool],
    draws: int,
) -> None:
    """Permutations by how many groups of each kind they bring into the window: the same chance, far less to move."""
    size = _BATCH
    rows = float(kinds.counts @ kinds.sums[:, -1])
    while draws > 0:
        drawn = rng.multivariate_hypergeometric(kinds.counts, n_current, size=min(size, draws), method="marginals")
        sums = (drawn @ kinds.sums).T  # (k + 1, B)
        if enough(test.statistic(sums[:-1], totals, sums[-1], rows - sums[-1])):
            return
        draws -= drawn.shape[0]
        size = min(2 * size, _BATCH * 8)


def _sums(features: Features, membership: npt.NDArray[np.float32]) -> Floats:
    return np.asarray(features.T @ membership, dtype=np.float64)


def _measure(test: Test, totals: Floats, membership: npt.NDArray[np.float32]) -> Floats:
    n_current = membership.sum(axis=0, dtype=np.float64)
    return test.statistic(_sums(test.features, membership), totals, n_current, len(membership) - n_current)


def _result(seen: float, drawn: Floats, rate: float, limit: int) -> TestResult:
    reached = np.flatnonzero(np.cumsum(drawn >= seen - 1e-9 * max(1.0, abs(seen))) >= ENOUGH)
    if len(reached):
        draws = int(reached[0]) + 1
        p_value = ENOUGH / draws
    else:
        draws = min(len(drawn), limit)
        p_value = (int((drawn >= seen - 1e-9 * max(1.0, abs(seen))).sum()) + 1) / (draws + 1)
    threshold = float(np.quantile(drawn, 1.0 - rate, method="higher"))
    return TestResult(statistic=seen, threshold=threshold, p_value=min(p_value, 1.0), draws=draws)


def rate_per_window(*, alarms: float, period_s: float, window_s: float) -> float:
    """Return the rate a window that gives at most so many false alarms in a period: 1 a month over hours is 1/720.

    Raises:
        ValueError: a number that is not positive.
    """
    if min(alarms, period_s, window_s) <= 0:
        raise ValueError("alarms, period_s and window_s must be positive")
    return min(alarms * window_s / period_s, 0.5)


def chi_square(sums: Floats, totals: Floats, n_current: Floats, n_reference: Floats) -> Floats:
    """Pearson's chi-square of category counts."""
    n = n_current + n_reference
    rate = (totals / n[0])[:, None]
    gap = sums / n_current - (totals[:, None] - sums) / n_reference
    spread = np.maximum(rate * (1.0 - rate), 1e-12) * (1.0 / n_current + 1.0 / n_reference)
    return np.asarray((gap**2 / spread * (1.0 - rate)).sum(axis=0))


def sparse_rise(sums: Floats, totals: Floats, n_current: Floats, n_reference: Floats) -> Floats:
    """Sum of squared z-values of the features that rose by more than 2.5 standard errors: strong where few rose."""
    n = n_current + n_reference
    rate = (totals / n[0])[:, None]
    gap = sums / n_current - (totals[:, None] - sums) / n_reference
    z = gap / np.sqrt(np.maximum(rate * (1.0 - rate), 1e-12) * (1.0 / n_current + 1.0 / n_reference))
    return np.asarray((np.where(z > _RISE, z, 0.0) ** 2).sum(axis=0))


def largest_gap(sums: Floats, totals: Floats, n_current: Floats, n_reference: Floats) -> Floats:
    """Kolmogorov-Smirnov's distance, where features are indicators of lying at or under each cut."""
    return np.asarray(np.abs(sums / n_current - (totals[:, None] - sums) / n_reference).max(axis=0))
