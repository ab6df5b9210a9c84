"""Rows of a partition: the input's columns, the number of each row, and the reason why a row is unreadable."""

import io
import json
from contextlib import ExitStack
from typing import IO, Any, Final, NamedTuple

import pyarrow as pa

from absa.batch.batch_input import BatchInput, InputFile, Partition, RowSpan
from absa.data.files import json_lines
from absa.data.files.delimited import find_records
from absa.data.files.delimited_rows import read_rows
from absa.data.files.parquet_rows import open_parquet, scan_rows
from absa.errors import InvalidDataError

_BATCH_ROWS: Final = 10_000


class PartitionRows(NamedTuple):
    """Rows of a partition.

    A table of the input's columns under their own names, the number of each row (0 for the first row of the input), its
    line in its file (null for Parquet), and the reason why it is unreadable (null for a readable row). The text column
    of an unreadable row has the line as written. `as_written` has the file and line of each row with a double quote
    that was read as an ordinary character.
    """

    table: pa.Table
    row_ids: pa.Array
    lines: pa.Array
    unreadable: pa.Array
    as_written: tuple[tuple[str, int], ...] = ()


class _SpanRows(NamedTuple):
    table: pa.Table
    lines: pa.Array
    unreadable: pa.Array
    as_written: tuple[tuple[str, int], ...] = ()


class PartitionReader:
    """Reader of one input's partitions, in any order. It keeps a file position, so threads must not share it."""

    def __init__(self, source: BatchInput) -> None:
        self._source = source
        self._schema = pa.schema([(name, pa.string()) for name in source.columns])
        self._parquet: _ParquetRows | None = None
        self._converted: tuple[int, io.BytesIO] | None = None

    def read(self, partition: Partition) -> PartitionRows:
        """Return the rows of a partition. Columns of CSV and JSON lines are text; Parquet keeps its types.

        Raises:
            InvalidDataError: a file has changed since the input was inspected.
        """
        parts = [self._span(each) for each in partition.spans]
        table = pa.concat_tables([each.table for each in parts], promote_options="permissive").combine_chunks()
        if [each.table.num_rows for each in parts] != [each.rows for each in partition.spans]:
            files = ", ".join(self._source.files[each.file].uri for each in partition.spans)
            raise InvalidDataError(f"{files} changed while it was read; run the batch again when it is complete")
        return PartitionRows(
            table=table,
            row_ids=pa.array(range(partition.first_row, partition.first_row + table.num_rows), pa.int64()),
            lines=pa.concat_arrays([each.lines for each in parts]),
            unreadable=pa.concat_arrays([each.unreadable for each in parts]),
            as_written=tuple(place for each in parts for place in each.as_written),
        )

    def _span(self, span: RowSpan) -> _SpanRows:
        file = self._source.files[span.file]
        if file.kind == "parquet":
            if self._parquet is None or self._parquet.index != span.file or self._parquet.at > span.start:
                if self._parquet is not None:
                    self._parquet.close()
                self._parquet = _ParquetRows(file, span.file, list(self._source.columns), span.start)
            table = self._parquet.take(span.start, span.end)
            return _SpanRows(table, pa.nulls(table.num_rows, pa.int64()), pa.nulls(table.num_rows, pa.string()))
        data = self._bytes(file, span)
        return self._json_rows(data, span) if file.layout is None else self._csv_rows(data, file, span)

    def _bytes(self, file: InputFile, span: RowSpan) -> bytes:
        """Return the bytes of a span. A file that is converted whole, such as a workbook, is kept for later spans."""
        if self._converted is not None and self._converted[0] == span.file:
            return _bytes_of(self._converted[1], span)
        with file.open() as stream:
            if isinstance(stream, io.BytesIO):
                self._converted = (span.file, stream)
            return _bytes_of(stream, span)

    def _csv_rows(self, data: bytes, file: InputFile, span: RowSpan) -> _SpanRows:
        assert file.layout is not None
        records = find_records(data, file.layout, line=span.line, final=True)
        wanted = [file.layout.header.index(name) for name in self._source.columns]
        rows = read_rows(data, records, file.layout, wanted)
        return _SpanRows(
            table=rows.table.rename_columns(self._schema.names).cast(self._schema),
            lines=pa.array(rows.lines, pa.int64()),
            unreadable=rows.reasons.cast(pa.string()),
            as_written=tuple((file.uri, line) for line in rows.as_written),
        )

    def _json_rows(self, data: bytes, span: RowSpan) -> _SpanRows:
        rows: list[list[str | None]] = []
        lines: list[int] = []
        unreadable: list[str | None] = []
        for start, end, line in json_lines.rows_of(data, span.line):
            found = self._json_row(data[start:end])
            if isinstance(found, str):
                raw = data[start:end].decode(errors="replace")
                rows.append([raw if name == self._source.text else None for name in self._source.columns])
                unreadable.append(found)
            else:
                rows.append(found)
                unreadable.append(None)
            lines.append(line)
        columns = zip(*rows, strict=True) if rows else ([] for _ in self._source.columns)
        return _SpanRows(
            table=pa.table([pa.array(column, pa.string()) for column in columns], schema=self._schema),
            lines=pa.array(lines, pa.int64()),
            unreadable=pa.array(unreadable, pa.string()),
        )

    def _json_row(self, line: bytes) -> list[str | None] | str:
        """Return the cells of a line, or the reason why the line is unreadable."""
        row = json_lines.parse_line(line)
        if isinstance(row, str):
            return row
        if any(isinstance(row.get(name), list | dict) for name in self._source.inputs):
            return json_lines.NOT_TEXT
        return [_as_text(row.get(name)) for name in self._source.columns]


def _bytes_of(stream: IO[bytes], span: RowSpan) -> bytes:
    """Return the bytes of a span, without the read-ahead that is useful for whole files only."""
    found = bytearray()
    raw = getattr(stream, "raw", stream)  # a converted file is in memory
    raw.seek(span.start)
    while len(found) < span.end - span.start:
        more = raw.read(span.end - span.start - len(found))
        if not more:
            break
        found += more
    return bytes(found)


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class _ParquetRows:
    """Position in a Parquet file that only moves forward, so that partitions read in order decode no row twice."""

    def __init__(self, file: InputFile, index: int, columns: list[str], start: int) -> None:
        self.index = index
        self._stack = ExitStack()
        parquet = open_parquet(self._stack.enter_context(file.open()), file.uri)
        group, self.at = 0, 0
        while self.at + (held := parquet.file.metadata.row_group(group).num_rows) <= start:
            group, self.at = group + 1, self.at + held
        self._batches = scan_rows(parquet, file.uri, columns, first_group=group, rows=_BATCH_ROWS)
        self._columns = columns
        self._rest: pa.Table | None = None

    def take(self, start: int, end: int) -> pa.Table:
        """Return the rows [start, end); `start` must not be before the position."""
        self._advance(start - self.at)
        return pa.concat_tables(self._advance(end - start))

    def _advance(self, rows: int) -> list[pa.Table]:
        passed = []
        while rows > 0:
            table = self._rest if self._rest is not None else self._next()
            taken = min(rows, table.num_rows)
            passed.append(table.slice(0, taken))
            self._rest = table.slice(taken) if taken < table.num_rows else None
            self.at, rows = self.at + taken, rows - taken
        return passed

    def _next(self) -> pa.Table:
        return pa.Table.from_batches([next(self._batches)]).select(self._columns)

    def close(self) -> None:
        self._stack.close()
