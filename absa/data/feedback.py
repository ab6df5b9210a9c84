"""Examples from feedback on predictions."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from absa.data.read import EXAMPLE_COLUMNS, with_example_id
from absa.records.lake import Lake
from absa.records.schema import SCHEMA_VERSION, Window, utc_now
from absa.records.windows import SERVED, UNIT, load_window

MAX_EXAMPLES_A_UNIT: Final = 200  # one customer, or one attacker, trains no more than this in a window
MAX_EXAMPLES_A_SOURCE: Final = 200_000  # and one source no more than this
_AHEAD: Final = timedelta(days=1)  # clocks of routers may be ahead of ours


def labelled_examples(
    lake: Lake,
    start: datetime,
    end: datetime,
    trusted_sources: Collection[str],
    *,
    feedback_until: datetime | None = None,
    max_a_unit: int = MAX_EXAMPLES_A_UNIT,
    max_a_source: int = MAX_EXAMPLES_A_SOURCE,
) -> pl.DataFrame:
    """Return examples to learn from: predictions of requests in [start, end) that a trusted source has labelled by now.

    The example's source is the feedback's, its observed_at the time of the request. Requests whose text was redacted
    are left out. Of one unit at most `max_a_unit` and of one source at most `max_a_source` are taken, chosen by the
    random part of the request's id, so that neither a customer nor a source can fill a training set.

    Returns:
        the columns of `read.EXAMPLE_COLUMNS`, by observed_at.
    """
    data = load_window(
        lake,
        Window(start=start, end=end),
        keep=SERVED & pl.col("text").is_not_null(),
        trusted_sources=trusted_sources,
        feedback_until=feedback_until or utc_now() + _AHEAD,
        max_rows=None,
    )
    capped = (
        data.rows.filter(pl.col("feedback_label").is_not_null())
        .with_columns(unit=UNIT, turn=pl.col("request_id").str.reverse())  # a UUIDv7's tail is random
        .sort("turn")
        .filter(pl.int_range(pl.len()).over("unit") < max_a_unit)
        .filter(pl.int_range(pl.len()).over("feedback_source") < max_a_source)
    )
    examples = capped.select(
        "text",
        "aspect",
        "segment",
        schema_version=pl.lit(SCHEMA_VERSION, pl.Int16),
        label=pl.col("feedback_label"),
        observed_at=pl.col("at"),
        source=pl.col("feedback_source"),
        unit_hash=pl.when(pl.col("unit_given")).then(pl.col("unit_hash")),
    )
    return with_example_id(examples).sort("observed_at", "example_id").select(list(EXAMPLE_COLUMNS))
