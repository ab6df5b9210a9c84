"""Tables of the lake: Arrow schemas of its rows, and rows as tables."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from absa.errors import IntegrityError
from absa.records.lake import Lake
from absa.records.rows import LATENCY_BOUNDS_MS, Example, Feedback, OutcomeCount, Prediction
from absa.records.schema import SCHEMA_VERSION, Window

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")
_ARROW: Final = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
_NAMED: Final = {
    "timestamp": TIMESTAMP,
    "int8": pa.int8(),
    "float32": pa.float32(),
    "scores": pa.list_(pa.float32()),
    "latency_histogram": pa.list_(pa.int64(), len(LATENCY_BOUNDS_MS) + 1),
}


def _schema_of(record: type) -> pa.Schema:
    fields: list[tuple[str, pa.DataType]] = [("schema_version", pa.int16())]
    for name, kind in get_type_hints(record, include_extras=True).items():
        if hasattr(kind, "__metadata__"):
            fields.append((name, _NAMED[kind.__metadata__[0]]))
        else:
            fields.append((name, next(arrow for plain, arrow in _ARROW.items() if kind in (plain, plain | None))))
    return pa.schema(fields)


PREDICTIONS: Final = _schema_of(Prediction)
FEEDBACK: Final = _schema_of(Feedback)
OUTCOMES: Final = _schema_of(OutcomeCount)
EXAMPLES: Final = _schema_of(Example)


def table_of(rows: Sequence[tuple[Any, ...]], schema: pa.Schema, **constants: Any) -> pa.Table:
    """Return rows as a table of their schema; `constants` replace all values of columns."""
    columns: dict[str, Sequence[Any]] = dict.fromkeys(schema.names, ())
    columns.update(zip(schema.names[1:], zip(*rows, strict=True), strict=False))  # without rows, zip yields no columns
    columns.update(
        (name, [value] * len(rows)) for name, value in ({"schema_version": SCHEMA_VERSION} | constants).items()
    )
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def hours(window: Window) -> Iterator[datetime]:
    """Yield the start of each hour that overlaps a window."""
    at = window.start.replace(minute=0, second=0, microsecond=0)
    while at < window.end:
        yield at
        at += timedelta(hours=1)


def days(start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the start of each day that overlaps [start, end)."""
    at = start.replace(hour=0, minute=0, second=0, microsecond=0)
    while at < end:
        yield at
        at += timedelta(days=1)


def write_parquet(lake: Lake, key: str, table: pa.Table) -> None:
    """Write a table as zstd Parquet under a key, atomically."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    lake.write(key, sink.getvalue().to_pybytes())


def read_parquet(lake: Lake, keys: Iterable[str], schema: pa.Schema) -> pa.Table:
    """Return the rows of several Parquet keys in one schema; see `aligned`.

    Raises:
        IntegrityError: the content of a key cannot be read.
    """
    tables = [_table(lake, key, schema) for key in keys]
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _table(lake: Lake, key: str, schema: pa.Schema) -> pa.Table:
    data = lake.read(key)
    try:
        return aligned(pq.read_table(pa.BufferReader(data)), schema)
    except (pa.ArrowException, OSError) as error:
        raise IntegrityError(
            f"{lake.url(key)} is not a readable Parquet file: restore it from a backup, or delete it and lose its rows"
        ) from error


def aligned(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table in a schema: missing columns are null, unknown columns are dropped.

    Scores of earlier releases, which are lists of fixed length, are converted.
    """
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
