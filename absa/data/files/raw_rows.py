"""Raw rows of a user's file (CSV, JSON lines or Parquet) in bounded memory.

Columns are found by their names and read as text. The number of a row is its line in the file. Parquet has no lines:
there the first row has the number 2, as in a spreadsheet whose header is row 1.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from absa.data.files import json_lines
from absa.data.files.delimited import BLOCK_BYTES, Layout, find_records, not_utf8, read_layout, scan_blocks
from absa.data.files.delimited_rows import read_rows
from absa.data.files.json_lines import NOT_TEXT
from absa.data.files.quoting import INVALID_UTF8
from absa.data.files.reasons import reason_sentence
from absa.data.files.source_files import kind_of, readable
from absa.data.mapping import DEFAULT_MAPPING, FILE_COLUMNS, DataMapping
from absa.errors import InvalidDataError

_FRAME_ROWS: Final = 200_000
_INPUTS: Final = FILE_COLUMNS[:2]  # text and aspect

RAW: Final = {"row": pl.Int64, **dict.fromkeys(FILE_COLUMNS, pl.String)}
SCANNED: Final = {
    "row": pl.Int64,
    "reason": pl.String,  # why the row is unreadable (null if it is readable); its text is then the line as written
    "as_written": pl.Boolean,  # True if a double quote in it was read as written
    **dict.fromkeys(FILE_COLUMNS, pl.String),
}


def scan_file(
    path: Path, *, require_label: bool = True, mapping: DataMapping = DEFAULT_MAPPING
) -> Iterator[pl.DataFrame]:
    """Yield the raw rows of a file in blocks (columns of `SCANNED`), numbered by their lines.

    Raises:
        InvalidDataError: the file is missing, empty or not UTF-8, lacks a column, or its format is broken.
    """
    if path.is_dir() or not path.exists():
        raise InvalidDataError(
            f"{path} is {'a folder' if path.is_dir() else 'missing'}; expected a CSV, JSONL or Parquet file"
        )
    if path.stat().st_size == 0:
        raise InvalidDataError(f"{path} is empty; expected a header and rows")
    try:
        opened = path.open("rb")
    except OSError as error:
        raise InvalidDataError(f"{path} cannot be read: {error.strerror}") from None
    with opened as file:
        yield from scan_stream(readable(file, str(path)), str(path), require_label=require_label, mapping=mapping)


@dataclass(frozen=True, kw_only=True)
class FilePart:
    """Consecutive rows of a file, at most `lines`: a frame of `SCANNED`, or bytes that `parse` converts to a frame.

    The bytes can be sent to another process, which parses them.
    """

    content: pl.DataFrame | bytes | Path
    lines: int
    parse: Callable[[bytes], pl.DataFrame] | None = None

    def handed_over(self, path: Path) -> "FilePart":
        """Move the content to a file for another process; this is several times faster than a pipe."""
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        elif isinstance(self.content, pl.DataFrame):
            self.content.write_ipc(path, compression="uncompressed")
        return replace(self, content=path)

    def rows(self) -> pl.DataFrame:
        """Return the rows, and remove the file that `handed_over` wrote.

        Raises:
            InvalidDataError: a row is not UTF-8.
        """
        content = self.content
        if isinstance(content, Path):
            path = content
            content = pl.read_ipc(path) if self.parse is None else path.read_bytes()
            path.unlink()
        if isinstance(content, pl.DataFrame):
            return content
        assert self.parse is not None  # content of bytes always has a parser
        return self.parse(content)


def scan_stream(
    file: IO[bytes],
    name: str,
    *,
    require_label: bool = True,
    mapping: DataMapping = DEFAULT_MAPPING,
    block_bytes: int | None = None,
) -> Iterator[pl.DataFrame]:
    """Scan an open seekable stream like `scan_file`; the ending of the name decides the format."""
    for part in scan_parts(file, name, require_label=require_label, mapping=mapping, block_bytes=block_bytes):
        yield part.rows()


def scan_parts(
    file: IO[bytes],
    name: str,
    *,
    require_label: bool = True,
    mapping: DataMapping = DEFAULT_MAPPING,
    on_notice: Callable[[str], None] = lambda _: None,
    block_bytes: int | None = None,
) -> Iterator[FilePart]:
    """Yield the parts of an open seekable stream, at least one; text is cut between rows and not parsed yet.

    `on_notice` receives a sentence about a column that the task does not use. Parts have about `block_bytes` bytes, by
    default 16 MB.

    Raises:
        InvalidDataError: a column is missing, or the format is broken.
    """
    scan = {"parquet": _scan_parquet, "jsonl": _scan_jsonl, "csv": _scan_csv}[kind_of(name)]
    nothing = True
    choose = _Choice(name=name, mapping=mapping, require_label=require_label, on_notice=on_notice)
    for part in scan(file, name, choose, block_bytes or BLOCK_BYTES):
        nothing = False
        yield part
    if nothing:
        yield FilePart(content=pl.DataFrame(schema=SCANNED), lines=0)


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """Choice of a file's columns by its header."""

    name: str
    mapping: DataMapping
    require_label: bool
    on_notice: Callable[[str], None]

    def __call__(self, header: Sequence[str]) -> dict[str, str]:
        if notice := self.mapping.unread(header, self.name):
            self.on_notice(notice)
        chosen = self.mapping.choose(header, self.name, self.mapping.required(label=self.require_label))
        if self.require_label and "observed_at" not in chosen:
            self.on_notice(
                f"{self.name}: no column {self.mapping.shown('observed_at')}: every row counts as observed now, so the "
                "gate cannot separate recent from established rows; name the column of times as observed_at in [data]"
            )
        return chosen


