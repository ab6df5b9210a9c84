"""Count the lines of an input, and the input lines of an output's rows, without the reader of the batch.

`verify_batch` compares both numbers, because a line that is not empty is a row, a part of a row, or lost.
"""

import re
from collections.abc import Iterable, Sequence
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CHUNK_BYTES: Final = 8 << 20
_BREAK: Final = re.compile("\r\n|\r|\n")


def count_lines(stream: IO[bytes], *, white_space_counts: bool) -> int:
    """Count the lines that are not empty. LF, CRLF and CR end a line.

    A line of white space alone counts only if `white_space_counts` is True.
    """
    lines, rest = 0, b""
    while chunk := stream.read(_CHUNK_BYTES):
        whole = rest + chunk
        *complete, rest = whole.splitlines(keepends=True)
        if rest.endswith(b"\n"):
            complete.append(rest)
            rest = b""
        lines += sum(_counts(line, white_space_counts) for line in complete)
    return lines + sum(_counts(line, white_space_counts) for line in rest.splitlines())


def _counts(line: bytes, white_space_counts: bool) -> bool:
    content = line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")
    return bool(content if white_space_counts else content.strip())


def header_lines(header: Iterable[str]) -> int:
    """Count the lines of a header that are not empty."""
    return 1 + sum(_breaks_of(name) for name in header)


def lines_of_rows(cells: pa.Table) -> int:
    """Count the lines that rows of CSV have in their file: one, and one per line break in a cell; no empty lines."""
    lines = int(cells.num_rows)
    for column in cells.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            broken = column.filter(pc.match_substring_regex(column, "[\r\n]"))
            lines += sum(_breaks_of(cell) for cell in broken.to_pylist())
    return lines


def _breaks_of(cell: str) -> int:
    pieces = _BREAK.split(cell)
    return len(pieces) - 1 - sum(not piece for piece in pieces[1:-1])


def rows_that_hold_rows(cells: pa.Table, delimiter: str, text: str, aspect: str | None) -> list[int]:
    """Find rows of CSV in which a quote may have swallowed other rows: a line in a cell looks like a row.

    Args:
        cells: cells of the rows, in the file's columns and order.
        delimiter: delimiter of the file.
        text: name of the text column.
        aspect: name of the column of aspects, each of which occurs in its text; None if rows have no aspect. Then
            lines are examined only if the delimiter is a tab, because texts rarely contain tabs.

    Returns:
        Indices of the rows.
    """
    found = set[int]()
    names: list[str] = cells.column_names
    places = None if aspect is None else (names.index(text), names.index(aspect))
    for place, column in enumerate(cells.columns):
        broken = pc.match_substring_regex(column, "[\r\n]").fill_null(False)
        for index in np.flatnonzero(broken.to_numpy(zero_copy_only=False)).tolist():
            first, *inner = _BREAK.split(column[index].as_py())[:-1]
            before: list[Any] = [cells.column(n)[index].as_py() for n in range(place)]
            lines = [line.split(delimiter) for line in inner]
            if delimiter in first:  # otherwise the line ends inside the cell, with or without quotes
                lines.append([*before, *first.split(delimiter)])
            if any(_is_row(line, len(names), delimiter, places) for line in lines):
                found.add(index)
    return sorted(found)


def _is_row(line: Sequence[str], width: int, delimiter: str, places: tuple[int, int] | None) -> bool:
    if len(line) != width:
        return False
    if places is None:
        return delimiter == "\t" and width > 1
    text, aspect = (line[place].strip().casefold() for place in places)
    return delimiter == "\t" or (bool(aspect) and aspect in text)
