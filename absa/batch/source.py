"""Input of a batch job: files of one or many, read in bounded memory and in a fixed order.

CSV, JSON lines and Parquet, a file, a folder or an s3:// prefix. The same input always gives the same rows under the
same numbers: that is what lets a killed job go on where it was.
"""

import csv
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from absa.adapters.lake import open_lake
from absa.errors import InvalidDataError, NotFoundError

SUFFIXES: Final = (".csv", ".jsonl", ".ndjson", ".parquet")
ROW_ID: Final = "row_id"
UNREADABLE: Final = "unreadable"
"""Column that says why a row could not be read; null for rows that could."""

_S3: Final = "s3://"
_BLOCK_ROWS: Final = 10_000
_FIELD_LIMIT: Final = 10_000_000


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file of the input: where it is, its size in bytes and the SHA-256 of its content."""

    uri: str
    size: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """The input as a whole. `columns` are those of every file, as the files spell them, in the first file's order."""

    files: tuple[InputFile, ...]
    columns: tuple[str, ...]
    text: str
    aspect: str

    @property
    def digest(self) -> str:
        """SHA-256 over the content of the files in their order: what makes two inputs the same."""
        return hashlib.sha256("".join(f"{each.digest}\n" for each in self.files).encode()).hexdigest()


def inspect(uri: str) -> Source:
    """Find the files of an input and read what they hold, once.

    Args:
        uri: a file, a folder (its files in order of their names, subfolders too) or s3://bucket/prefix.

    Raises:
        NotFoundError: there is no such file, or no file in a form that can be read.
        InvalidDataError: a file is empty or lacks text or aspect, or the files differ in their columns.
    """
    files, columns = [], None
    for each in _list(uri):
        with _local(each) as path:
            found = _columns(path, each)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files.append(InputFile(uri=each, size=path.stat().st_size, digest=digest))
        if columns is None:
            columns = found
        elif set(columns) != set(found):
            raise InvalidDataError(f"{each} has other columns than {files[0].uri}; a batch needs one set of columns")
    if columns is None:
        raise NotFoundError(f"there is no .csv, .jsonl or .parquet file at {uri}")
    named = {name.strip().lower(): name for name in columns}
    if missing := [name for name in ("text", "aspect") if name not in named]:
        raise InvalidDataError(f"{files[0].uri} has no column {' and no column '.join(missing)}; a batch needs both")
    return Source(files=tuple(files), columns=columns, text=named["text"], aspect=named["aspect"])


def partitions(source: Source, rows: int) -> Iterator[pa.Table]:
    """Cut the input into tables of `rows` rows, the last one shorter, in order and across files.

    Each has the input's columns, `row_id` (0 for the first row of the input) and `unreadable`.
    """
    waiting: list[pa.Table] = []
    count = start = 0
    for table in _tables(source):
        waiting.append(table)
        count += table.num_rows
        while count >= rows:
            whole = pa.concat_tables(waiting, promote_options="permissive")
            yield _numbered(whole.slice(0, rows), start)
            waiting, count, start = [whole.slice(rows)], count - rows, start + rows
    if count:
        yield _numbered(pa.concat_tables(waiting, promote_options="permissive"), start)


def _numbered(table: pa.Table, start: int) -> pa.Table:
    return table.add_column(0, ROW_ID, pa.array(range(start, start + table.num_rows), pa.int64())).combine_chunks()


def _tables(source: Source) -> Iterator[pa.Table]:
    for file in source.files:
        with _local(file.uri) as path:
            kind = _suffix(file.uri)
            if kind == ".parquet":
                yield from _parquet(path, source)
            else:
                rows = _csv_rows(path, source) if kind == ".csv" else _json_rows(path, source)
                yield from _blocks(rows, source)


def _parquet(path: Path, source: Source) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BLOCK_ROWS, columns=list(source.columns)):
            table = pa.Table.from_batches([batch]).select(list(source.columns))
            yield table.append_column(UNREADABLE, pa.nulls(table.num_rows, pa.string()))


