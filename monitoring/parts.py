"""Quality of the model per class and segment: estimated, measured, and the agreement of both."""

from collections import Counter
from typing import Final

import numpy as np

from absa.records.verdict import PartFigures
from monitoring.drift.sample import Sample
from monitoring.performance import back_test, estimate, measure

MIN_ROWS: Final = 100
_MAX_SEGMENTS: Final = 20


def parts_of(sample: Sample, *, seed: int = 0) -> dict[str, PartFigures]:
    """Return figures by part: `class:<label>` of evaluated labels, and `segment:<name>` with 100 rows or more."""
    if sample.rows == 0:
        return {}
    evaluated = sample.task.evaluated_numbers
    found = {f"class:{sample.task.labels[label]}": _figures(sample, (label,), seed) for label in evaluated}
    for name, rows in Counter(sample.segments).most_common(_MAX_SEGMENTS):
        if name and rows >= MIN_ROWS:
            mine = np.flatnonzero(np.array(sample.segments, dtype=object) == name)
            found[f"segment:{name}"] = _figures(sample.take(mine), evaluated, seed)
    return found


def _figures(sample: Sample, labels: tuple[int, ...], seed: int) -> PartFigures:
    promised = estimate(sample, seed=seed, labels=labels)
    measured = measure(sample, seed=seed, labels=labels)
    tested = back_test(sample, seed=seed, labels=labels)
    return PartFigures(
        rows=sample.rows,
        labelled=sample.labelled,
        estimated_f1=None if promised is None else promised.f1,
        estimated_low=None if promised is None else promised.low,
        estimated_high=None if promised is None else promised.high,
        f1=None if measured is None else measured.f1,
        low=None if measured is None else measured.low,
        high=None if measured is None else measured.high,
        trusted=None if tested is None else tested.trusted,
    )
