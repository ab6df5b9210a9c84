"""Reader of windows: served predictions, each with its last feedback so far.

Feedback arrives late, twice or never, so a later reading of a window has more labels. Only the folders of the window
are read, one key at a time. Memory is bounded: above `max_rows` a uniform sample is kept. A hash of the request id
chooses its rows, so a later reading has the same rows.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl
import pyarrow as pa

from absa.errors import NotFoundError
from absa.records.lake import Lake
from absa.records.layout import feedback_prefix, prediction_prefix
from absa.records.schema import Window, utc_now
from absa.records.tables import FEEDBACK, PREDICTIONS, days, hours, read_parquet

MAX_ROWS: Final = 100_000
_BATCH_ROWS: Final = 200_000  # rows of feedback, about 30 MB
SERVED: Final = pl.col("shadow").fill_null(value=False).not_()
UNIT: Final = (
    pl.when(pl.col("unit_given").fill_null(value=False)).then(pl.col("unit_hash")).otherwise(pl.col("request_id"))
)
"""Unit of a row; a request without a unit is its own unit."""


@dataclass(frozen=True, kw_only=True)
class WindowData:
    """Predictions of a window.

    `rows` has the columns of `PREDICTIONS`, and feedback_label, feedback_at, feedback_source and sampling_probability,
    which are null without trusted feedback. `total` counts predictions before sampling, `by_version` counts them per
    model version.
    """

    window: Window
    rows: pl.DataFrame
    total: int
    by_version: dict[str, int]

    @property
    def sampled(self) -> bool:
        """Return True if `rows` is a sample of the window."""
        return self.rows.height < self.total

    @property
    def how(self) -> str:
        """Return the number of rows in words, for messages."""
        if self.sampled:
            return f"{self.rows.height} of {self.total} predictions, sampled by a hash of the request id"
        return f"all {self.total} predictions"

    def version(self, version: str) -> "WindowData":
        """Return the rows of one model version."""
        rows = self.rows.filter(pl.col("model_version") == version)
        count = self.by_version.get(version, 0)
        return WindowData(window=self.window, rows=rows, total=count, by_version={version: count})


def load_window(
    lake: Lake,
    window: Window,
    *,
    keep: pl.Expr = SERVED,
    trusted_sources: Collection[str] | None = None,
    feedback_until: datetime | None = None,
    max_rows: int | None = MAX_ROWS,
) -> WindowData:
    """Read a window's predictions and join their last feedback.

    Args:
        lake: lake of predictions and feedback.
        window: interval of the requests' times.
        keep: condition on the columns of `PREDICTIONS`; shadow scores are left out by default.
        trusted_sources: sources of feedback that count; None: all.
        feedback_until: feedback received at or after this time is left out; by default now.
        max_rows: largest number of rows, above which rows are sampled; None: all rows.

    Raises:
        UnavailableError: the lake is unavailable.
    """
    kept: list[pl.DataFrame] = [empty_frame(PREDICTIONS)]
    held = total = 0
    by_version: dict[str, int] = {}
    for read in read_predictions(lake, window, keep):
        part = read.unique(["request_id", "model_version", "shadow"], keep="first", maintain_order=True)
        total += part.height
        for version, count in part.group_by("model_version").len().iter_rows():
            by_version[str(version)] = by_version.get(str(version), 0) + int(count)
        kept.append(part)
        held += part.height
        if max_rows is not None and held > 2 * max_rows:
            kept = [smallest(pl.concat(kept), max_rows)]
            held = max_rows
    rows = pl.concat(kept)
    rows = rows if max_rows is None else smallest(rows, max_rows)
    until = feedback_until or utc_now()
    said = select_feedback(read_feedback(lake, window.start, until, trusted_sources), rows) if rows.height else ()
    joined = join_feedback(rows, pl.concat([empty_frame(FEEDBACK), *said]))
    return WindowData(window=window, rows=joined.sort("at", "request_id"), total=total, by_version=by_version)


def select_feedback(
    parts: Iterable[pl.DataFrame], predictions: pl.DataFrame, *, batch_rows: int = _BATCH_ROWS
) -> Iterator[pl.DataFrame]:
    """Yield the feedback for some predictions, one frame per batch of parts.

    For each batch the ids of all predictions are hashed once, so small parts are concatenated first.

    Args:
        parts: frames of feedback, of any size.
        predictions: frame with the column request_id.
        batch_rows: number of rows of feedback from which a batch is joined.
    """
    wanted = predictions.select(pl.col("request_id").unique())
    batch: list[pl.DataFrame] = []
    held = 0
    for part in parts:
        if part.height:
            batch.append(part)
            held += part.height
        if held >= batch_rows:
            yield pl.concat(batch).join(wanted, on="request_id", how="semi")
            batch, held = [], 0
    if batch:
        yield pl.concat(batch).join(wanted, on="request_id", how="semi")


def join_feedback(predictions: pl.DataFrame, feedback: pl.DataFrame) -> pl.DataFrame:
    """Return one row per request: its first served prediction, with its last feedback by `at`, or nulls.

    Feedback with equal times is ordered by source and label, so that the order of arrival does not matter. A request
    with feedback that was not requested has no sampling probability, because its label is known without sampling.

    Returns:
        The columns of predictions, and feedback_label, feedback_at, feedback_source, sampling_probability.
    """
    served = predictions.filter(SERVED).unique("request_id", keep="first", maintain_order=True)
    unsolicited = pl.col("sampling_probability").is_null().any().over("request_id")
    drawn = feedback.with_columns(sampling_probability=pl.when(~unsolicited).then("sampling_probability"))
    last = drawn.sort("at", "source", "label").unique("request_id", keep="last", maintain_order=True)
    named = last.select(
        "request_id",
        "sampling_probability",
        feedback_label=pl.col("label"),
        feedback_at=pl.col("at"),
        feedback_source=pl.col("source"),
    )
    return served.join(named, on="request_id", how="left", maintain_order="left")


def read_predictions(lake: Lake, window: Window, keep: pl.Expr) -> Iterator[pl.DataFrame]:
    """Yield the predictions of a window that satisfy a condition, one key at a time."""
    within = (pl.col("at") >= window.start) & (pl.col("at") < window.end)
    for part in read_keys(lake, (prediction_prefix(hour) for hour in hours(window)), PREDICTIONS):
        yield part.filter(within & keep)


def read_feedback(
    lake: Lake, start: datetime, until: datetime, sources: Collection[str] | None
) -> Iterator[pl.DataFrame]:
    """Yield the feedback received from the day of `start` on and before `until`, from some or all sources."""
    kept = pl.col("at") < until
    if sources is not None:
        kept &= pl.col("source").is_in(sorted(sources))
    for part in read_keys(lake, (feedback_prefix(day) for day in days(start, until)), FEEDBACK):
        yield part.filter(kept)


def read_keys(lake: Lake, prefixes: Iterable[str], schema: pa.Schema) -> Iterator[pl.DataFrame]:
    """Yield the rows of every Parquet key under some folders, one key at a time.

    A key that was deleted after its listing (by `forget`) is skipped.
    """
    for prefix in prefixes:
        for key in lake.list(prefix):
            if key.endswith(".parquet"):
                try:
                    yield pl.DataFrame(read_parquet(lake, [key], schema))
                except NotFoundError:
                    continue


def empty_frame(schema: pa.Schema) -> pl.DataFrame:
    """Return a frame without rows."""
    return pl.DataFrame(schema.empty_table())


def smallest(rows: pl.DataFrame, count: int) -> pl.DataFrame:
    """Return the rows with the smallest hashes of their ids: a uniform sample, independent of the order of rows."""
    if rows.height <= count:
        return rows
    order = rows["request_id"].hash(seed=0).arg_sort()
    return rows[order[:count].sort()]
