"""Rows of delimited text (CSV, TSV, semicolons): where each begins and ends, and what its cells are.

One grammar for ingest, batch and evaluation. Quotes follow RFC 4180: a cell that starts with a double quote ends with
one, and a quote inside it is doubled. Files of tools that do not quote break this rule, so a quote is not believed that
opens a cell and does not close it properly, or makes several lines a row of another number of cells than the header's:
its line is read as written if it then has the header's number of cells, and is unreadable otherwise; reading goes on at
the next line either way. Where a quote closes properly, but lines between look like rows, neither reading can be
trusted, and each of its lines is unreadable. So no row holds another row's line, and every line that is not empty
belongs to exactly one row.

Blocks whose quotes are all regular, which a few array operations decide, are parsed by Arrow; the others line by line.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import IO, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from absa.errors import InvalidDataError

BLOCK_BYTES: Final = 16 << 20
MAX_CELL_BYTES: Final = 10_000_000  # a quote that is open for longer is not believed
MAX_LINE_BYTES: Final = 64 << 20
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
INVALID_UTF8: Final = "invalid_utf8"
MALFORMED: Final = "malformed_row"
STRAY_QUOTE: Final = "stray_quote"
AMBIGUOUS_QUOTE: Final = "ambiguous_quote"

_DELIMITERS: Final = (",", "\t", ";")
_HEADER_BYTES: Final = 64 << 10
_BREAK: Final = re.compile(rb"\r\n|\r|\n")
_QUOTE, _LF, _CR = b'"\n\r'

_QUOTED, _AS_WRITTEN, _STRAY, _AMBIGUOUS = range(4)  # how a record is to be read
_UNREADABLE: Final = {_STRAY: STRAY_QUOTE, _AMBIGUOUS: AMBIGUOUS_QUOTE}
_MORE: Final = -1
_NEVER: Final = -2

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Header of a delimited file, whose `name` is for errors. `start` and `line` are where its rows begin."""

    name: str
    header: tuple[str, ...]
    delimiter: str
    start: int
    line: int

    def place(self, name: str) -> int:
        """Return the first column of this name, in any case, or -1."""
        return next((n for n, column in enumerate(self.header) if column.strip().lower() == name), -1)


class Records(NamedTuple):
    """Records of a block: [start, end) in bytes without the line break, the line of each, and how it is read.

    The first `regular` of them, up to byte `regular_end`, can be parsed by Arrow. What follows byte `consumed` needs
    more bytes; it begins at line `next_line`.
    """

    starts: Positions
    ends: Positions
    lines: Positions
    kinds: Positions
    regular: int
    regular_end: int
    consumed: int
    next_line: int

    @property
    def glued(self) -> npt.NDArray[np.bool_]:
        """Mark records that must not be cut off from the one before: which they are depends on it."""
        ambiguous = self.kinds == _AMBIGUOUS
        return np.asarray(ambiguous & np.concatenate([[False], ambiguous[:-1]]))


class DelimitedRows(NamedTuple):
    """Cells of the wanted columns as text, the line of each row, and why it is unreadable (null where it is not).

    An unreadable row has its line as written in the text column. `as_written` are the lines of rows whose quotes were
    not believed.
    """

    table: pa.Table
    lines: Positions
    reasons: pa.Array
    as_written: list[int]


def read_layout(file: IO[bytes], name: str, known: Sequence[str]) -> Layout:
    """Find the header, the first line that is not empty, and the delimiter that gives most of the known names.

    Raises:
        InvalidDataError: the header is not UTF-8.
    """
    file.seek(0)
    start = file.read(_HEADER_BYTES)
    at = len(BYTE_ORDER_MARK) if start.startswith(BYTE_ORDER_MARK) else 0
    line = 1
    while (found := _BREAK.match(start, at)) is not None:
        at, line = found.end(), line + 1
    layouts = []
    for delimiter in _DELIMITERS:
        end = _quoted_end(start, at, delimiter.encode(), final=True)
        quoted = end >= 0
        if not quoted:
            end = broken.start() if (broken := _BREAK.search(start, at)) else len(start)
        cells = _values(start, at, end, delimiter.encode()) if quoted else start[at:end].split(delimiter.encode())
        try:
            header = tuple(cell.decode() for cell in cells)
        except UnicodeDecodeError:
            raise not_utf8(file, name) from None
        if any("\0" in column for column in header):
            raise InvalidDataError(f"{name} is not a CSV file in UTF-8: its header holds zero bytes; save it as UTF-8")
        after = _BREAK.match(start, end)
        layouts.append(
            Layout(
                name=name,
                header=header,
                delimiter=delimiter,
                start=after.end() if after else end,
                line=line + len(_BREAK.findall(start, at, end)) + (after is not None),
            )
        )
    return max(layouts, key=lambda layout: sum(column.strip().lower() in known for column in layout.header))


