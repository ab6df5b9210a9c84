"""Lines of the write-ahead log: a row as a JSON array, read from segments of any release.

A line has the number of the format, then the row's values in the order of its fields. A new format appends fields with
a default, so lines of earlier formats are shorter. Lines of releases before the number existed have only the values.
"""

from types import NoneType
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_type_hints

import orjson

from absa.records.rows import Feedback, OutcomeCount, Prediction

LOG_FORMAT: Final = 3
_FIRST_NUMBER: Final = 2
_UNNUMBERED_BELOW: Final = 1_000  # a larger first number is a time: the line has no format number
Row = TypeVar("Row", Prediction, Feedback, OutcomeCount)
_UNNUMBERED: Final[dict[type, tuple[tuple[str, ...], ...]]] = {
    Prediction: (Prediction._fields[:17], tuple(name for name in Prediction._fields[:17] if name != "truncated")),
    Feedback: (Feedback._fields[:5],),
    OutcomeCount: (OutcomeCount._fields[:8],),
}


def json_line(row: Prediction | Feedback | OutcomeCount) -> bytes:
    """Return the line of a row in the write-ahead log."""
    return orjson.dumps((LOG_FORMAT, *row), option=orjson.OPT_APPEND_NEWLINE)


class Lines(NamedTuple):
    """Content of a log segment.

    `newer` is the format number of a newer release that wrote the segment; 0 if this release can read the segment.
    """

    rows: list[Any]
    unreadable: int
    newer: int


def read_log(data: bytes, kind: type[Row]) -> Lines:
    """Return the rows of a log segment of any release.

    A last line without a line end is ignored: the process was killed while writing it, so its request was not answered.
    A segment has only one writer, so a line with a higher format number between readable lines is damaged, and counts
    as unreadable.
    """
    by_count = {len(names): names for names in _UNNUMBERED[kind]}
    required = len(kind._fields) - len(kind._field_defaults)
    never_none = [at for at, hint in enumerate(get_type_hints(kind).values()) if NoneType not in get_args(hint)]
    rows: list[Row] = []
    unreadable = newer = last = 0
    for line in data.split(b"\n")[:-1]:
        if not line:
            continue
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError:
            values = None
        first = values[0] if isinstance(values, list) and values else None
        row: Row | None = None
        last = 0
        if type(first) is int and first < _UNNUMBERED_BELOW:
            if first > LOG_FORMAT:
                last = first
            elif first >= _FIRST_NUMBER and required < len(values) <= 1 + len(kind._fields):
                row = kind(*values[1:])
        elif first is not None and (names := by_count.get(len(values))) is not None:
            row = kind(**dict(zip(names, values, strict=True)))
        newer = max(newer, last)
        if row is None or any(_lacks_value(row[at]) for at in never_none) or not _has_its_score(row):
            unreadable += 1
        else:
            rows.append(row)
    if newer and (last or not rows):
        return Lines(rows, unreadable, newer)
    return Lines(rows, unreadable, 0)


def _has_its_score(row: Prediction | Feedback | OutcomeCount) -> bool:
    """Return True if a prediction has a score for its label and at least one other; a damaged line may lack them."""
    if not isinstance(row, Prediction):
        return True
    scored = isinstance(row.scores, list) and len(row.scores) > 1
    return scored and isinstance(row.label, int) and 0 <= row.label < len(row.scores)


def _lacks_value(value: object) -> bool:
    return value is None or (isinstance(value, list) and None in value)
