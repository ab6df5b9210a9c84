"""The bundled sample: customer feedback written for this project, and the simulated customers made of it."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import polars as pl

from absa.data.mapping import DEFAULT_MAPPING, DataMapping
from absa.data.read import read_examples
from absa.data.traffic.feedback_habits import FeedbackHabits
from absa.data.traffic.known_drift import Drift
from absa.data.traffic.pool_traffic import PoolTraffic
from absa.data.traffic.row_pool import hold_back, labelled_rows

SAMPLE: Final = Path(__file__).parent / "sample"
FEEDBACK_CSV: Final = SAMPLE / "feedback.csv"
TRAFFIC_CSV: Final = SAMPLE / "traffic.csv"
NEW_AREA_CSV: Final = SAMPLE / "new_area.csv"
ASSIGNMENT_CSV: Final = SAMPLE / "assignment.csv"
HELD_BACK_SHARE: Final = 0.25


def bundled_traffic(
    *,
    seed: int = 0,
    drift: Drift | None = None,
    feedback: FeedbackHabits | None = None,
    avoid: Collection[int] = frozenset(),
) -> PoolTraffic:
    """Return customers over the bundled pool, which is never ingested, and the bundled new area.

    Args:
        seed: equal seeds give equal streams.
        drift: active from the first request.
        feedback: how customers tell what was right.
        avoid: side keys of texts that must not be served (`simulate.known_texts` of what was ingested).
    """
    pool, _ = read_examples(TRAFFIC_CSV)
    new_area, _ = read_examples(NEW_AREA_CSV)
    return PoolTraffic(
        labelled_rows(pool), labelled_rows(new_area), seed=seed, drift=drift, feedback=feedback, avoid=avoid
    )


def split_file(
    path: str | Path, *, share: float = HELD_BACK_SHARE, mapping: DataMapping = DEFAULT_MAPPING
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return a user's own labelled file in two, by text: examples to ingest, and examples held back for traffic.

    Raises:
        InvalidDataError: the file cannot be used.
    """
    examples, _ = read_examples(path, mapping=mapping)
    return hold_back(examples, share)


def file_traffic(
    held_back: pl.DataFrame,
    drift_path: str | Path | None = None,
    *,
    seed: int = 0,
    drift: Drift | None = None,
    feedback: FeedbackHabits | None = None,
    avoid: Collection[int] = frozenset(),
    mapping: DataMapping = DEFAULT_MAPPING,
) -> PoolTraffic:
    """Return customers over a user's own held-back rows; the rows of `drift_path` are the new area.

    Raises:
        InvalidDataError: the drift file cannot be used.
        ValueError: nothing was held back, or the drift asks for a new area and there is no drift file.
    """
    new_area = labelled_rows(read_examples(drift_path, mapping=mapping)[0]) if drift_path is not None else []
    return PoolTraffic(labelled_rows(held_back), new_area, seed=seed, drift=drift, feedback=feedback, avoid=avoid)
