"""Input of a batch job: one or more files, cut into partitions that any process can read on its own.

CSV (or tab- or semicolon-separated), JSON lines, Excel and Parquet: a file, a folder or an s3:// prefix. Equal input
always gives equal partitions, with the same rows under the same numbers. So a job that was killed can continue with
the missing partitions.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, Final

import pyarrow as pa

from absa.data.files import json_lines
from absa.data.files import source_files as sources
from absa.data.files.delimited import BLOCK_BYTES, Layout, read_layout, scan_blocks
from absa.data.files.parquet_rows import open_parquet, text_type_error
from absa.data.mapping import DEFAULT_MAPPING, DataMapping, folded
from absa.errors import InvalidDataError
from absa.task import TaskSpec, listed

SUFFIXES: Final = (*sources.ENDINGS, ".json", *sources.WORKBOOKS)


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file of the input: its address, its size in bytes, and the SHA-256 of the bytes that are read.

    A workbook is read as the CSV of its sheet, and a JSON array as one line per element. `read_size` is the number of
    bytes that are read. `layout` holds the column names and the separator of a CSV file; it is None for other formats.
    """

    uri: str
    size: int
    digest: str
    read_size: int
    layout: Layout | None = None

    @property
    def kind(self) -> str:
        """Format of the file: csv, jsonl or parquet."""
        return sources.kind_of(self.uri)

    def open(self) -> Any:
        """Open the file's bytes as a seekable stream; returns a context manager."""
        return sources.SourceFile(self.uri, self.size).open()


@dataclass(frozen=True, kw_only=True)
class BatchInput:
    """The whole input. `columns` are the columns of every file, as written there, in the order of the first file.

    `text`, `aspect`, `segment` and `unit` are names of columns; None if the input has no such column. The column
    `aspect` may hold topics.
    """

    files: tuple[InputFile, ...]
    columns: tuple[str, ...]
    text: str
    aspect: str | None
    segment: str | None = None
    unit: str | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns that the model reads."""
        return (self.text,) if self.aspect is None else (self.text, self.aspect)

    @property
    def digest(self) -> str:
        """SHA-256 over the content of the files in their order; equal inputs have equal digests."""
        return hashlib.sha256("".join(f"{each.digest}\n" for each in self.files).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes that are read of all files."""
        return sum(each.read_size for each in self.files)


@dataclass(frozen=True, kw_only=True)
class RowSpan:
    """Consecutive rows of one file: bytes [start, end) of a text file, or rows [start, end) of a Parquet file.

    `line` is the line of a text file at which the rows start; 0 for Parquet.
    """

    file: int
    start: int
    end: int
    rows: int
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class Partition:
    """Place of one partition's rows. `first_row` is a number in the whole input; `size` is in bytes."""

    number: int
    first_row: int
    rows: int
    size: int
    spans: tuple[RowSpan, ...]


def mapping_for(home: DataMapping, task: TaskSpec) -> DataMapping:
    """Return the home's mapping if a package has the home's task; else a mapping with the default names of columns."""
    same = (home.task.name, home.task.input) == (task.name, task.input)
    return home if same else DataMapping(task=task)


def inspect(uri: str, mapping: DataMapping = DEFAULT_MAPPING) -> BatchInput:
    """Find the files of an input and their columns.

    Args:
        uri: a file, a folder (its files and those of subfolders, ordered by name) or s3://bucket/prefix.
        mapping: task, and the names of its columns.

    Raises:
        InvalidDataError: there is no file that can be read, a file is empty or lacks a column of the task, or the files
            differ in their columns or in their types.
        UnavailableError: S3 is unavailable.
    """
    files: list[InputFile] = []
    columns: tuple[str, ...] = ()
    types: pa.Schema | None = None
    for each in sources.find_sources(uri):
        if not each.uri.lower().endswith(SUFFIXES):
            raise InvalidDataError(f"{each.uri} is none of {', '.join(SUFFIXES)}")
        with each.open() as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # a BinaryIO
            read_size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            file = InputFile(uri=each.uri, size=each.size_bytes, digest=digest, read_size=read_size)
            schema, layout = _columns(stream, file, mapping)
        files.append(replace(file, layout=layout))
        named = mapping.choose(schema.names, each.uri, mapping.inputs)
        for name in mapping.inputs:
            if error := text_type_error(each.uri, named[name], schema.field(named[name]).type, text=True):
                raise error
        columns = columns or tuple(schema.names)
        if set(columns) != set(schema.names):
            raise InvalidDataError(
                f"{each.uri} has other columns than {files[0].uri}; a batch needs one set of columns"
            )
        try:
            types = pa.unify_schemas([types, schema] if types else [schema], promote_options="permissive")
        except pa.ArrowException:
            raise InvalidDataError(
                f"{each.uri} has columns of other types than {files[0].uri}; a batch needs one type a column"
            ) from None
    named = mapping.choose(columns, files[0].uri, mapping.inputs)
    unit = folded(mapping.columns.get("unit", "unit_id"))
    return BatchInput(
        files=tuple(files),
        columns=columns,
        text=named["text"],
        aspect=named.get("aspect"),
        segment=named.get("segment"),
        unit=next((column for column in columns if folded(column) == unit), None),
    )


