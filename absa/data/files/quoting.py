"""Lines of text, and cells of one record of delimited text: quotes by RFC 4180, on bytes."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from absa.errors import InvalidDataError

MAX_LINE_BYTES: Final = 64 << 20
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
INVALID_UTF8: Final = "invalid_utf8"
MAX_CELL_BYTES: Final = 10_000_000  # a quoted cell that is longer is read as written
LINE_BREAK: Final = re.compile(rb"\r\n|\r|\n")
MORE: Final = -1
NEVER: Final = -2


def check_line(name: str, line: int, data: bytes) -> None:
    """Refuse a line that has no end yet and is too long for the memory.

    Raises:
        InvalidDataError: the line is longer than 64 MB.
    """
    if len(data) > MAX_LINE_BYTES:
        raise InvalidDataError(
            f"line {line} of {name} is longer than {MAX_LINE_BYTES >> 20} MB; expected one row per line"
        )


def quoted_end(data: bytes, at: int, delimiter: bytes, *, final: bool) -> int:
    """Return the end of the record that starts at byte `at`, by RFC 4180.

    Returns NEVER if the quotes of the record are not regular, and MORE if the data end before the record.
    """
    cell_end = _cell_end(delimiter)
    size = len(data)
    while True:
        if data[at : at + 1] != b'"':
            found = cell_end.search(data, at)
            if found is None:
                return size if final else MORE
            if data[found.start()] != delimiter[0]:
                return found.start()
            at = found.start() + 1
            continue
        quote = at + 1
        while True:
            quote = data.find(b'"', quote, at + 1 + MAX_CELL_BYTES)
            if quote < 0:
                return MORE if not final and size <= at + 1 + MAX_CELL_BYTES else NEVER
            if data[quote + 1 : quote + 2] != b'"':
                break
            quote += 2
        after = data[quote + 1 : quote + 2]
        if after == delimiter:
            at = quote + 2
        elif after in (b"\n", b"\r"):
            return quote + 1
        elif after == b"":
            return quote + 1 if final else MORE
        else:
            return NEVER


@cache
def _cell_end(delimiter: bytes) -> "re.Pattern[bytes]":
    return re.compile(b"[" + re.escape(delimiter) + rb"\r\n]")


def lines_of(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the lines of a record, each without its break."""
    for found in LINE_BREAK.finditer(data, start, end):
        yield start, found.start()
        start = found.end()
    yield start, end


def cells_of_line(line: bytes, delimiter: bytes) -> list[bytes]:
    """Return the cells of a single line; if its quotes are not regular, return the parts between delimiters."""
    if quoted_end(line, 0, delimiter, final=True) < 0:
        return line.split(delimiter)
    return cell_values(line, 0, len(line), delimiter)


def quoted_cells(data: bytes, at: int, end: int, delimiter: bytes) -> list[tuple[bytes, bool]]:
    """Return the cells of a record [at, end) with regular or no quotes, each with True if it was quoted."""
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


def cell_values(data: bytes, at: int, end: int, delimiter: bytes) -> list[bytes]:
    """Return the cells of a record [at, end) with regular or no quotes."""
    if data.find(b'"', at, end) < 0:
        return data[at:end].split(delimiter)
    return [cell for cell, _ in quoted_cells(data, at, end, delimiter)]
