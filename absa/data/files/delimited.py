"""Records of delimited text (CSV, TSV, semicolons): the layout of a file, and the start and end of each record.

Ingest, batch and evaluation use this one grammar. Quotes follow RFC 4180: a cell that starts with a double quote ends
with one, and a quote inside it is doubled. Some tools write quotes without doubling them, so there are two more rules:

- A quote is stray if it opens a cell and does not close it properly, or if it joins lines to a row without the
  header's number of cells. A line with a stray quote is read as written (its quotes are ordinary characters) if it
  then has the header's number of cells; otherwise the line is unreadable. Reading continues at the next line.
- If a quote closes properly, but lines inside it look like rows, both readings may be wrong: each line is unreadable.

So no row contains the line of another row, and every line that is not empty belongs to exactly one row.

Array operations find the blocks whose quotes are all regular; Arrow parses them. Other blocks are read line by line.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from absa.data.files.quoting import (
    BYTE_ORDER_MARK,
    LINE_BREAK,
    MAX_CELL_BYTES,
    MORE,
    NEVER,
    cell_values,
    cells_of_line,
    check_line,
    lines_of,
    quoted_cells,
    quoted_end,
)
from absa.data.mapping import DEFAULT_MAPPING, DataMapping, folded, normal_code
from absa.errors import InvalidDataError

BLOCK_BYTES: Final = 16 << 20
MALFORMED: Final = "malformed_row"
STRAY_QUOTE: Final = "stray_quote"
AMBIGUOUS_QUOTE: Final = "ambiguous_quote"

_DELIMITERS: Final = (",", "\t", ";")
_HEADER_BYTES: Final = 64 << 10
_QUOTE, _LF, _CR = b'"\n\r'

_QUOTED, AS_WRITTEN, _STRAY, _AMBIGUOUS = range(4)  # ways in which a record is read
QUOTE_REASONS: Final = {_STRAY: STRAY_QUOTE, _AMBIGUOUS: AMBIGUOUS_QUOTE}

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Header of a delimited file.

    `name` is the name of the file for messages. `start` is the byte and `line` the line at which the first row starts.
    `mapping` gives the names of columns.
    """

    name: str
    header: tuple[str, ...]
    delimiter: str
    start: int
    line: int
    mapping: DataMapping = DEFAULT_MAPPING

    def place(self, column: str) -> int:
        """Return the index of a column, given by its name in records; -1 if the file has no such column."""
        header = [folded(written) for written in self.header]
        return next((header.index(name) for name in self.mapping.names(column) if name in header), -1)


class Records(NamedTuple):
    """Records of a block: bytes [start, end) without the line break, the line of each record, and its kind.

    Arrow can parse the first `regular` records, up to byte `regular_end`. Bytes from `consumed` on are part of a record
    that needs more bytes; they start at line `next_line`.
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
        """Mask of the records that must stay in one block with the record before, because their kind depends on it."""
        ambiguous = self.kinds == _AMBIGUOUS
        return np.asarray(ambiguous & np.concatenate([[False], ambiguous[:-1]]))


def read_layout(file: IO[bytes], name: str, mapping: DataMapping = DEFAULT_MAPPING) -> Layout:
    """Find the header, which is the first line that is not empty, and the delimiter with the most known names.

    Raises:
        InvalidDataError: the header is not UTF-8.
    """
    layouts = header_layouts(file, name, mapping)
    return max(layouts, key=lambda layout: sum(folded(column) in mapping.known for column in layout.header))


def header_layouts(file: IO[bytes], name: str, mapping: DataMapping = DEFAULT_MAPPING) -> list[Layout]:
    """Return the layout of a file for each delimiter.

    Raises:
        InvalidDataError: the header is not UTF-8.
    """
    file.seek(0)
    start = file.read(_HEADER_BYTES)
    at = len(BYTE_ORDER_MARK) if start.startswith(BYTE_ORDER_MARK) else 0
    line = 1
    while (found := LINE_BREAK.match(start, at)) is not None:
        at, line = found.end(), line + 1
    layouts = []
    for delimiter in _DELIMITERS:
        end = quoted_end(start, at, delimiter.encode(), final=True)
        quoted = end >= 0
        if not quoted:
            end = broken.start() if (broken := LINE_BREAK.search(start, at)) else len(start)
        cells = cell_values(start, at, end, delimiter.encode()) if quoted else start[at:end].split(delimiter.encode())
        try:
            header = tuple(cell.decode() for cell in cells)
        except UnicodeDecodeError:
            raise not_utf8(start, name, 1) from None
        if any("\0" in column for column in header):
            raise InvalidDataError(f"{name} is not a CSV file in UTF-8: its header holds zero bytes; save it as UTF-8")
        after = LINE_BREAK.match(start, end)
        layouts.append(
            Layout(
                name=name,
                header=header,
                delimiter=delimiter,
                start=after.end() if after else end,
                line=line + len(LINE_BREAK.findall(start, at, end)) + (after is not None),
                mapping=mapping,
            )
        )
    return layouts


def not_utf8(data: bytes, name: str, line: int) -> InvalidDataError:
    """Return the error with the line and byte that are not UTF-8; `line` is the number of the data's first line."""
    for number, (start, end) in enumerate(lines_of(data, 0, len(data)), line):
        try:
            data[start:end].decode()
        except UnicodeDecodeError as error:
            return InvalidDataError(f"{name} is not UTF-8 at line {number}, byte {error.start + 1}; save it as UTF-8")
    return InvalidDataError(f"{name} is not UTF-8; save it as UTF-8")


