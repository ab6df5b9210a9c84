"""Lines of the write-ahead log: a row as a JSON array, read from segments of any release.

A line holds the format's number, then the row's values in the order of its fields. A new format appends fields with a
default, so lines of earlier formats are shorter. Lines of releases before the number existed hold the values alone.
"""

from typing import Any, Final, NamedTuple, TypeVar

import orjson

from absa.records.tables import Feedback, OutcomeCount, Prediction

LOG_FORMAT: Final = 2
_FIRST_NUMBER: Final = 2
_UNNUMBERED_BELOW: Final = 1_000  # a larger first number is a time, of a line without the format's number
Row = TypeVar("Row", Prediction, Feedback, OutcomeCount)
_UNNUMBERED: Final[dict[type, tuple[tuple[str, ...], ...]]] = {
    Prediction: (Prediction._fields[:17], tuple(name for name in Prediction._fields[:17] if name != "truncated")),
    Feedback: (Feedback._fields[:5],),
    OutcomeCount: (OutcomeCount._fields[:8],),
}


def json_line(row: Prediction | Feedback | OutcomeCount) -> bytes:
    """Return a row's line in the write-ahead log."""
    return orjson.dumps((LOG_FORMAT, *row), option=orjson.OPT_APPEND_NEWLINE)


class Lines(NamedTuple):
    """Content of a log segment. `newer` is the highest format number above ours, 0 where every line is known."""

    rows: list[Any]
    unreadable: int
    newer: int


def read_log(data: bytes, kind: type[Row]) -> Lines:
    """Return the rows of a log segment of any release.

    A last line without its end was being written when its process died: it was never answered.
    """
    by_count = {len(names): names for names in _UNNUMBERED[kind]}
    required = len(kind._fields) - len(kind._field_defaults)
    rows: list[Row] = []
    unreadable = newer = 0
    for line in data.split(b"\n")[:-1]:
        if not line:
            continue
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError:
            values = None
        first = values[0] if isinstance(values, list) and values else None
        if type(first) is int and first < _UNNUMBERED_BELOW:
            if first > LOG_FORMAT:
                newer = max(newer, first)
            elif first >= _FIRST_NUMBER and required < len(values) <= 1 + len(kind._fields):
                rows.append(kind(*values[1:]))
            else:
                unreadable += 1
        elif first is not None and (names := by_count.get(len(values))) is not None:
            rows.append(kind(**dict(zip(names, values, strict=True))))
        else:
            unreadable += 1
    return Lines(rows, unreadable, newer)
