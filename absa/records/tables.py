"""Rows of the lake's tables: each is defined once, as the type that its Arrow schema and log line follow from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, NamedTuple, get_type_hints

import pyarrow as pa

from absa.records.schema import SCHEMA_VERSION, Window
from absa.task import N_LABELS

# `latency_histogram` counts answers up to each bound of LATENCY_BOUNDS_MS, the last cell those above.
LATENCY_BOUNDS_MS: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0)

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")
Timestamp = Annotated[int, TIMESTAMP]  # microseconds since 1970
Int8 = Annotated[int, pa.int8()]


class Prediction(NamedTuple):
    """One version's answer to one text. A shadow score repeats the request_id of the answer that it is compared with.

    `unit_hash` is that of the request_id unless `unit_given`. Text and aspect are None where the log is redacted,
    `truncated` where a release wrote the row that did not know it. The log leaves `replica` to its shipper.
    """

    request_id: str
    at: Timestamp
    unit_hash: str | None
    unit_given: bool
    segment: str | None
    text: str | None
    aspect: str | None
    label: Int8
    scores: Annotated[list[float], pa.list_(pa.float32(), N_LABELS)]
    model_version: str
    arm: str
    experiment: str | None
    revision: int | None
    shadow: bool
    cached: bool
    truncated: bool | None = None
    latency_ms: Annotated[float | None, pa.float32()] = None
    replica: str = ""


class Feedback(NamedTuple):
    """Label of a prediction from a source, at its receipt. `sampling_probability` is None where it came unasked."""

    request_id: str
    label: Int8
    at: Timestamp
    source: str
    sampling_probability: float | None


class OutcomeCount(NamedTuple):
    """Items of one version and arm in one minute, by their end, and the latencies of those answered."""

    minute: Timestamp
    version: str
    arm: str
    ok: int
    error: int
    shed: int
    timeout: int
    latency_histogram: Annotated[list[int], pa.list_(pa.int64(), len(LATENCY_BOUNDS_MS) + 1)]
    replica: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One text with the aspect that is asked about, which is in the text, found case-insensitively.

    `label` is None where there is none yet, `example_id` where it was not computed.
    """

    example_id: str | None = None
    text: str
    aspect: str
    label: Annotated[int | None, pa.int8()] = None
    observed_at: Annotated[datetime, TIMESTAMP]
    source: str
    segment: str | None = None


_ARROW: Final = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def _schema_of(record: type) -> pa.Schema:
    fields: list[tuple[str, pa.DataType]] = [("schema_version", pa.int16())]
    for name, kind in get_type_hints(record, include_extras=True).items():
        if hasattr(kind, "__metadata__"):
            fields.append((name, kind.__metadata__[0]))
        else:
            fields.append((name, next(arrow for plain, arrow in _ARROW.items() if kind in (plain, plain | None))))
    return pa.schema(fields)


PREDICTIONS: Final = _schema_of(Prediction)
FEEDBACK: Final = _schema_of(Feedback)
OUTCOMES: Final = _schema_of(OutcomeCount)
EXAMPLES: Final = _schema_of(Example)


def table_of(rows: Sequence[tuple[Any, ...]], schema: pa.Schema, **constants: Any) -> pa.Table:
    """Return rows as a table of their schema; `constants` replace the values of a column."""
    columns: dict[str, Sequence[Any]] = dict.fromkeys(schema.names, ())
    columns.update(zip(schema.names[1:], zip(*rows, strict=True), strict=False))  # no row has no columns
    columns.update(
        (name, [value] * len(rows)) for name, value in ({"schema_version": SCHEMA_VERSION} | constants).items()
    )
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def hours(window: Window) -> Iterator[datetime]:
    """Yield the start of each hour that a window touches."""
    at = window.start.replace(minute=0, second=0, microsecond=0)
    while at < window.end:
        yield at
        at += timedelta(hours=1)


def days(start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the start of each day that [start, end) touches."""
    at = start.replace(hour=0, minute=0, second=0, microsecond=0)
    while at < end:
        yield at
        at += timedelta(days=1)
