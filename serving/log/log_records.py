"""Parquet tables made from log segments."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import pyarrow as pa

from absa.records.layout import feedback_prefix, outcome_prefix, prediction_prefix
from absa.records.rows import Feedback, OutcomeCount, Prediction
from absa.records.schema import from_microseconds
from absa.records.tables import FEEDBACK, OUTCOMES, PREDICTIONS, table_of

_HOUR_US: Final = 3_600_000_000
_DAY_US: Final = 24 * _HOUR_US


class LogPart(NamedTuple):
    """Rows of one file in the lake."""

    key: str
    table: pa.Table


def prediction_parts(rows: Iterable[Prediction], name: str, replica: str) -> list[LogPart]:
    """Return tables of predictions, one per hour of request time.

    Args:
        rows: rows of the log.
        name: name of the files: `<replica>-<segment number>`.
        replica: value of the column `replica`.
    """
    return [
        LogPart(
            f"{prediction_prefix(from_microseconds(hour))}{name}.parquet", table_of(group, PREDICTIONS, replica=replica)
        )
        for hour, group in _by_period(rows, _HOUR_US)
    ]


def feedback_parts(rows: Iterable[Feedback], name: str, _replica: str) -> list[LogPart]:
    """Return tables of feedback, one per day of receipt."""
    return [
        LogPart(f"{feedback_prefix(from_microseconds(day))}{name}.parquet", table_of(group, FEEDBACK))
        for day, group in _by_period(rows, _DAY_US)
    ]


def outcome_parts(rows: Iterable[OutcomeCount], name: str, replica: str) -> list[LogPart]:
    """Return the table of one minute's counts, summed over workers."""
    sums: dict[tuple[int, str, str], list[int]] = {}
    for row in rows:
        counts = (row.ok, row.error, row.shed, row.timeout, *row.latency_histogram)
        before = sums.get((row.minute, row.version, row.arm), [0] * len(counts))
        sums[row.minute, row.version, row.arm] = [a + b for a, b in zip(before, counts, strict=True)]
    if not sums:
        return []
    summed = [
        OutcomeCount(*key, counts[0], counts[1], counts[2], counts[3], counts[4:], replica)
        for key, counts in sorted(sums.items())
    ]
    prefix = outcome_prefix(from_microseconds(summed[0].minute))
    return [LogPart(f"{prefix}{name}.parquet", table_of(summed, OUTCOMES))]


def _by_period(rows: Iterable[Any], period_us: int) -> Iterator[tuple[int, list[Any]]]:
    groups: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        groups[row.at // period_us * period_us].append(row)
    yield from sorted(groups.items())
