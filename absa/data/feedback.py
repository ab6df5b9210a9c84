"""Examples from feedback on predictions."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from absa.data.read import EXAMPLE_COLUMNS, with_example_id
from absa.records.lake import Lake
from absa.records.schema import SCHEMA_VERSION, Window, utc_now
from absa.records.windows import SERVED, UNIT, load_window

MAX_EXAMPLES_A_UNIT: Final = 200  # per window, so that one customer or attacker has a limited effect
MAX_EXAMPLES_A_SOURCE: Final = 200_000  # per window
_AHEAD: Final = timedelta(days=1)  # clocks of routers may be ahead of this machine's


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
    """Return examples to learn from: predictions for requests in [start, end) with a label of a trusted source.

    An example has the source of the feedback, and its observed_at is the time of the request. Requests whose text was
    redacted are left out. At most `max_a_unit` examples per unit and `max_a_source` per source are taken, chosen by the
    random part of the request's id, so that neither a customer nor a source can fill a training set.

    Returns:
        The columns of `read.EXAMPLE_COLUMNS`, sorted by observed_at.
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
