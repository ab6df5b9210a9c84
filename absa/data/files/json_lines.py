"""Rows of JSON lines: one object per line, and the reason why a line cannot be used; arrays become lines.

A line ends with LF, CRLF or CR, which JSON allows only between values. Blank lines are not rows. NaN and Infinity,
which some programs write although JSON has no such values, are missing values.
"""

import io
import json
import re
from collections.abc import Iterator
from typing import IO, Any, Final

from absa.data.files.quoting import BYTE_ORDER_MARK, INVALID_UTF8, LINE_BREAK, check_line
from absa.errors import InvalidDataError

NOT_AN_OBJECT: Final = "not_an_object"
NOT_TEXT: Final = "not_text"
MAX_ARRAY_BYTES: Final = 64 << 20  # the whole array is in memory, and each part of a batch parses it

_DECODER: Final = json.JSONDecoder(parse_constant=lambda _: None, object_pairs_hook=lambda pairs: dict(reversed(pairs)))
_LONE_SURROGATE: Final = re.compile(  # starts with its literal part, which makes the search fast
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F])"
)


def lines_of_array(file: IO[bytes], name: str) -> IO[bytes]:
    """Return the file; if it holds a JSON array, return its elements as JSON lines. Element 1 becomes line 1.

    Raises:
        InvalidDataError: the array cannot be parsed, or is larger than 64 MB.
    """
    file.seek(0)
    start = file.read(1 << 16).removeprefix(BYTE_ORDER_MARK).lstrip()
    file.seek(0)
    if not start.startswith(b"["):
        return file
    data = file.read(MAX_ARRAY_BYTES + 1)
    if len(data) > MAX_ARRAY_BYTES:
        raise InvalidDataError(
            f"{name} is a JSON array of over {MAX_ARRAY_BYTES >> 20} MB; expected one object per line "
            "(jq -c '.[]' turns one into it)"
        )
    try:
        elements = json.loads(data.decode("utf-8-sig"), parse_constant=lambda _: None)
    except UnicodeDecodeError:
        raise InvalidDataError(f"{name} is not UTF-8; save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        where = f": line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidDataError(f"{name} starts as a JSON array and cannot be read as one{where}") from None
    return io.BytesIO(b"".join(json.dumps(each).encode() + b"\n" for each in elements))


def scan_lines(file: IO[bytes], name: str, block_bytes: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield blocks of whole lines: the byte and the line at which a block starts, and the block.

    Raises:
        InvalidDataError: a line is longer than 64 MB.
    """
    file.seek(0)
    base = len(BYTE_ORDER_MARK) if file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK else 0
    line, rest = 1, b""
    file.seek(base)
    while True:
        more = file.read(block_bytes)
        data = rest + more
        end = len(data) if not more else max(data.rfind(b"\n"), data.rfind(b"\r", 0, -1)) + 1
        if end:
            yield base, line, data[:end]
        line += len(LINE_BREAK.findall(data, 0, end)) if b"\r" in data else data.count(b"\n", 0, end)
        base, rest = base + end, data[end:]
        if not more:
            return
        check_line(name, line, rest)


def rows_of(block: bytes, line: int) -> Iterator[tuple[int, int, int]]:
    """Yield start, end without the break, and number of each line that is not only white space."""
    start = 0
    for found in LINE_BREAK.finditer(block):
        if not block[start : found.start()].isspace() and found.start() > start:
            yield start, found.start(), line
        start, line = found.end(), line + 1
    if start < len(block) and not block[start:].isspace():
        yield start, len(block), line


def parse_line(line: bytes) -> dict[str, Any] | str:
    """Return the object of a line, or the reason why it has none. If a name is repeated, its first value counts."""
    try:
        row = _DECODER.decode(line.decode())
        if may_hold_half_characters(line):  # or an escaped backslash, for which encoding does not fail
            json.dumps(row, ensure_ascii=False).encode()
    except UnicodeError:
        return INVALID_UTF8
    except (ValueError, RecursionError):
        return NOT_AN_OBJECT
    return row if isinstance(row, dict) else NOT_AN_OBJECT


def may_hold_half_characters(block: bytes) -> bool:
    """Return True if lines may hold half of a surrogate pair."""
    return (b"\\ud" in block or b"\\uD" in block) and _LONE_SURROGATE.search(block) is not None


def as_text(value: Any) -> str | None:
    """Return a value as text: strings unchanged, whole numbers without a fraction, any other value as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)
