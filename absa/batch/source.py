"""Input of a batch job: files of one or many, cut into partitions that any process can read on its own.

CSV (or tab- or semicolon-separated), JSON lines and Parquet: a file, a folder or an s3:// prefix. The same input always
gives the same partitions with the same rows under the same numbers: that is what lets a killed job go on where it was.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from absa.data import sources
from absa.errors import InvalidDataError

SUFFIXES: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
TEXT_ENCODING: Final = "latin-1"
"""How CSV is split into fields: a character a byte, so that a place in the text is a place in the file."""
FIELD_LIMIT: Final = 10_000_000
"""Most characters of a field of CSV."""

_DELIMITERS: Final = (",", "\t", ";")
_BYTE_ORDER_MARK: Final = "\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file of the input: where it is, its size in bytes and the SHA-256 of its content.

    `header` and `delimiter` say how a CSV file names and parts its columns; Parquet and JSON lines have none.
    """

    uri: str
    size: int
    digest: str
    header: tuple[str, ...] = ()
    delimiter: str = ","

    @property
    def kind(self) -> str:
        """csv, jsonl or parquet."""
        suffix = PurePosixPath(self.uri).suffix.lower()
        return {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(suffix, "csv")

    def open(self) -> Any:
        """The file's bytes as a seekable stream, in a context."""
        return sources.Source(self.uri, self.size).open()


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

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(each.size for each in self.files)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Rows of one file that follow each other: bytes [start, end) of a text file, rows [start, end) of Parquet."""

    file: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Where the rows of one partition lie. `first_row` counts over the whole input; `size` is its share in bytes."""

    number: int
    first_row: int
    rows: int
    size: int
    spans: tuple[Span, ...]


def inspect(uri: str) -> Source:
    """Find the files of an input and what they hold.

    Args:
        uri: a file, a folder (its files in order of their names, subfolders too) or s3://bucket/prefix.

    Raises:
        InvalidDataError: there is no file that can be read, a file is empty or lacks text or aspect, or the files
            differ in their columns or in their types.
        UnavailableError: S3 does not answer.
    """
    files: list[InputFile] = []
    columns: tuple[str, ...] = ()
    types: pa.Schema | None = None
    for each in sources.find_sources(uri):
        if not each.uri.lower().endswith(SUFFIXES):
            raise InvalidDataError(f"{each.uri} is none of {', '.join(SUFFIXES)}")
        with each.open() as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # a BinaryIO
            stream.seek(0)
            schema, header, delimiter = _columns(stream, InputFile(uri=each.uri, size=each.size_bytes, digest=digest))
        files.append(InputFile(uri=each.uri, size=each.size_bytes, digest=digest, header=header, delimiter=delimiter))
        columns = columns or tuple(schema.names)
        if set(columns) != set(schema.names):
            raise InvalidDataError(
                f"{each.uri} has other columns than {files[0].uri}; a batch needs one set of columns"
            )
        for name in schema.names:
            if name.strip().lower() in ("text", "aspect") and not _is_text(schema.field(name).type):
                raise InvalidDataError(
                    f"column {name} of {each.uri} is {schema.field(name).type}; a batch needs text there"
                )
        try:
            types = pa.unify_schemas([types, schema] if types else [schema], promote_options="permissive")
        except pa.ArrowException:
            raise InvalidDataError(
                f"{each.uri} has columns of other types than {files[0].uri}; a batch needs one type a column"
            ) from None
    named = {name.strip().lower(): name for name in columns}
    if missing := [name for name in ("text", "aspect") if name not in named]:
        raise InvalidDataError(f"{files[0].uri} has no column {' and no column '.join(missing)}; a batch needs both")
    return Source(files=tuple(files), columns=columns, text=named["text"], aspect=named["aspect"])


def cut(source: Source, rows: int) -> Iterator[Partition]:
    """Cut the input into partitions of `rows` rows, the last one shorter, in order and across files.

    Text files are read once, in bounded memory, for where their rows begin; of Parquet the footer is enough.
    """
    spans: list[Span] = []
    number = held = size = 0
    for index, file in enumerate(source.files):
        for start, end, count, share in _stretches(file, rows, first=rows - held):
            spans.append(Span(file=index, start=start, end=end))
            held, size = held + count, size + share
            if held == rows:
                yield Partition(number=number, first_row=number * rows, rows=rows, size=size, spans=tuple(spans))
                spans, held, size, number = [], 0, 0, number + 1
    if held:
        yield Partition(number=number, first_row=number * rows, rows=held, size=size, spans=tuple(spans))


def csv_reader(lines: Any, delimiter: str) -> Any:
    """The one way in which CSV is split, where it is cut and where it is read."""
    csv.field_size_limit(FIELD_LIMIT)
    return csv.reader(lines, delimiter=delimiter)


def _stretches(file: InputFile, rows: int, *, first: int) -> Iterator[tuple[int, int, int, int]]:
    """Start, end, rows and bytes of stretches of `rows` rows; the first has `first` rows, the last perhaps fewer."""
    if file.kind == "parquet":
        total = _parquet_rows(file)
        start, wanted = 0, first
        while start < total:
            end = min(start + wanted, total)
            yield start, end, end - start, file.size * (end - start) // total
            start, wanted = end, rows
        return
    start, end, count, wanted = -1, 0, 0, first
    for begin, end in _row_places(file):
        start = begin if count == 0 else start
        count += 1
        if count == wanted:
            yield start, end, count, end - start
            count, wanted = 0, rows
    if count:
        yield start, end, count, end - start


def _row_places(file: InputFile) -> Iterator[tuple[int, int]]:
    """Where each row of a text file begins and ends; rows that cannot be parsed count, empty lines do not."""
    with file.open() as stream:
        yield from _json_places(stream) if file.kind == "jsonl" else _csv_places(stream, file)


def _json_places(stream: IO[bytes]) -> Iterator[tuple[int, int]]:
    end = 0
    for line in stream:
        start, end = end, end + len(line)
        if not line.isspace():
            yield start, end


def _csv_places(stream: IO[bytes], file: InputFile) -> Iterator[tuple[int, int]]:
    taken = 0

    def counted(lines: Iterator[str]) -> Iterator[str]:
        nonlocal taken
        for line in lines:
            taken += len(line)
            yield line

    with _text(stream) as text:
        reader = csv_reader(counted(text), file.delimiter)
        next(reader)  # the header
        start = taken
        while True:
            try:
                row = next(reader, None)
            except csv.Error:
                row = [""]
            if row is None:
                return
            if row:
                yield start, taken
            start = taken


def _text(stream: IO[bytes]) -> Any:
    return io.TextIOWrapper(stream, encoding=TEXT_ENCODING, newline="")


def _parquet_rows(file: InputFile) -> int:
    with file.open() as stream:
        return int(pq.ParquetFile(stream).metadata.num_rows)


def _columns(stream: IO[bytes], file: InputFile) -> tuple[pa.Schema, tuple[str, ...], str]:
    """The columns of a file, which are text unless it is Parquet; of CSV its header and delimiter too."""
    header: tuple[str, ...] = ()
    delimiter = ","
    if file.kind == "parquet":
        try:
            schema = pq.read_schema(stream)
        except pa.ArrowInvalid as error:
            raise InvalidDataError(f"{file.uri} is no Parquet file") from error
    elif file.kind == "jsonl":
        names = _json_names(stream)
    else:
        names, delimiter = _csv_header(stream)
        header = names
    if file.kind != "parquet":
        schema = pa.schema([(name, pa.string()) for name in names])
    if not schema.names:
        raise InvalidDataError(f"{file.uri} is empty; expected rows with text and aspect")
    if len(set(schema.names)) != len(schema.names):
        raise InvalidDataError(f"{file.uri} names a column twice; give each column a name of its own")
    return schema, header, delimiter


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(each(type_) for each in kinds)


def _csv_header(stream: IO[bytes]) -> tuple[tuple[str, ...], str]:
    wrapped = _text(stream)
    start = wrapped.read(1 << 16).removeprefix(_BYTE_ORDER_MARK)
    wrapped.detach()
    found = []
    for delimiter in _DELIMITERS:
        try:
            first: list[str] = next(csv_reader(io.StringIO(start, newline=""), delimiter), [])
        except csv.Error:
            first = []
        found.append((tuple(decoded(name) or "" for name in first), delimiter))
    return max(found, key=lambda each: sum(name.strip().lower() in {"text", "aspect"} for name in each[0]))


def decoded(field: str) -> str | None:
    """A field of CSV as its writer meant it; None where its bytes are no UTF-8."""
    if field.isascii():
        return field
    try:
        return field.encode(TEXT_ENCODING).decode("utf-8")
    except UnicodeDecodeError:
        return None


def _json_names(stream: IO[bytes]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for line in stream:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            found.update(dict.fromkeys(row))
    return tuple(found)