def scan_blocks(
    file: IO[bytes], layout: Layout, block_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, bytes, Records]]:
    """Yield blocks in bounded memory: the byte at which a block starts, the block, and its records.

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


def find_records(data: bytes, layout: Layout, *, line: int, final: bool) -> Records:
    """Find the records of a block that starts with a record, at line `line` of the file.

    `final` is True if the file ends with the block. Equal bytes give equal records: if a file is cut between two
    records, both parts together give the records of the whole file.
    """
    size = len(data)
    if not final and data.endswith(b"\r"):  # may be the first half of a line break
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
    """Return starts, ends and lines of the records before the first irregular record, and its start and line."""
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
    """Return the first quote that RFC 4180 does not allow at its place, or None.

    Quotes side by side are a run. If all runs before it are regular, the number of quotes before a run decides whether
    it is inside a quoted cell. Outside, a run must start a cell, and a run of even length must also end the cell.
    Inside, a run of odd length ends the cell, and a run of even length consists of doubled quotes.
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
    """Return records (start, end, line, kind) from a byte on, the byte after them, and the line of this byte."""
    found: list[tuple[int, int, int, int]] = []
    delimiter, width = layout.delimiter.encode(), len(layout.header)
    size = len(data)
    while at < size:
        after = LINE_BREAK.search(data, at)
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
        closed = quoted_end(data, at, delimiter, final=final)
        if closed == MORE:
            break
        doubt = _doubt(data[at:closed], layout) if closed > end else None
        if closed == NEVER or doubt == _STRAY:
            whole = data.count(delimiter, at, end) + 1 == width
            found.append((at, end, line, AS_WRITTEN if whole else _STRAY))
            at, line = following, line + 1
            continue
        if doubt is None:
            found.append((at, closed, line, _QUOTED))
            line += len(LINE_BREAK.findall(data, at, closed))
        else:
            line -= 1
            for piece_start, piece_end in lines_of(data, at, closed):
                line += 1
                if piece_end > piece_start:
                    found.append((piece_start, piece_end, line, _AMBIGUOUS))
        after = LINE_BREAK.match(data, closed)
        at = after.end() if after is not None else closed
        line += after is not None
    return found, at, line


def _doubt(record: bytes, layout: Layout) -> int | None:
    """Return why a record of several lines with regular quotes is not one row; None if it is one row.

    A record without the header's number of cells has a stray quote: _STRAY. A record is ambiguous if one of its lines
    could be a row: _AMBIGUOUS. Such a line has the header's number of cells. Texts often contain commas and semicolons,
    so with these delimiters the line must also have its aspect in its text (for tasks without aspects: a known label).
    These lines are examined: lines inside one cell; the line on which a cell opens, unless it is the last cell; the
    line on which the last cell ends. Other lines are parts of rows in both readings.
    """
    delimiter, width = layout.delimiter.encode(), len(layout.header)
    before: list[bytes] = []
    cells = quoted_cells(record, 0, len(record), delimiter)
    if len(cells) != width:
        return _STRAY
    first = record[: next(lines_of(record, 0, len(record)))[1]].split(delimiter)
    for cell, quoted in cells:
        if quoted and LINE_BREAK.search(cell):
            opening, *inner, closing = [cell[start:end] for start, end in lines_of(cell, 0, len(cell))]
            lines = [] if len(before) == width - 1 else [[*before, *opening.split(delimiter)], first]
            lines += [cells_of_line(line, delimiter) for line in inner if line.count(delimiter) >= width - 1]
            if len(before) == width - 1:
                lines.append(closing.split(delimiter))
            if any(len(line) == width and (layout.delimiter == "\t" or _fits(line, layout)) for line in lines):
                return _AMBIGUOUS
        before.append(cell)
    return None


def _fits(cells: list[bytes], layout: Layout) -> bool:
    places = {column: layout.place(column) for column in ("text", "aspect", "label")}
    values = {
        column: cells[place].decode(errors="replace").casefold().strip()
        for column, place in places.items()
        if place >= 0
    }
    if layout.mapping.task.input != "text+aspect":
        return normal_code(values.get("label", "")) in layout.mapping.codes
    aspect = values.get("aspect", "")
    return bool(aspect) and aspect in values.get("text", "")
