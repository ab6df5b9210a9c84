"""The lines of the write-ahead log, and the Parquet tables that they become.

A line is a JSON array without field names, in the order of the named tuples here: about 60 bytes, the ids, the text and
the aspect. What a line lacks (schema_version, replica) is the same for a whole file.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson
import pyarrow as pa

from absa.records.layout import feedback_prefix, outcome_prefix, prediction_prefix
from absa.records.schema import SCHEMA_VERSION
from absa.records.tables import FEEDBACK, LATENCY_BOUNDS_MS, OUTCOMES, PREDICTIONS

_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 24 * _HOUR_US
_PREDICTION_FIELDS: Final = 17
_TRUNCATED_FIELD: Final = 15  # releases without it wrote lines of 16 fields, the others in the same order
_FEEDBACK_FIELDS: Final = 5
_OUTCOME_FIELDS: Final = 8


class Part(NamedTuple):
    """Rows that belong under one key of the lake."""

    key: str
    table: pa.Table


class Lines(NamedTuple):
    """The rows of a segment, and how many lines could not be read."""

    rows: list[list[Any]]
    unreadable: int


def read_lines(data: bytes, *fields: int) -> Lines:
    """Return the rows of a segment: lines with any of these numbers of fields.

    A last line without its end was being written when its process died: it was never answered.
    """
    rows = []
    unreadable = 0
    lines = data.split(b"\n")
    for line in lines[:-1]:
        if not line:
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            unreadable += 1
            continue
        if type(row) is list and len(row) in fields:
            rows.append(row)
        else:
            unreadable += 1
    return Lines(rows, unreadable)


def prediction_parts(data: Iterable[bytes], name: str, replica: str) -> tuple[list[Part], int]:
    """Tables of prediction segments, one an hour of request time, and the number of unreadable lines.

    Args:
        data: contents of segments.
        name: what the files are called: `<replica>-<segment number>`.
        replica: goes into the column.
    """
    rows, unreadable = _read_all(data, _PREDICTION_FIELDS, _PREDICTION_FIELDS - 1)
    for row in rows:
        if len(row) < _PREDICTION_FIELDS:
            row.insert(_TRUNCATED_FIELD, None)
    parts = [
        Part(f"{prediction_prefix(_time(hour))}{name}.parquet", _prediction_table(group, replica))
        for hour, group in _by_period(rows, 1, _HOUR_US)
    ]
    return parts, unreadable


def feedback_parts(data: Iterable[bytes], name: str, _replica: str) -> tuple[list[Part], int]:
    """Tables of feedback segments, one a day of receipt, and the number of unreadable lines."""
    rows, unreadable = _read_all(data, _FEEDBACK_FIELDS)
    parts = []
    for day, group in _by_period(rows, 2, _DAY_US):
        request_id, label, at, source, probability = zip(*group, strict=True)
        columns = [[SCHEMA_VERSION] * len(group), request_id, label, at, source, probability]
        parts.append(Part(f"{feedback_prefix(_time(day))}{name}.parquet", _table(columns, FEEDBACK)))
    return parts, unreadable


def outcome_parts(data: Iterable[bytes], name: str, replica: str) -> tuple[list[Part], int]:
    """The table of one minute's counts, summed over workers, and the number of unreadable lines."""
    rows, unreadable = _read_all(data, _OUTCOME_FIELDS)
    sums: dict[tuple[int, str, str], list[int]] = {}
    for minute, version, arm, ok, error, shed, timeout, histogram in rows:
        cell = sums.setdefault((minute, version, arm), [0] * (4 + len(LATENCY_BOUNDS_MS) + 1))
        for index, count in enumerate((ok, error, shed, timeout, *histogram)):
            cell[index] += count
    if not sums:
        return [], unreadable
    keys = sorted(sums)
    counts = [sums[key] for key in keys]
    columns = [
        [SCHEMA_VERSION] * len(keys),
        [key[0] for key in keys],
        [key[1] for key in keys],
        [key[2] for key in keys],
        *([cell[index] for cell in counts] for index in range(4)),
        [cell[4:] for cell in counts],
        [replica] * len(keys),
    ]
    return [Part(f"{outcome_prefix(_time(keys[0][0]))}{name}.parquet", _table(columns, OUTCOMES))], unreadable


def _read_all(data: Iterable[bytes], *fields: int) -> tuple[list[list[Any]], int]:
    rows: list[list[Any]] = []
    unreadable = 0
    for each in data:
        lines = read_lines(each, *fields)
        rows += lines.rows
        unreadable += lines.unreadable
    return rows, unreadable


def _by_period(rows: list[list[Any]], time_field: int, period_us: int) -> Iterator[tuple[int, list[list[Any]]]]:
    groups: dict[int, list[list[Any]]] = defaultdict(list)
    for row in rows:
        groups[row[time_field] // period_us * period_us].append(row)
    yield from sorted(groups.items())


def _time(at_us: int) -> datetime:
    return datetime.fromtimestamp(at_us / 1e6, UTC)


def _prediction_table(rows: list[list[Any]], replica: str) -> pa.Table:
    columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
    columns = [[SCHEMA_VERSION] * len(rows), *columns, [replica] * len(rows)]
    return _table(columns, PREDICTIONS)


def _table(columns: Iterable[Any], schema: pa.Schema) -> pa.Table:
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
