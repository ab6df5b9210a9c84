"""Sample of a file whose columns are not known yet: its first rows, every column as text."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import polars as pl

from absa.data.files import json_lines
from absa.data.files.delimited import Layout, header_layouts, scan_blocks
from absa.data.files.delimited_rows import read_rows
from absa.data.files.source_files import kind_of, readable
from absa.data.mapping import folded
from absa.data.recognition.column_names import Role, name_score
from absa.errors import InvalidDataError

SAMPLE_ROWS: Final = 50_000
_ROLES: Final[tuple[Role, ...]] = ("text", "label", "aspect")
_ALIKE: Final = 0.7
_COPY: Final = "\0"  # ends the name of a second column of the same name; headers never contain it
_BLOCK_BYTES: Final = 4 << 20


class FileSample(NamedTuple):
    """First rows of a file; `more` is True if the file has further rows."""

    rows: pl.DataFrame
    more: bool


def read_sample(path: Path, rows: int = SAMPLE_ROWS) -> FileSample:
    """Return the first readable rows of a CSV, TSV, JSONL or Parquet file. Columns of the same name are left out.

    Raises:
        InvalidDataError: the file is missing, empty, a workbook, not UTF-8, or not of the format of its ending; or two
            columns have the same name, and it is a usual name of texts, labels or aspects.
    """
    kind = kind_of(str(path))
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidDataError(f"{path} cannot be read: {error.strerror}") from None
    with file:
        if not file.read(1):
            raise InvalidDataError(f"{path} is empty; expected a header and rows")
        found = {"csv": _delimited, "jsonl": _json, "parquet": _parquet}[kind](
            readable(file, str(path)), str(path), rows + 1
        )
    found = found.select(_single(found.columns, str(path)))
    if found.is_empty():
        raise InvalidDataError(f"{path} has a header but no rows")
    return FileSample(found.head(rows), found.height > rows)


def _single(columns: Sequence[str], name: str) -> list[str]:
    """Return the columns whose names are unique without regard to case."""
    names = [folded(column.rstrip(_COPY)) for column in columns]
    doubled = [each for each in dict.fromkeys(names) if names.count(each) > 1]
    for each in doubled:
        if max(name_score(each, role) for role in _ROLES) >= _ALIKE:
            raise InvalidDataError(f"{name} has two columns named {each}; keep one")
    return [column for column, each in zip(columns, names, strict=True) if each not in doubled]


def _delimited(file: IO[bytes], name: str, rows: int) -> pl.DataFrame:
    layouts = header_layouts(file, name)
    frames = [_records(file, layout, rows) for layout in layouts]
    # rows rarely have as many commas in their texts as the header: the delimiter with the most readable cells is right
    return max(frames, key=lambda frame: frame.height * (frame.width - 1))


def _records(file: IO[bytes], layout: Layout, rows: int) -> pl.DataFrame:
    columns = [n for n, column in enumerate(layout.header) if column.strip()]
    names = [f"{layout.header[n]}{_COPY * layout.header[:n].count(layout.header[n])}" for n in columns]
    frames, held = [pl.DataFrame(schema=dict.fromkeys(names, pl.String))], 0
    if not columns:
        return frames[0]
    for _, data, records in scan_blocks(file, layout, _BLOCK_BYTES):
        found = read_rows(data, records, layout, columns)
        frame = pl.DataFrame(found.table)
        frame.columns = names
        frame = frame.filter(pl.Series(found.reasons.is_null().to_pylist()))
        frames.append(frame)
        held += frame.height
        if held >= rows:
            break
    return pl.concat(frames).head(rows)


def _json(file: IO[bytes], name: str, rows: int) -> pl.DataFrame:
    found: list[dict[str, Any]] = []
    for _, line, block in json_lines.scan_lines(file, name, _BLOCK_BYTES):
        parsed = (json_lines.parse_line(block[start:end]) for start, end, _ in json_lines.rows_of(block, line))
        found += islice((row for row in parsed if isinstance(row, dict)), rows - len(found))
        if len(found) >= rows:
            break
    if not found:
        raise InvalidDataError(f"{name}: no line is a JSON object; expected one object per line")
    names = dict.fromkeys(key for row in found for key in row)
    columns = {key: [json_lines.as_text(row.get(key)) for row in found] for key in names}
    return pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))


def _parquet(file: IO[bytes], name: str, rows: int) -> pl.DataFrame:
    from absa.data.files.parquet_rows import open_parquet, scan_rows, text_type_error

    source = open_parquet(file, name)
    plain = [each for each in source.schema.names if _is_flat(source.schema.field(each).type)]
    for each in set(source.schema.names) - set(plain):
        error = text_type_error(name, each, source.schema.field(each).type, text=True)
        if error is not None and name_score(each, "text") == 1:
            raise error
    frames: list[pl.DataFrame] = []
    for batch in scan_rows(source, name, plain):
        frames.append(_texts(pl.DataFrame(batch), plain))
        if sum(frame.height for frame in frames) >= rows:
            break
    return pl.concat(frames).head(rows) if frames else pl.DataFrame()


def _texts(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    return frame.select(
        (pl.col(name).fill_nan(None) if frame.schema[name].is_float() else pl.col(name)).cast(pl.String)
        for name in columns
    )


def _is_flat(type_: Any) -> bool:
    import pyarrow as pa

    return not (pa.types.is_nested(type_) or pa.types.is_binary(type_) or pa.types.is_large_binary(type_))
