"""Drift tests of other libraries at their defaults, on five columns of the same windows.

Evidently is pinned beside us. NannyML and alibi-detect need environments of their own; their cells run where the
libraries can be imported, see docs/design/monitoring_measured.md.
"""

from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from monitoring.drift.sample import Sample

CATEGORICAL: Final = ("predicted",)
EVIDENTLY: Final = "evidently"
PEER: Final = "evidently 0.7.23, default drift tests"
_CHUNK: Final = 500


def evidently_alarms(reference: Sample, current: Sample) -> bool:
    """Return True if a default test of Evidently's DataDriftPreset calls any column drifted.

    The tests are chosen as its `DriftedColumnsCount` does, without the drawing.
    """
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    before, now = _frame(reference), _frame(current)
    for column in before.columns:
        kind = ColumnType.Categorical if column in CATEGORICAL else ColumnType.Numerical
        test = get_stattest(before[column], now[column], kind, None)
        if test(before[column], now[column], kind, None).drifted:
            return True
    return False


def nannyml_alarms(reference: Sample, current: Sample) -> bool:
    """Return True if NannyML's univariate drift (Jensen-Shannon, three standard deviations) alarms for any column.

    Its thresholds come from chunks of the reference, of 500 rows each; the window is one chunk.
    """
    from nannyml import UnivariateDriftCalculator

    before, now = _frame(reference), _frame(current)
    calculator = UnivariateDriftCalculator(column_names=list(before.columns), chunk_size=min(_CHUNK, len(before) // 2))
    calculator.fit(before)
    found = calculator.calculate(now.head(_CHUNK)).filter(period="analysis").to_df()
    return bool(found.xs("alert", axis=1, level=-1).to_numpy(dtype=bool).any())


def alibi_alarms(reference: Sample, current: Sample) -> bool:
    """Return True if alibi-detect's TabularDrift (5 %, Bonferroni over the columns) calls the window drifted."""
    from alibi_detect.cd import TabularDrift

    before, now = _numbers(reference), _numbers(current)
    test = TabularDrift(before, categories_per_feature={0: [0, 1, 2]})
    return bool(test.predict(now)["data"]["is_drift"])


Peer = Callable[[Sample, Sample], bool]
_PEERS: Final[dict[str, tuple[Peer, str, str]]] = {
    EVIDENTLY: (evidently_alarms, "evidently", "default drift tests"),
    "nannyml": (nannyml_alarms, "nannyml", "univariate drift, defaults, chunks of 500"),
    "alibi_detect": (alibi_alarms, "alibi-detect", "TabularDrift, defaults"),
}


def peers() -> dict[str, Peer]:
    """Return the peers that can be imported here, by module."""
    return {name: alarms for name, (alarms, _, _) in _PEERS.items() if find_spec(name) is not None}


def peer_name(module: str) -> str:
    """Return how the result names a peer: with its version and what is used of it."""
    _, package, used = _PEERS[module]
    return f"{package} {version(package)}, {used}"


def _frame(sample: Sample) -> Any:
    import pandas as pd

    columns = _numbers(sample)
    names = ("predicted", "confidence", "margin", "characters", "words")
    frame = pd.DataFrame(dict(zip(names, columns.T, strict=True)))
    return frame.assign(predicted=sample.labels.astype(str))


def _numbers(sample: Sample) -> Any:
    texts = sample.texts or ()
    return np.column_stack(
        [
            sample.labels.astype(np.float64),
            sample.scores.max(axis=1),
            np.ptp(sample.scores, axis=1),
            [float(len(text)) for text in texts],
            [float(len(text.split())) for text in texts],
        ]
    )