def _in_raw_form(frame: pl.DataFrame, ours: Mapping[str, str], first_row: int) -> pl.DataFrame:
    """Return a frame that has no unreadable rows in the columns of `SCANNED`."""
    columns = []
    for name in FILE_COLUMNS:
        column = pl.lit(None, pl.String)
        if name in ours:
            column, dtype = pl.col(ours[name]), frame.schema[ours[name]]
            if dtype.is_float():
                column = column.fill_nan(None)
            if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
                column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        columns.append(column.cast(pl.String).alias(name))
    return frame.select(
        row=pl.int_range(first_row, first_row + pl.len(), dtype=pl.Int64),
        reason=pl.lit(None, pl.String),
        as_written=pl.lit(value=False),
    ).hstack(frame.select(columns))


def _scan_csv(file: IO[bytes], name: str, choose: _Choice, block_bytes: int) -> Iterator[FilePart]:
    layout = read_layout(file, name, choose.mapping)
    ours = choose(layout.header)
    for _, data, records in scan_blocks(file, layout, block_bytes):
        parse = partial(_csv_rows, line=int(records.lines[0]), layout=layout, ours=ours)
        start = int(records.starts[0])
        yield FilePart(content=data[start : records.consumed], lines=len(records.starts), parse=parse)


def _csv_rows(data: bytes, *, line: int, layout: Layout, ours: Mapping[str, str]) -> pl.DataFrame:
    records = find_records(data, layout, line=line, final=True)
    rows = read_rows(data, records, layout, [layout.header.index(column) for column in ours.values()])
    reasons = pl.Series("reason", rows.reasons, dtype=pl.String)
    if (reasons == INVALID_UTF8).any():
        raise not_utf8(data, layout.name, line)
    frame = pl.DataFrame(rows.table)
    frame.columns = list(ours)
    lines = pl.Series("row", rows.lines, dtype=pl.Int64)
    as_written = lines.is_in(rows.as_written).alias("as_written")
    missing = [pl.lit(None, pl.String).alias(column) for column in FILE_COLUMNS if column not in ours]
    return frame.with_columns(lines, reasons, as_written, *missing).select(list(SCANNED))


def _scan_jsonl(file: IO[bytes], name: str, choose: _Choice, block_bytes: int) -> Iterator[FilePart]:
    ours: dict[str, str] | None = None
    for _, line, block in json_lines.scan_lines(file, name, block_bytes):
        if ours is None:
            names = _json_names(block, line, name, choose.mapping)
            if names is None:  # the block is only white space
                continue
            known = [column for column in FILE_COLUMNS if choose.mapping.names(column)]
            ours = {column: choose.mapping.shown(column) for column in known} | choose(names)
        lines = block.count(b"\n") + block.count(b"\r") + 1
        yield FilePart(content=block, lines=lines, parse=partial(_json_rows, line=line, ours=ours, name=name))