def not_utf8(file: IO[bytes], name: str) -> InvalidDataError:
    """Name the first line and byte that are not UTF-8."""
    file.seek(0)
    for number, line in enumerate(file, 1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            return InvalidDataError(f"{name} is not UTF-8 at line {number}, byte {error.start + 1}; save it as UTF-8")
    return InvalidDataError(f"{name} is not UTF-8; save it as UTF-8")


def scan_blocks(
    file: IO[bytes], layout: Layout, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, bytes, Records]]:
    """Yield the byte at which a block begins, the block, and its records, in bounded memory.

    Raises:
        InvalidDataError: a line is longer than 64 MB.
    """
    file.seek(layout.start)
    base, line, rest = layout.start, layout.line, b""
    while True:
        more = file.read(block_bytes)
        data = rest + more
        records = find_records(data, layout, line=line, final=not more)
        if len(records.starts):
            yield base, data, records
        rest, line = data[records.consumed :], records.next_line
        base += records.consumed
        if not more:
            return
        check_line(layout.name, line, rest)


def check_line(name: str, line: int, data: bytes) -> None:
    """Raise where a line that has not ended is longer than memory should hold.

    Raises:
        InvalidDataError: it is longer than 64 MB.
    """
    if len(data) > MAX_LINE_BYTES:
        raise InvalidDataError(
            f"line {line} of {name} is longer than {MAX_LINE_BYTES >> 20} MB; expected one row per line"
        )


def find_records(data: bytes, layout: Layout, *, line: int, final: bool) -> Records:
    """Find the records of a block that begins with one, at this line of the file; `final` where the file ends with it.

    Equal bytes give equal records: cut between two records of one file, both parts give the records of the whole.
    """
    size = len(data)
    if not final and data.endswith(b"\r"):  # perhaps half of a line break
        size -= 1
    starts, ends, lines, regular_end, next_line = _regular(data[:size], layout, line, final=final)
    kinds = np.zeros(len(starts), dtype=np.int64)
    regular = len(starts)
    if regular_end == size:
        return Records(starts, ends, lines, kinds, regular, regular_end, size, next_line)
    found, consumed, next_line = _line_by_line(data[:size], regular_end, layout, next_line, final=final)
    rest = np.array(found, dtype=np.int64).reshape(-1, 4)
    return Records(
        np.concatenate([starts, rest[:, 0]]),
        np.concatenate([ends, rest[:, 1]]),
        np.concatenate([lines, rest[:, 2]]),
        np.concatenate([kinds, rest[:, 3]]),
        regular,
        regular_end,
        consumed,
        next_line,
    )


def _regular(
    data: bytes, layout: Layout, line: int, *, final: bool
) -> tuple[Positions, Positions, Positions, int, int]:
    """Return starts, ends and lines of the records before the first irregular one; where that begins, and its line."""
    nothing = np.empty(0, dtype=np.int64)
    codes = np.frombuffer(data, dtype=np.uint8)
    if not data or (b"\r" in data and _has_lone_cr(codes)):
        return nothing, nothing, nothing, 0, line
    breaks = np.flatnonzero(codes == _LF)
    closing, upto = breaks, len(data)
    if b'"' in data:
        quotes = np.flatnonzero(codes == _QUOTE)
        irregular = _first_irregular(codes, quotes, layout.delimiter)
        closing = breaks[np.searchsorted(quotes, breaks) % 2 == 0]
        upto = len(data) if irregular is None else irregular
        if irregular is None and len(quotes) % 2:
            upto = int(quotes[-1])  # the block ends inside a cell
    multiline = len(closing) < len(breaks)
    if upto < len(data):
        closing = closing[: np.searchsorted(closing, upto)]
        end = int(closing[-1]) + 1 if len(closing) else 0
    elif final and data[-1] != _LF:
        closing, end = np.append(closing, len(data)), len(data)
    else:
        end = int(closing[-1]) + 1 if len(closing) else 0
    starts = np.concatenate([np.zeros(1, np.int64), closing[:-1] + 1]) if len(closing) else nothing
    numbers = line + (np.searchsorted(breaks, starts) if multiline else np.arange(len(starts)))
    crlf = (closing > starts) & (codes[np.maximum(closing - 1, 0)] == _CR) & (closing < len(data))
    ends = closing - crlf
    used = ends > starts
    starts, ends, numbers = starts[used], ends[used], numbers[used]
    next_line = line + int(np.searchsorted(breaks, end))
    if multiline:
        for index in np.flatnonzero(np.searchsorted(breaks, starts) != np.searchsorted(breaks, ends - 1)):
            start, stop = int(starts[index]), int(ends[index])
            if stop - start > MAX_CELL_BYTES or _doubt(data[start:stop], layout) is not None:
                return starts[:index], ends[:index], numbers[:index], start, int(numbers[index])
    return starts, ends, numbers, end, next_line


