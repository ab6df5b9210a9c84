"""The rows of a partition: the input's columns, the number of each row, and why a row could not be read."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from absa.batch.source import FIELD_LIMIT, TEXT_ENCODING, InputFile, Partition, Source, Span, csv_reader, cut, decoded
from absa.errors import InvalidDataError

_BATCH_ROWS: Final = 10_000
Row = tuple[list[str | None], str | None]


class PartitionRows(NamedTuple):
    """A table of the input's columns under their own names, the number of each row (0 for the input's first), and why
    it could not be read (null for rows that could)."""

    table: pa.Table
    row_ids: pa.Array
    unreadable: pa.Array


class PartitionReader:
    """Reads partitions of one input, in any order. Not for several threads: it keeps its place in a Parquet file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._schema = pa.schema([(name, pa.string()) for name in source.columns])
        self._parquet: _ParquetRows | None = None

    def read(self, partition: Partition) -> PartitionRows:
        """The rows of a partition. Columns of CSV and JSON lines are text; Parquet keeps its types.

        Raises:
            InvalidDataError: a file has changed since the input was inspected.
        """
        parts, unreadable = zip(*(self._span(each) for each in partition.spans), strict=True)
        table = pa.concat_tables(parts, promote_options="permissive").combine_chunks()
        if table.num_rows != partition.rows:
            files = ", ".join(self._source.files[each.file].uri for each in partition.spans)
            raise InvalidDataError(f"{files} changed while it was read; run the batch again when it is complete")
        ids = pa.array(range(partition.first_row, partition.first_row + table.num_rows), pa.int64())
        return PartitionRows(table, ids, pa.concat_arrays(unreadable))

    def _span(self, span: Span) -> tuple[pa.Table, pa.Array]:
        file = self._source.files[span.file]
        if file.kind == "parquet":
            if self._parquet is None or self._parquet.index != span.file or self._parquet.at > span.start:
                if self._parquet is not None:
                    self._parquet.close()
                self._parquet = _ParquetRows(file, span.file, list(self._source.columns), span.start)
            table = self._parquet.take(span.start, span.end)
            return table, pa.nulls(table.num_rows, pa.string())
        data = _bytes(file, span.start, span.end)
        columns = self._source.columns
        rows = list(_json_rows(data, columns) if file.kind == "jsonl" else _csv_rows(data, file, columns))
        fields = zip(*(values for values, _ in rows), strict=True) if rows else ([] for _ in columns)
        arrays = [pa.array(field, pa.string()) for field in fields]
        return pa.table(arrays, schema=self._schema), pa.array([reason for _, reason in rows], pa.string())


def read_partitions(source: Source, rows: int) -> Iterator[PartitionRows]:
    """Every partition of an input, in order."""
    reader = PartitionReader(source)
    for partition in cut(source, rows):
        yield reader.read(partition)


def _bytes(file: InputFile, start: int, end: int) -> bytes:
    """Bytes [start, end), without the read-ahead that reading a whole file profits from."""
    found = bytearray()
    with file.open() as stream:
        raw = stream.raw
        raw.seek(start)
        while len(found) < end - start:
            more = raw.read(end - start - len(found))
            if not more:
                break
            found += more
    return bytes(found)


def _csv_rows(data: bytes, file: InputFile, columns: tuple[str, ...]) -> Iterator[Row]:
    nothing: list[str | None] = [None] * len(columns)
    order = [file.header.index(name) for name in columns]
    width = len(file.header)
    text, is_utf8 = _decoded_whole(data)
    as_it_is = is_utf8 and order == list(range(width))
    reader = csv_reader(io.StringIO(text, newline=""), file.delimiter)
    while True:
        try:
            row = next(reader, None)
        except csv.Error:
            yield nothing, "malformed_row"
            continue
        if row is None:
            return
        if not row:
            continue  # an empty line
        if len(row) != width:
            yield nothing, "malformed_row"
            continue
        if as_it_is:
            yield row, None
            continue
        values = row if is_utf8 else [decoded(field) for field in row]
        yield (nothing, "invalid_utf8") if None in values else ([values[index] for index in order], None)


def _decoded_whole(data: bytes) -> tuple[str, bool]:
    """The text of some rows, and whether it is UTF-8; else a character a byte, and each field is decoded on its own.

    Both split alike, as what parts fields and rows is ASCII, unless a field could be too long by one of the two counts.
    """
    if len(data) <= FIELD_LIMIT:
        with suppress(UnicodeDecodeError):
            return data.decode(), True
    return data.decode(TEXT_ENCODING), False


def _json_rows(data: bytes, columns: tuple[str, ...]) -> Iterator[Row]:
    nothing: list[str | None] = [None] * len(columns)
    for line in io.BytesIO(data):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
            values = [_as_text(row.get(name)) for name in columns] if isinstance(row, dict) else None
        except UnicodeError:  # bytes that are no UTF-8, or half of a surrogate pair
            yield nothing, "invalid_utf8"
            continue
        except ValueError:
            values = None
        yield (nothing, "malformed_row") if values is None else (values, None)


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not text.isascii():
        text.encode()
    return text


class _ParquetRows:
    """A place in a Parquet file that moves forward: partitions that are read in order decode nothing twice."""

    def __init__(self, file: InputFile, index: int, columns: list[str], start: int) -> None:
        self.index = index
        self._stack = ExitStack()
        parquet = pq.ParquetFile(self._stack.enter_context(file.open()))
        group, self.at = 0, 0
        while self.at + (held := parquet.metadata.row_group(group).num_rows) <= start:
            group, self.at = group + 1, self.at + held
        groups = list(range(group, parquet.metadata.num_row_groups))
        self._batches = parquet.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=columns)
        self._columns = columns
        self._rest: pa.Table | None = None

    def take(self, start: int, end: int) -> pa.Table:
        """Rows [start, end), where start is not before the place."""
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