def cut_partitions(source: BatchInput, rows: int) -> Iterator[Partition]:
    """Cut the input into partitions of `rows` rows, the last one shorter, in order and across files.

    Lines that one stray quote makes unreadable are not separated, so a partition may have more rows. Text files are
    read once, in bounded memory, to find the starts of their rows; only the footer of a Parquet file is read.
    """
    spans: list[RowSpan] = []
    number = first_row = held = size = 0
    for index, file in enumerate(source.files):
        for start, end, count, line, share in _stretches(file, rows, first=rows - held):
            spans.append(RowSpan(file=index, start=start, end=end, rows=count, line=line))
            held, size = held + count, size + share
            if held >= rows:
                yield Partition(number=number, first_row=first_row, rows=held, size=size, spans=tuple(spans))
                first_row, number = first_row + held, number + 1
                spans, held, size = [], 0, 0
    if held:
        yield Partition(number=number, first_row=first_row, rows=held, size=size, spans=tuple(spans))


def _stretches(file: InputFile, rows: int, *, first: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield start, end, rows, line and bytes of spans of `rows` rows; the first has `first` rows, the last the rest."""
    if file.kind == "parquet":
        total = _parquet_rows(file)
        begin, wanted = 0, first
        while begin < total:
            until = min(begin + wanted, total)
            yield begin, until, until - begin, 0, file.size * (until - begin) // total
            begin, wanted = until, rows
        return
    start = end = first_line = count = 0
    wanted = first
    for place, until, line, glued in _row_places(file):
        if count >= wanted and not glued:
            yield start, end, count, first_line, end - start
            count, wanted = 0, rows
        if count == 0:
            start, first_line = place, line
        end, count = until, count + 1
    if count:
        yield start, end, count, first_line, end - start


def _row_places(file: InputFile) -> Iterator[tuple[int, int, int, bool]]:
    """Yield start and end of each row of a text file, its line, and True if it must stay with the row before it.

    Unreadable rows are included, empty lines are not.
    """
    with file.open() as stream:
        if file.layout is None:
            for base, line, block in json_lines.scan_lines(stream, file.uri, BLOCK_BYTES):
                for start, end, number in json_lines.rows_of(block, line):
                    yield base + start, base + end, number, False
            return
        for base, _, records in scan_blocks(stream, file.layout):
            places = ((records.starts + base).tolist(), (records.ends + base).tolist(), records.lines.tolist())
            yield from zip(*places, records.glued.tolist(), strict=True)


def _parquet_rows(file: InputFile) -> int:
    with file.open() as stream:
        return open_parquet(stream, file.uri).rows


def _columns(stream: IO[bytes], file: InputFile, mapping: DataMapping) -> tuple[pa.Schema, Layout | None]:
    """Return the columns of a file, which are text unless the file is Parquet, and the layout of a CSV file."""
    layout = None
    inputs = listed([mapping.shown(column) for column in mapping.inputs])
    if file.kind == "parquet":
        schema = open_parquet(stream, file.uri).schema
    elif file.kind == "jsonl":
        schema = pa.schema([(name, pa.string()) for name in _json_names(stream, file)])
        if not schema.names:
            raise InvalidDataError(f"{file.uri} holds no JSON object; expected one with {inputs} per line")
    else:
        layout = read_layout(stream, file.uri, mapping)
        schema = pa.schema([(name, pa.string()) for name in layout.header])
    if not schema.names:
        raise InvalidDataError(f"{file.uri} is empty; expected rows with {inputs}")
    mapping.choose(schema.names, file.uri, ())
    if len(set(schema.names)) != len(schema.names):
        raise InvalidDataError(f"{file.uri} names a column twice; give each column a name of its own")
    return schema, layout


def _json_names(stream: IO[bytes], file: InputFile) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for _, line, block in json_lines.scan_lines(stream, file.uri, BLOCK_BYTES):
        for start, end, _ in json_lines.rows_of(block, line):
            row = json_lines.parse_line(block[start:end])
            if isinstance(row, dict):
                found.update(dict.fromkeys(row))
    return tuple(found)