def _has_lone_cr(codes: npt.NDArray[np.uint8]) -> bool:
    at = np.flatnonzero(codes == _CR) + 1
    return bool(at[-1] == len(codes) or (codes[at] != _LF).any())


def _first_irregular(codes: npt.NDArray[np.uint8], quotes: Positions, delimiter: str) -> int | None:
    """Return the first quote that RFC 4180 does not allow where it is, or None.

    Quotes side by side are a run. The number of quotes before a run says whether it is inside a quoted cell, as long
    as all runs before it are regular: outside, a run must begin a cell, and one of even length must end it too;
    inside, a run of odd length ends the cell, one of even length is made of doubled quotes.
    """
    apart = np.diff(quotes) > 1
    first = np.concatenate([[True], apart])
    last = np.concatenate([apart, [True]])
    begin, end = quotes[first], quotes[last]
    before = np.flatnonzero(first)
    odd = (end - begin) % 2 == 0
    inside = before % 2 == 1
    limits = np.zeros(256, dtype=bool)
    limits[[ord(delimiter), _LF]] = True
    begins = np.where(begin > 0, limits[codes[np.maximum(begin - 1, 0)]], True)
    limits[_CR] = True
    ends = np.where(end + 1 < len(codes), limits[codes[np.minimum(end + 1, len(codes) - 1)]], True)
    wrong = np.where(inside, odd & ~ends, ~begins | (~odd & ~ends))
    at = int(np.argmax(wrong))
    return int(begin[at]) if wrong[at] else None


def _line_by_line(
    data: bytes, at: int, layout: Layout, line: int, *, final: bool
) -> tuple[list[tuple[int, int, int, int]], int, int]:
    """Return records (start, end, line, kind) from a byte on; how far they go, and the line after them."""
    found: list[tuple[int, int, int, int]] = []
    delimiter, width = layout.delimiter.encode(), len(layout.header)
    size = len(data)
    while at < size:
        after = _BREAK.search(data, at)
        if after is None and not final:
            break
        end, following = after.span() if after is not None else (size, size)
        if end == at:
            at, line = following, line + 1
            continue
        if data.find(b'"', at, end) < 0:
            found.append((at, end, line, _QUOTED))
            at, line = following, line + 1
            continue
        closed = _quoted_end(data, at, delimiter, final=final)
        if closed == _MORE:
            break
        doubt = _doubt(data[at:closed], layout) if closed > end else None
        if closed == _NEVER or doubt == _STRAY:
            whole = data.count(delimiter, at, end) + 1 == width
            found.append((at, end, line, _AS_WRITTEN if whole else _STRAY))
            at, line = following, line + 1
            continue
        if doubt is None:
            found.append((at, closed, line, _QUOTED))
            line += len(_BREAK.findall(data, at, closed))
        else:
            line -= 1
            for piece_start, piece_end in _pieces(data, at, closed):
                line += 1
                if piece_end > piece_start:
                    found.append((piece_start, piece_end, line, _AMBIGUOUS))
        after = _BREAK.match(data, closed)
        at = after.end() if after is not None else closed
        line += after is not None
    return found, at, line


def _quoted_end(data: bytes, at: int, delimiter: bytes, *, final: bool) -> int:
    """Return the end of the record at a byte by RFC 4180; _NEVER if its quotes forbid it, _MORE if data end."""
    cell_end = _cell_end(delimiter)
    size = len(data)
    while True:
        if data[at : at + 1] != b'"':
            found = cell_end.search(data, at)
            if found is None:
                return size if final else _MORE
            if data[found.start()] != delimiter[0]:
                return found.start()
            at = found.start() + 1
            continue
        quote = at + 1
        while True:
            quote = data.find(b'"', quote, at + 1 + MAX_CELL_BYTES)
            if quote < 0:
                return _MORE if not final and size <= at + 1 + MAX_CELL_BYTES else _NEVER
            if data[quote + 1 : quote + 2] != b'"':
                break
            quote += 2
        after = data[quote + 1 : quote + 2]
        if after == delimiter:
            at = quote + 2
        elif after in (b"\n", b"\r"):
            return quote + 1
        elif after == b"":
            return quote + 1 if final else _MORE
        else:
            return _NEVER


@cache
def _cell_end(delimiter: bytes) -> "re.Pattern[bytes]":
    return re.compile(b"[" + re.escape(delimiter) + rb"\r\n]")


