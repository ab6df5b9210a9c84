"""Column names and types of the lake's Parquet tables, and the hours and days of a window."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

import pyarrow as pa

from absa.records.schema import Window
from absa.task import N_LABELS

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")

EXAMPLES: Final = pa.schema(
    [
        ("schema_version", pa.int16()),
        ("example_id", pa.string()),
        ("text", pa.string()),
        ("aspect", pa.string()),
        ("label", pa.int8()),
        ("observed_at", TIMESTAMP),
        ("source", pa.string()),
        ("segment", pa.string()),
    ]
)

PREDICTIONS: Final = pa.schema(
    [
        ("schema_version", pa.int16()),
        ("request_id", pa.string()),
        ("at", TIMESTAMP),
        ("unit_hash", pa.string()),
        ("unit_given", pa.bool_()),
        ("segment", pa.string()),
        ("text", pa.string()),
        ("aspect", pa.string()),
        ("label", pa.int8()),
        ("scores", pa.list_(pa.float32(), N_LABELS)),
        ("model_version", pa.string()),
        ("arm", pa.string()),
        ("experiment", pa.string()),
        ("revision", pa.int64()),
        ("shadow", pa.bool_()),
        ("cached", pa.bool_()),
        ("truncated", pa.bool_()),  # null where an earlier release wrote the row
        ("latency_ms", pa.float32()),
        ("replica", pa.string()),
    ]
)

FEEDBACK: Final = pa.schema(
    [
        ("schema_version", pa.int16()),
        ("request_id", pa.string()),
        ("label", pa.int8()),
        ("at", TIMESTAMP),
        ("source", pa.string()),
        ("sampling_probability", pa.float64()),
    ]
)

# `latency_histogram` counts answers up to each bound of LATENCY_BOUNDS_MS, the last cell those above.
LATENCY_BOUNDS_MS: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)
OUTCOMES: Final = pa.schema(
    [
        ("schema_version", pa.int16()),
        ("minute", TIMESTAMP),
        ("version", pa.string()),
        ("arm", pa.string()),
        ("ok", pa.int64()),
        ("error", pa.int64()),
        ("shed", pa.int64()),
        ("timeout", pa.int64()),
        ("latency_histogram", pa.list_(pa.int64(), len(LATENCY_BOUNDS_MS) + 1)),
        ("replica", pa.string()),
    ]
)


def hours(window: Window) -> Iterator[datetime]:
    """The start of each hour that a window touches."""
    at = window.start.replace(minute=0, second=0, microsecond=0)
    while at < window.end:
        yield at
        at += timedelta(hours=1)


def days(start: datetime, end: datetime) -> Iterator[datetime]:
    """The start of each day that [start, end) touches."""
    at = start.replace(hour=0, minute=0, second=0, microsecond=0)
    while at < end:
        yield at
        at += timedelta(days=1)
