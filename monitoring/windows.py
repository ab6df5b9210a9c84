"""A window of served predictions with the feedback they have had so far, read from the partitions it needs alone.

Feedback comes late, twice or never: a window loaded again later holds more labels, and of two labels for one request
the last by time counts. Memory is bounded: above `max_rows` a uniform sample is kept, chosen by a hash of the request
id, so that loading again chooses the same rows.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl
import pyarrow as pa

from absa.data.feedback import join_feedback
from absa.errors import NotFoundError
from absa.records.lake import Lake, read_parquet, write_parquet
from absa.records.layout import feedback_prefix, prediction_prefix, recent_key, reference_key
from absa.records.schema import Window, utc_now
from absa.records.tables import FEEDBACK, PREDICTIONS, days, hours
from monitoring.drift.sample import Sample, sample_of

MAX_ROWS: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class WindowData:
    """The served predictions (shadow = false) of a window.

    `rows` has the columns of `PREDICTIONS` and feedback_label, feedback_at, feedback_source and sampling_probability,
    null where no trusted feedback came. `total` is how many predictions there were before sampling, `by_version` the
    same per model version; `unmatched` counts feedback for requests that no window row has.
    """

    window: Window
    rows: pl.DataFrame
    total: int
    by_version: dict[str, int]

    @property
    def sampled(self) -> bool:
        """Whether `rows` is a sample of the window."""
        return self.rows.height < self.total

    @property
    def how(self) -> str:
        """How many rows were read, in words."""
        if self.sampled:
            return f"{self.rows.height} of {self.total} predictions, sampled by a hash of the request id"
        return f"all {self.total} predictions"

    def version(self, version: str) -> "WindowData":
        """The part of one model version."""
        rows = self.rows.filter(pl.col("model_version") == version)
        count = self.by_version.get(version, 0)
        return WindowData(window=self.window, rows=rows, total=count, by_version={version: count})

    def sample(self) -> Sample:
        """The rows as the detectors see them."""
        return sample_of(self.rows)


def load_window(
    lake: Lake,
    window: Window,
    *,
    trusted_sources: Collection[str] | None = None,
    feedback_until: datetime | None = None,
    max_rows: int = MAX_ROWS,
) -> WindowData:
    """Read a window's served predictions and join the last feedback on them.

    Args:
        lake: where predictions and feedback lie.
        window: event time, by the request's time.
        trusted_sources: feedback sources that may measure; None takes every source.
        feedback_until: feedback received at or after this is left out; by default all up to now.
        max_rows: above this the rows are sampled.

    Raises:
        UnavailableError: the lake does not answer.
    """
    return load_predictions(
        lake,
        window,
        trusted_sources=trusted_sources,
        feedback_until=feedback_until,
        max_rows=max_rows,
        keep=pl.col("shadow").fill_null(value=False).not_(),
    )


def load_predictions(
    lake: Lake,
    window: Window,
    *,
    keep: pl.Expr,
    trusted_sources: Collection[str] | None = None,
    feedback_until: datetime | None = None,
    max_rows: int = MAX_ROWS,
) -> WindowData:
    """`load_window` with a choice of rows: `keep` is a condition on the columns of `PREDICTIONS`."""
    kept: list[pl.DataFrame] = []
    held, total = 0, 0
    by_version: dict[str, int] = {}
    for read in read_keys(lake, (prediction_prefix(hour) for hour in hours(window)), PREDICTIONS):
        part = read.filter((pl.col("at") >= window.start) & (pl.col("at") < window.end) & keep)
        part = part.unique(["request_id", "model_version", "shadow"], keep="first", maintain_order=True)
        total += part.height
        for version, count in part.group_by("model_version").len().iter_rows():
            by_version[str(version)] = by_version.get(str(version), 0) + int(count)
        kept.append(part)
        held += part.height
        if held > 2 * max_rows:
            kept = [smallest(pl.concat(kept), max_rows)]
            held = kept[0].height
    rows = smallest(pl.concat(kept), max_rows) if kept else _frame(PREDICTIONS.empty_table())
    feedback = _feedback(lake, window, set(rows["request_id"]), trusted_sources, feedback_until or utc_now())
    joined = join_feedback(rows.to_arrow(), feedback)
    return WindowData(window=window, rows=joined.sort("at", "request_id"), total=total, by_version=by_version)


def read_keys(lake: Lake, prefixes: Iterable[str], schema: pa.Schema) -> Iterator[pl.DataFrame]:
    """The rows of every Parquet key under some folders, one key at a time."""
    for prefix in prefixes:
        for key in lake.list(prefix):
            if key.endswith(".parquet"):
                yield _read(lake, key, schema)


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _read(lake: Lake, key: str, schema: pa.Schema) -> pl.DataFrame:
    """One key's rows; a key that went away between listing and reading (a `forget`) has none."""
    try:
        return _frame(read_parquet(lake, [key], schema))
    except NotFoundError:
        return _frame(schema.empty_table())


def smallest(rows: pl.DataFrame, count: int) -> pl.DataFrame:
    """A uniform sample that does not depend on the order of reading: the rows with the smallest hashes."""
    if rows.height <= count:
        return rows
    order = rows["request_id"].hash(seed=0).arg_sort()
    return rows[order[:count].sort()]


def _feedback(
    lake: Lake, window: Window, requests: set[str], trusted_sources: Collection[str] | None, until: datetime
) -> pa.Table:
    """The feedback on these requests, from the day the window starts to `until`."""
    parts: list[pl.DataFrame] = [_frame(FEEDBACK.empty_table())]
    wanted = pl.Series(sorted(requests), dtype=pl.String)
    prefixes = [feedback_prefix(day) for day in days(window.start, until)] if requests else []
    for read in read_keys(lake, prefixes, FEEDBACK):
        part = read.filter(pl.col("request_id").is_in(wanted.implode()) & (pl.col("at") < until))
        if trusted_sources is not None:
            part = part.filter(pl.col("source").is_in(sorted(trusted_sources)))
        parts.append(part)
    return pl.concat(parts).to_arrow()


def save_reference(lake: Lake, version: str, rows: pl.DataFrame) -> None:
    """Mark rows as the version's reference, in place of an earlier, smaller one."""
    write_parquet(lake, reference_key(version), rows.to_arrow())


def load_reference(lake: Lake, version: str) -> pl.DataFrame | None:
    """The version's reference rows, in the shape of `WindowData.rows`; None where there is none yet."""
    return _kept(lake, reference_key(version))


def save_recent(lake: Lake, version: str, rows: pl.DataFrame) -> None:
    """Keep rows of the version's last windows, in place of those kept before."""
    write_parquet(lake, recent_key(version), rows.to_arrow())


def load_recent(lake: Lake, version: str) -> pl.DataFrame | None:
    """Rows of the version's last windows; None where there was none yet."""
    return _kept(lake, recent_key(version))


def _kept(lake: Lake, key: str) -> pl.DataFrame | None:
    import io

    try:
        return pl.read_parquet(io.BytesIO(lake.read(key)))
    except NotFoundError:
        return None