def _pieces(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the lines of a record, each without its break."""
    for found in _BREAK.finditer(data, start, end):
        yield start, found.start()
        start = found.end()
    yield start, end


def _doubt(record: bytes, layout: Layout) -> int | None:
    """Say why a regular record of several lines is not one row: _STRAY, _AMBIGUOUS, or None where it is.

    A quote strays if the record has not the header's number of cells. It is ambiguous if a line of the record would be
    a row by itself: with the header's number of cells and, between commas and semicolons, which texts have too, its
    aspect in its text. Only lines inside one cell count, the line on which a cell opens unless it is the last column's,
    and the line on which it ends if it is: others are parts of rows either way.
    """
    delimiter, width = layout.delimiter.encode(), len(layout.header)
    before: list[bytes] = []
    cells = _cells(record, 0, len(record), delimiter)
    if len(cells) != width:
        return _STRAY
    first = record[: next(_pieces(record, 0, len(record)))[1]].split(delimiter)
    for cell, quoted in cells:
        if quoted and _BREAK.search(cell):
            opening, *inner, closing = [cell[start:end] for start, end in _pieces(cell, 0, len(cell))]
            lines = [] if len(before) == width - 1 else [[*before, *opening.split(delimiter)], first]
            lines += [_cells_of_line(line, delimiter) for line in inner if line.count(delimiter) >= width - 1]
            if len(before) == width - 1:
                lines.append(closing.split(delimiter))
            if any(len(line) == width and (layout.delimiter == "\t" or _fits(line, layout)) for line in lines):
                return _AMBIGUOUS
        before.append(cell)
    return None


def _cells_of_line(line: bytes, delimiter: bytes) -> list[bytes]:
    """Cells of one line by itself, as written where its quotes are not regular."""
    if _quoted_end(line, 0, delimiter, final=True) < 0:
        return line.split(delimiter)
    return _values(line, 0, len(line), delimiter)


def _fits(cells: list[bytes], layout: Layout) -> bool:
    text, aspect = (
        cells[layout.place(name)].decode(errors="replace").casefold().strip() for name in ("text", "aspect")
    )
    return bool(aspect) and aspect in text


def _cells(data: bytes, at: int, end: int, delimiter: bytes) -> list[tuple[bytes, bool]]:
    """Cells of a record [at, end) whose quotes are regular, or that has none, and whether each was quoted."""
    cells = []
    while True:
        if data[at : at + 1] == b'"' and at < end:
            quote = data.index(b'"', at + 1)
            while data[quote + 1 : quote + 2] == b'"':
                quote = data.index(b'"', quote + 2)
            cells.append((data[at + 1 : quote].replace(b'""', b'"'), True))
            at = quote + 1
        else:
            stop = data.find(delimiter, at, end)
            stop = end if stop < 0 else stop
            cells.append((data[at:stop], False))
            at = stop
        if at >= end:
            return cells
        at += 1


def _values(data: bytes, at: int, end: int, delimiter: bytes) -> list[bytes]:
    """Cells of a record [at, end) whose quotes are regular, or that has none."""
    if data.find(b'"', at, end) < 0:
        return data[at:end].split(delimiter)
    return [cell for cell, _ in _cells(data, at, end, delimiter)]


def read_rows(data: bytes, records: Records, layout: Layout, wanted: Sequence[int]) -> DelimitedRows:
    """Read the wanted columns (indices into the header) of the records of a block.

    Rows whose number of cells is not the header's, or whose wanted cells are not UTF-8, are unreadable.
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
        reason = _UNREADABLE.get(kind)
        values: list[str | None] | None = None
        if reason is None:
            written = kind == _AS_WRITTEN
            cells = data[start:end].split(delimiter) if written else _values(data, start, end, delimiter)
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
    kept = records.lines[records.kinds == _AS_WRITTEN]
    return DelimitedRows(pa.concat_tables(parts), records.lines, pa.concat_arrays(reasons), kept.tolist())


def _raw(data: bytes, start: int, end: int) -> str:
    """Return a line as it is written, for the quarantine."""
    return data[start:end].decode(errors="replace")


def _with_raw(
    table: pa.Table, data: bytes, records: Records, malformed: list[int], schema: pa.Schema, raw_at: int | None
) -> pa.Table:
    """Put rows that Arrow left out back in their places."""
    raw = [_raw(data, int(records.starts[index]), int(records.ends[index])) for index in malformed]
    columns = [raw if n == raw_at else [None] * len(raw) for n in range(len(schema.names))]
    aside = pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)
    good = np.delete(np.arange(records.regular), malformed)
    order = np.argsort(np.concatenate([good, malformed]), kind="stable")
    return pa.concat_tables([table.cast(schema), aside]).take(pa.array(order))


def _parse(data: bytes, records: Records, layout: Layout, wanted: Sequence[int]) -> tuple[pa.Table, list[int]] | None:
    """Parse the regular records by Arrow: their rows, and which were left out; None where it counts other rows."""
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
                use_threads=False,  # threads lose row numbers
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
    except pa.ArrowInvalid:  # a cell is not UTF-8: line by line it is found
        return None
    if table.num_rows + len(malformed) != records.regular:
        return None
    return table, malformed
