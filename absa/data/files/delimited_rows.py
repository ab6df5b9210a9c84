"""Rows of a block of delimited text: the cells of its records as columns."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from absa.data.files.delimited import AS_WRITTEN, MALFORMED, QUOTE_REASONS, Layout, Positions, Records
from absa.data.files.quoting import INVALID_UTF8, cell_values


class DelimitedRows(NamedTuple):
    """Cells of the wanted columns as text, the line of each row, and why it is unreadable (null if it is readable).

    The text column of an unreadable row has the line as written. `as_written` has the line numbers of rows whose quotes
    were read as written.
    """

    table: pa.Table
    lines: Positions
    reasons: pa.Array
    as_written: list[int]


def read_rows(data: bytes, records: Records, layout: Layout, wanted: Sequence[int]) -> DelimitedRows:
    """Read the wanted columns (indices into the header) of the records of a block.

    A row is unreadable if it has another number of cells than the header, or if a wanted cell is not UTF-8.
    """
    names = [f"c{index}" for index in wanted]
    schema = pa.schema([(name, pa.string()) for name in names])
    raw_at = wanted.index(layout.place("text")) if layout.place("text") in wanted else None
    first = 0
    parts: list[pa.Table] = []
    reasons: list[pa.Array] = []
    if records.regular and (parsed := _parse(data, records, layout, wanted)) is not None:
        table, malformed = parsed
        if malformed:
            table = _with_raw(table, data, records, malformed, schema, raw_at)
        marks = np.zeros(records.regular, dtype=bool)
        marks[malformed] = True
        parts.append(table)
        reasons.append(pa.array(np.where(marks, MALFORMED, ""), pa.string(), mask=~marks))
        first = records.regular
    rows: list[list[str | None]] = []
    why: list[str | None] = []
    delimiter, width = layout.delimiter.encode(), len(layout.header)
    rest = slice(first, None)
    places = zip(records.starts[rest].tolist(), records.ends[rest].tolist(), records.kinds[rest].tolist(), strict=True)
    for start, end, kind in places:
        reason = QUOTE_REASONS.get(kind)
        values: list[str | None] | None = None
        if reason is None:
            written = kind == AS_WRITTEN
            cells = data[start:end].split(delimiter) if written else cell_values(data, start, end, delimiter)
            if len(cells) != width:
                reason = MALFORMED
            else:
                try:
                    values = [cells[index].decode() for index in wanted]
                except UnicodeDecodeError:
                    reason = INVALID_UTF8
        if values is None:
            values = [None] * len(wanted)
            if raw_at is not None:
                values[raw_at] = _raw(data, start, end)
        rows.append(values)
        why.append(reason)
    if rows or not parts:
        columns = zip(*rows, strict=True) if rows else ([] for _ in names)
        parts.append(pa.table([pa.array(column, pa.string()) for column in columns], schema=schema))
        reasons.append(pa.array(why, pa.string()))
    kept = records.lines[records.kinds == AS_WRITTEN]
    return DelimitedRows(pa.concat_tables(parts), records.lines, pa.concat_arrays(reasons), kept.tolist())


def _raw(data: bytes, start: int, end: int) -> str:
    """Return a line as it is written, for the quarantine."""
    return data[start:end].decode(errors="replace")


def _with_raw(
    table: pa.Table, data: bytes, records: Records, malformed: list[int], schema: pa.Schema, raw_at: int | None
) -> pa.Table:
    """Insert the rows that Arrow left out at their places; their text is the line as written."""
    raw = [_raw(data, int(records.starts[index]), int(records.ends[index])) for index in malformed]
    columns = [raw if n == raw_at else [None] * len(raw) for n in range(len(schema.names))]
    aside = pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)
    good = np.delete(np.arange(records.regular), malformed)
    order = np.argsort(np.concatenate([good, malformed]), kind="stable")
    return pa.concat_tables([table.cast(schema), aside]).take(pa.array(order))


def _parse(data: bytes, records: Records, layout: Layout, wanted: Sequence[int]) -> tuple[pa.Table, list[int]] | None:
    """Parse the regular records with Arrow: return rows and malformed rows; None if Arrow finds other rows."""
    from pyarrow import csv as arrow_csv

    malformed: list[int] = []

    def set_aside(row: Any) -> str:
        malformed.append(row.number - 1)
        return "skip"

    names = [f"c{index}" for index in range(len(layout.header))]
    chosen = [names[index] for index in wanted]
    try:
        table = arrow_csv.read_csv(
            pa.py_buffer(data).slice(0, records.regular_end),
            read_options=arrow_csv.ReadOptions(
                use_threads=False,  # with threads, Arrow reports no row numbers
                block_size=max(records.regular_end, 1),
                column_names=names,
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=layout.delimiter, newlines_in_values=True, invalid_row_handler=set_aside
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=chosen, column_types=dict.fromkeys(chosen, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:  # a cell is not UTF-8: the caller reads line by line and finds it
        return None
    if table.num_rows + len(malformed) != records.regular:
        return None
    return table, malformed
