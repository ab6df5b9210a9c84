"""Feedback on predictions: joined late, out of order, twice or never."""

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

import polars as pl
import pyarrow as pa

from absa.data.read import EXAMPLES, with_example_id
from absa.records.lake import Lake, read_parquet
from absa.records.layout import FEEDBACK_FOLDER, feedback_prefix, prediction_prefix
from absa.records.schema import SCHEMA_VERSION, Window
from absa.records.tables import FEEDBACK, PREDICTIONS, hours

MAX_EXAMPLES_A_UNIT: Final = 200  # one customer, or one attacker, trains no more than this in a window
MAX_EXAMPLES_A_SOURCE: Final = 200_000  # and one source no more than this


def last_feedback(feedback: pa.Table | pl.DataFrame, sources: Collection[str] | None = None) -> pl.DataFrame:
    """Return one row per request: the last feedback by `at`, of the given sources only (None: of all).

    Records with an equal time are ordered by source and label, so that the answer does not depend on how they arrived.
    """
    frame = _frame(feedback)
    if sources is not None:
        frame = frame.filter(pl.col("source").is_in(sorted(sources)))
    return frame.sort("at", "source", "label").unique("request_id", keep="last", maintain_order=True)


def join_feedback(
    predictions: pa.Table | pl.DataFrame,
    feedback: pa.Table | pl.DataFrame,
    *,
    sources: Collection[str] | None = None,
) -> pl.DataFrame:
    """Return the served predictions (shadow scores left out), each with its last feedback or nulls.

    Returns:
        the columns of predictions, and feedback_label, feedback_at, feedback_source, sampling_probability.
    """
    served = _frame(predictions).filter(~pl.col("shadow")).unique("request_id", keep="first", maintain_order=True)
    said = last_feedback(feedback, sources).select(
        "request_id",
        feedback_label=pl.col("label"),
        feedback_at=pl.col("at"),
        feedback_source=pl.col("source"),
        sampling_probability=pl.col("sampling_probability"),
    )
    return served.join(said, on="request_id", how="left", maintain_order="left")


def unmatched(predictions: pa.Table | pl.DataFrame, feedback: pa.Table | pl.DataFrame) -> int:
    """Return the number of feedback records without a served prediction."""
    served = _frame(predictions).filter(~pl.col("shadow")).select("request_id").unique()
    return _frame(feedback).join(served, on="request_id", how="anti").height


def labelled_examples(
    lake: Lake,
    start: datetime,
    end: datetime,
    trusted_sources: Collection[str],
    *,
    max_a_unit: int = MAX_EXAMPLES_A_UNIT,
    max_a_source: int = MAX_EXAMPLES_A_SOURCE,
) -> pl.DataFrame:
    """Examples to learn from: predictions asked in [start, end) that a trusted source has labelled by now.

    The example's source is the feedback's, its observed_at the time of the request. Requests whose text was redacted
    are left out. Of one unit at most `max_a_unit` and of one source at most `max_a_source` are taken, chosen by the
    random part of the request's id, so that neither a customer nor a source can fill a training set.

    Returns:
        the columns of `read.EXAMPLES`, by observed_at.
    """
    predictions, feedback = window_records(lake, start, end)
    joined = join_feedback(predictions, feedback, sources=trusted_sources)
    known = joined.filter(pl.col("feedback_label").is_not_null() & pl.col("text").is_not_null())
    by_unit = pl.when(pl.col("unit_given")).then(pl.col("unit_hash")).otherwise(pl.col("request_id"))
    capped = (
        known.with_columns(unit=by_unit, turn=pl.col("request_id").str.reverse())  # a UUIDv7's tail is random
        .sort("turn")
        .filter(pl.int_range(pl.len()).over("unit") < max_a_unit)
        .filter(pl.int_range(pl.len()).over("feedback_source") < max_a_source)
    )
    examples = capped.select(
        schema_version=pl.lit(SCHEMA_VERSION, pl.Int16),
        text=pl.col("text"),
        aspect=pl.col("aspect"),
        label=pl.col("feedback_label").cast(pl.Int8),
        observed_at=pl.col("at").cast(pl.Datetime("us", "UTC")),
        source=pl.col("feedback_source"),
        segment=pl.col("segment"),
    )
    return with_example_id(examples).sort("observed_at", "example_id").select(list(EXAMPLES))


def window_records(lake: Lake, start: datetime, end: datetime) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the prediction records of [start, end) and every feedback record received since its first day."""
    prefixes = [prediction_prefix(hour) for hour in hours(Window(start=start, end=end))]
    keys = [key for prefix in prefixes for key in lake.list(prefix) if key.endswith(".parquet")]
    predictions = _frame(read_parquet(lake, keys, PREDICTIONS)).filter((pl.col("at") >= start) & (pl.col("at") < end))
    first_day = feedback_prefix(start)
    received = [k for k in lake.list(FEEDBACK_FOLDER) if k.endswith(".parquet") and k >= first_day]
    return predictions, _frame(read_parquet(lake, received, FEEDBACK))


def _frame(table: Any) -> pl.DataFrame:
    return table if isinstance(table, pl.DataFrame) else pl.DataFrame(table)
