"""Attribution of drift to the mix of units: what no unit on both sides shows comes from those that join or leave. Pure.

The window is compared again over units that the reference has too, with the reference's rows drawn so that every unit
weighs there as much as in the window. A drift that is gone then is a change of the mix. Texts that the reference never
had are never explained so, whatever unit sends them: the model has not seen their like.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from monitoring.drift.detect import DriftReport
from monitoring.drift.sample import Sample

MIN_SHARE: Final = 0.5
"""Of the window's rows from units on both sides: with fewer, their agreement shows too little."""

_GONE_P: Final = 0.01  # of a single column: a change of all units has less, though fewer rows show it
_NEVER_SEEN: Final = frozenset({"unknown_words", "embedding"})


def drift_by_mix(
    found: DriftReport,
    reference: Sample,
    current: Sample,
    test: Callable[[Sample, Sample], DriftReport],
    *,
    seed: int = 0,
) -> frozenset[str]:
    """Return which of the drifted columns the mix of units explains.

    Args:
        found: drift between the samples.
        reference: rows of hours near the window's, so that it has most units.
        current: rows of the window, or of the last ones together.
        test: the test that found it.
        seed: of the draw of the reference's rows.
    """
    both = _of_units_on_both_sides(reference, current, seed)
    if both is None:
        return frozenset()
    kinds = frozenset(f.kind for f in found.drifted) & {f.kind for f in test(*both).findings if f.p_value > _GONE_P}
    return kinds - _NEVER_SEEN


def _of_units_on_both_sides(reference: Sample, current: Sample, seed: int) -> tuple[Sample, Sample] | None:
    order = np.argsort(reference.groups, kind="stable")
    units, starts, counts = np.unique(reference.groups[order], return_index=True, return_counts=True)
    shared = np.flatnonzero(np.isin(current.groups, units))
    if len(shared) < MIN_SHARE * current.rows:
        return None
    rng = np.random.default_rng(seed)
    drawn = np.resize(rng.permutation(shared), max(reference.rows, len(shared)))
    place = np.searchsorted(units, current.groups[drawn])
    rows = order[starts[place] + (rng.random(len(drawn)) * counts[place]).astype(np.int64)]
    return reference.take(np.sort(rows)), current.take(shared)
