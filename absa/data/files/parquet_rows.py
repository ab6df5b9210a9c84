"""Rows of Parquet in bounded memory, even if a small file unpacks to a large one."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from absa.errors import InvalidDataError

MAX_GROUP_BYTES: Final = 1 << 30  # unpacked size of a row group
MAX_RATIO: Final = 200  # unpacked size over packed size, for files above MAX_GROUP_BYTES
_BATCH_ROWS: Final = 16_384
_FEW_ROWS: Final = 256  # read at once if the encoding can unpack a few bytes to any size
_PIECE_BYTES: Final = 64 << 20


class Opened(NamedTuple):
    """Parquet file opened twice: unchanged, and with columns of text as dictionaries, which hold each text once."""

    file: parquet.ParquetFile
    packed: parquet.ParquetFile

    @property
    def schema(self) -> pa.Schema:
        """Columns and their types."""
        return self.file.schema_arrow

    @property
    def rows(self) -> int:
        """Number of rows, from the footer."""
        return int(self.file.metadata.num_rows)


def open_parquet(file: Any, name: str) -> Opened:
    """Open a file.

    Raises:
        InvalidDataError: the file is not a Parquet file.
    """
    try:
        plain = parquet.ParquetFile(file)
        texts = [field.name for field in plain.schema_arrow if _is_plain_text(field.type)]
        file.seek(0)
        return Opened(plain, parquet.ParquetFile(file, read_dictionary=texts))
    except (pa.ArrowException, OSError):
        raise InvalidDataError(f"{name} is not a Parquet file that can be read") from None


def text_type_error(name: str, column: str, type_: pa.DataType, *, text: bool) -> InvalidDataError | None:
    """Return the error of a column's type; None if the type is valid.

    Text columns must hold text. Other columns must not hold lists or objects.
    """
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    if pa.types.is_null(type_) or _is_plain_text(type_):
        return None
    if text or pa.types.is_nested(type_) or pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return InvalidDataError(
            f"column {column} of {name} is {type_}; expected {'text' if text else 'one value per row'}"
        )
    return None


def scan_rows(
    opened: Opened, name: str, columns: Sequence[str], *, first_group: int = 0, rows: int = _BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Yield batches of some columns from a row group on, of at most `rows` rows and about 64 MB each.

    Raises:
        InvalidDataError: a row group unpacks to more than 1 GiB or cannot be read; or the file unpacks to more than
            1 GiB and more than 200 times its packed size.
    """
    source = opened.file
    groups = range(source.metadata.num_row_groups)
    packed = sum(chunk.total_compressed_size for group in groups for chunk in _chunks(source, group, columns))
    most, in_all = max(MAX_GROUP_BYTES, MAX_RATIO * packed), 0
    for group in range(first_group, source.metadata.num_row_groups):
        wanted = _chunks(source, group, columns)
        unpacked = sum(chunk.total_uncompressed_size for chunk in wanted)
        _check_size(name, group, unpacked)
        unpacked = 0
        try:
            batch_rows = min(rows, _rows_at_once(opened, group, wanted))
            for batch in source.iter_batches(batch_size=batch_rows, row_groups=[group], columns=list(columns)):
                size = int(batch.nbytes)
                unpacked += size
                in_all += size
                _check_size(name, group, unpacked)
                if in_all > most:
                    raise InvalidDataError(
                        f"{name} unpacks to {in_all / 1e9:.1f} GB or more, over {MAX_RATIO} times its size; expected "
                        "ordinary texts, which pack less; write it as several files if they are"
                    )
                yield from _pieces(batch, size)
        except (pa.ArrowException, OSError):
            raise InvalidDataError(f"row group {group} of {name} is broken and cannot be read") from None


def _check_size(name: str, group: int, size: int) -> None:
    if size > MAX_GROUP_BYTES:
        raise InvalidDataError(
            f"row group {group} of {name} unpacks to more than {MAX_GROUP_BYTES / 1e9:.1f} GB; write the file again in "
            "smaller row groups"
        )


def _chunks(source: parquet.ParquetFile, group: int, columns: Sequence[str]) -> list[Any]:
    metadata = source.metadata.row_group(group)
    chunks = [metadata.column(index) for index in range(metadata.num_columns)]
    return [chunk for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns]


def _is_plain_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _rows_at_once(opened: Opened, group: int, chunks: Sequence[Any]) -> int:
    """Return the number of rows to unpack at once, because few bytes can encode a long text many times."""
    if any("DELTA_BYTE_ARRAY" in chunk.encodings for chunk in chunks):  # a text is stored as a difference from another
        return _FEW_ROWS
    repeated = [chunk.path_in_schema for chunk in chunks if chunk.has_dictionary_page]
    texts = [
        name for name in repeated if name in opened.schema.names and _is_plain_text(opened.schema.field(name).type)
    ]
    longest = 1
    if texts:  # reading one row returns the dictionary of all texts
        first = next(opened.packed.iter_batches(batch_size=1, row_groups=[group], columns=texts), None)
        for column in first.columns if first is not None else ():
            longest = max(longest, pc.max(pc.binary_length(column.dictionary)).as_py() or 0)
    return max(1, min(_BATCH_ROWS, _PIECE_BYTES // longest))


def _pieces(batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    """Yield a batch in pieces of about 64 MB."""
    step = max(1, batch.num_rows // max(1, -(-size // _PIECE_BYTES)))
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step)