def _blocks(rows: Iterator[tuple[list[str | None], str | None]], source: Source) -> Iterator[pa.Table]:
    """Gather rows (values in the order of the columns, and why the row could not be read) into tables of text."""
    schema = pa.schema([*((name, pa.string()) for name in source.columns), (UNREADABLE, pa.string())])
    block: list[list[str | None]] = []
    for values, reason in rows:
        block.append([*values, reason])
        if len(block) == _BLOCK_ROWS:
            yield pa.table([pa.array(column, pa.string()) for column in zip(*block, strict=True)], schema=schema)
            block = []
    if block:
        yield pa.table([pa.array(column, pa.string()) for column in zip(*block, strict=True)], schema=schema)


def _csv_rows(path: Path, source: Source) -> Iterator[tuple[list[str | None], str | None]]:
    nothing: list[str | None] = [None] * len(source.columns)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        order = [header.index(name) for name in source.columns]
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
            if len(row) != len(header):
                yield nothing, "malformed_row"
            elif any(_surrogates(value) for value in row):
                yield nothing, "invalid_utf8"
            else:
                yield [row[index] for index in order], None


def _json_rows(path: Path, source: Source) -> Iterator[tuple[list[str | None], str | None]]:
    nothing: list[str | None] = [None] * len(source.columns)
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except UnicodeDecodeError:
                yield nothing, "invalid_utf8"
                continue
            except ValueError:
                yield nothing, "malformed_row"
                continue
            if not isinstance(row, dict):
                yield nothing, "malformed_row"
                continue
            values = [_as_text(row.get(name)) for name in source.columns]
            if any(value is not None and _surrogates(value) for value in values):
                yield nothing, "invalid_utf8"
            else:
                yield values, None


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _surrogates(value: str) -> bool:
    return not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)


def _columns(path: Path, uri: str) -> tuple[str, ...]:
    kind = _suffix(uri)
    if kind == ".parquet":
        try:
            return tuple(pq.read_schema(path).names)
        except pa.ArrowInvalid as error:
            raise InvalidDataError(f"{uri} is no Parquet file") from error
    csv.field_size_limit(_FIELD_LIMIT)
    if kind == ".csv":
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            names = next(csv.reader(file), [])
    else:
        found: dict[str, None] = {}
        with path.open("rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    found.update(dict.fromkeys(row))
        names = list(found)
    if not names:
        raise InvalidDataError(f"{uri} is empty; expected rows with text and aspect")
    if len(set(names)) != len(names):
        raise InvalidDataError(f"{uri} names a column twice; give each column a name of its own")
    return tuple(names)


def _list(uri: str) -> list[str]:
    if uri.startswith(_S3):
        bucket, _, prefix = uri.removeprefix(_S3).partition("/")
        keys = open_lake(f"{_S3}{bucket}").list(prefix)
        return [f"{_S3}{bucket}/{key}" for key in keys if _suffix(key) in SUFFIXES]
    path = Path(uri)
    if path.is_file():
        if _suffix(uri) not in SUFFIXES:
            raise NotFoundError(f"{uri} is none of {', '.join(SUFFIXES)}")
        return [str(path)]
    if not path.is_dir():
        raise NotFoundError(f"there is no file or folder {uri}")
    return [str(each) for each in sorted(path.rglob("*")) if each.is_file() and _suffix(each.name) in SUFFIXES]


@contextmanager
def _local(uri: str) -> Iterator[Path]:
    """The file as a local path; an object of S3 is fetched for as long as it is read."""
    if not uri.startswith(_S3):
        yield Path(uri)
        return
    bucket, _, key = uri.removeprefix(_S3).partition("/")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PurePosixPath(key).name
        path.write_bytes(open_lake(f"{_S3}{bucket}").read(key))
        yield path


def _suffix(uri: str) -> str:
    return PurePosixPath(uri).suffix.lower()