def _json_names(block: bytes, line: int, name: str, mapping: DataMapping) -> list[str] | None:
    """Return the names in all objects of the first block, because line 1 may lack names whose value is null."""
    names: dict[str, None] = {}
    first, objects = 0, 0
    for start, end, number in json_lines.rows_of(block, line):
        first = first or number
        row = json_lines.parse_line(block[start:end])
        if isinstance(row, dict):
            names.update(dict.fromkeys(row))
            objects += 1
    if first and not objects:
        raise InvalidDataError(f"{name}: {reason_sentence('not_an_object', first, mapping)}")
    return list(names) if objects else None


def _json_rows(block: bytes, *, line: int, ours: Mapping[str, str], name: str) -> pl.DataFrame:
    try:
        block.decode()
        if not json_lines.may_hold_half_characters(block):
            frame = pl.read_ndjson(io.BytesIO(block), schema=dict.fromkeys(ours.values(), pl.String))
            lines = _json_lines(block, line, frame.height)
            inputs = [ours[column] for column in _INPUTS if column in ours]
            shown = frame.select(pl.col(inputs).str.contains(r"^[\[{]").any())  # may be lists or objects
            if lines is not None and not any(shown.row(0)):
                return _in_raw_form(frame, ours, line).with_columns(lines)
    except UnicodeDecodeError:
        raise not_utf8(block, name, line) from None
    except pl.exceptions.PolarsError:
        pass  # a line is not an object or not JSON: the loop below finds it
    records = [_json_record(block[start:end], number, ours) for start, end, number in json_lines.rows_of(block, line)]
    return pl.DataFrame(records, schema=SCANNED, orient="row")


def _json_lines(block: bytes, line: int, rows: int) -> pl.Series | None:
    """Return the line of each row; None if the numbers of rows and lines differ."""
    last = 0 if block.endswith(b"\n") else 1
    if b"\r" not in block and block.count(b"\n") + last == rows:
        return pl.Series("row", range(line, line + rows), dtype=pl.Int64)
    numbers = [number for _, _, number in json_lines.rows_of(block, line)]
    return pl.Series("row", numbers, dtype=pl.Int64) if len(numbers) == rows else None


def _json_record(data: bytes, line: int, ours: Mapping[str, str]) -> tuple[Any, ...]:
    row = json_lines.parse_line(data)
    if isinstance(row, dict):
        values = [row.get(ours[column]) if column in ours else None for column in FILE_COLUMNS]
        if not any(isinstance(value, list | dict) for value in values[: len(_INPUTS)]):
            return line, None, False, *map(json_lines.as_text, values)
        row = NOT_TEXT
    return line, row, False, data.decode(errors="replace"), *[None] * (len(FILE_COLUMNS) - 1)


def _scan_parquet(file: IO[bytes], name: str, choose: _Choice, block_bytes: int) -> Iterator[FilePart]:
    import pyarrow as pa

    from absa.data.files.parquet_rows import open_parquet, scan_rows, text_type_error

    source = open_parquet(file, name)
    ours = choose(source.schema.names)
    for ours_name, column in ours.items():
        type_ = source.schema.field(column).type
        if error := text_type_error(name, column, type_, text=ours_name in _INPUTS):
            raise error
    position, held, waiting = 2, 0, list[pa.RecordBatch]()

    def frame() -> pl.DataFrame:
        return _in_raw_form(pl.DataFrame(pa.Table.from_batches(waiting)), ours, position)

    for batch in scan_rows(source, name, list(ours.values())):
        waiting.append(batch)
        held += batch.nbytes
        if held >= block_bytes * 2 or sum(each.num_rows for each in waiting) >= _FRAME_ROWS:
            yield FilePart(content=(raw := frame()), lines=raw.height)
            position, held, waiting = position + raw.height, 0, []
    if waiting:
        yield FilePart(content=(raw := frame()), lines=raw.height)
