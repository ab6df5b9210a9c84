"""Bundled samples, one per task: rows that were written for this project, and simulated customers who send them."""

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from absa.data.mapping import DEFAULT_MAPPING, DataMapping
from absa.data.read import read_examples
from absa.data.traffic.feedback_habits import FeedbackHabits
from absa.data.traffic.known_drift import Drift
from absa.data.traffic.pool_traffic import PoolTraffic
from absa.data.traffic.row_pool import hold_back, labelled_rows
from absa.task import ABSA, TaskSpec

SAMPLE: Final = Path(__file__).parent / "sample"
FEEDBACK_CSV: Final = SAMPLE / "feedback.csv"
TRAFFIC_CSV: Final = SAMPLE / "traffic.csv"
NEW_AREA_CSV: Final = SAMPLE / "new_area.csv"
ASSIGNMENT_CSV: Final = SAMPLE / "assignment.csv"
HELD_BACK_SHARE: Final = 0.25
TICKETS: Final = TaskSpec(
    name="tickets",
    input="text",
    labels=("account access", "billing", "bug", "cancellation", "feature request", "how-to"),
)


@dataclass(frozen=True, kw_only=True)
class BundledSample:
    """Files and rows of one task.

    Args:
        task: task of the rows.
        ingested: file that a first training learns from.
        traffic: file that is never ingested.
        new_area: file of the area that traffic can drift to.
        shown: rows (text, aspect or None, label) that a demo sends for prediction.
        new_area_in_words: name of the new area in a sentence about drift.
    """

    task: TaskSpec
    ingested: Path
    traffic: Path
    new_area: Path
    shown: tuple[tuple[str, str | None, int], ...]
    new_area_in_words: str = "a new product area with words of its own"

    @property
    def mapping(self) -> DataMapping:
        """Form of the files."""
        return DataMapping(task=self.task)


def _assignment() -> tuple[tuple[str, str | None, int], ...]:
    """Return the rows of the assignment's five sentences."""
    with ASSIGNMENT_CSV.open(encoding="utf-8", newline="") as file:
        return tuple((row["text"], row["aspect"], int(row["label"])) for row in csv.DictReader(file))


BUNDLED: Final[Mapping[str, BundledSample]] = {
    ABSA.name: BundledSample(
        task=ABSA, ingested=FEEDBACK_CSV, traffic=TRAFFIC_CSV, new_area=NEW_AREA_CSV, shown=_assignment()
    ),
    TICKETS.name: BundledSample(
        task=TICKETS,
        ingested=SAMPLE / "tickets" / "tickets.csv",
        traffic=SAMPLE / "tickets" / "traffic.csv",
        new_area=SAMPLE / "tickets" / "new_area.csv",
        shown=(
            ("i was charged twice this month, please refund one payment", None, TICKETS.labels.index("billing")),
            ("the export crashes as soon as i press save", None, TICKETS.labels.index("bug")),
            ("where do i change the language of the calendar?", None, TICKETS.labels.index("how-to")),
            ("please end our contract at the end of the month", None, TICKETS.labels.index("cancellation")),
            ("i am locked out and the reset mail never comes", None, TICKETS.labels.index("account access")),
        ),
    ),
}
"""Bundled samples by the name of their task."""


def bundled_traffic(
    sample: BundledSample = BUNDLED[ABSA.name],
    *,
    seed: int = 0,
    drift: Drift | None = None,
    feedback: FeedbackHabits | None = None,
    avoid: Collection[int] = frozenset(),
) -> PoolTraffic:
    """Return customers who send rows of the bundled pool, which is never ingested, and of the bundled new area.

    Args:
        sample: rows that customers send.
        seed: equal seeds give equal streams.
        drift: active from the first request.
        feedback: habits of the customers who give feedback.
        avoid: side keys of texts that must not be served (`row_pool.known_texts` of the ingested rows).
    """
    pool, _ = read_examples(sample.traffic, mapping=sample.mapping)
    new_area, _ = read_examples(sample.new_area, mapping=sample.mapping)
    return PoolTraffic(
        labelled_rows(pool),
        labelled_rows(new_area),
        seed=seed,
        drift=drift,
        feedback=feedback,
        avoid=avoid,
        task=sample.task,
    )


def split_file(
    path: str | Path, *, share: float = HELD_BACK_SHARE, mapping: DataMapping = DEFAULT_MAPPING
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split a user's labelled file by text: return examples to ingest, and examples held back for traffic.

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
    """Return customers who send a user's held-back rows; the rows of `drift_path` are the new area.

    Raises:
        InvalidDataError: the drift file cannot be used.
        ValueError: nothing was held back, or the drift requires a new area and there is no drift file.
    """
    new_area = labelled_rows(read_examples(drift_path, mapping=mapping)[0]) if drift_path is not None else []
    return PoolTraffic(
        labelled_rows(held_back),
        new_area,
        seed=seed,
        drift=drift,
        feedback=feedback,
        avoid=avoid,
        task=mapping.task,
    )
