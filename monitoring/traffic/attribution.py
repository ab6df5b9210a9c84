"""Attribution of drift to the mix of units, that is, to units that join or leave. Pure.

The window is compared again, over units that the reference has too. The reference's rows are drawn so that every unit
has the same weight as in the window. If this comparison finds no drift, the drift is a change of the mix. New texts are
never explained by the mix, because the model has not seen such texts from any unit.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from monitoring.drift.detect import DriftReport
from monitoring.drift.sample import Sample

MIN_SHARE: Final = 0.5
"""Share of the window's rows that units on both sides must have; with a smaller share no column is explained."""

_GONE_P: Final = 0.01  # per column: a change of all units has a smaller p-value, although fewer rows show it
_NEVER_SEEN: Final = frozenset({"unknown_words", "embedding"})


def drift_by_mix(
    found: DriftReport,
    reference: Sample,
    current: Sample,
    test: Callable[[Sample, Sample], DriftReport],
    *,
    seed: int = 0,
) -> frozenset[str]:
    """Return the drifted columns that the mix of units explains.

    Args:
        found: drift between the samples.
        reference: rows of hours near the window's, so that they include most units.
        current: rows of the window, or of the last windows together.
        test: the test that found the drift.
        seed: seed of the draw of the reference's rows.
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
