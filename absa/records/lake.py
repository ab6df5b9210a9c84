"""Lake: bytes under keys. The protocol that adapters implement, and tables as Parquet in it."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

_CONCURRENT_READS: Final = 10  # botocore keeps so many connections


class Lake(Protocol):
    """Bytes under keys. A write is whole or not at all; `create` never overwrites."""

    uri: str

    def read(self, key: str) -> bytes:
        """The bytes under a key.

        Raises:
            NotFoundError: there is none.
            UnavailableError: the lake does not answer.
        """

    def write(self, key: str, data: bytes) -> None:
        """Put bytes under a key, in place of what was there."""

    def create(self, key: str, data: bytes) -> None:
        """Put bytes under a key that must be free: one of two writers at the same instant is told.

        Raises:
            AlreadyExistsError: the key is taken.
        """

    def exists(self, key: str) -> bool:
        """Whether a key holds something."""

    def list(self, prefix: str) -> list[str]:
        """Every key that begins with a prefix (a folder ends with `/`), sorted."""

    def delete(self, key: str) -> None:
        """Free a key; a key that is free stays free."""

    def url(self, key: str) -> str:
        """What a Parquet engine opens: a path, or s3://."""


def write_parquet(lake: Lake, key: str, table: pa.Table, *, create: bool = False) -> None:
    """Put a table under a key as zstd Parquet, whole or not at all.

    Raises:
        AlreadyExistsError: `create` is set and the key is taken.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data = sink.getvalue().to_pybytes()
    if create:
        lake.create(key, data)
    else:
        lake.write(key, data)


def read_concurrently(lake: Lake, keys: Sequence[str]) -> list[bytes]:
    """Return the bytes under each key. Many small objects of S3 arrive in the time of a few.

    Raises:
        NotFoundError: a key is free.
        UnavailableError: the lake is unavailable.
    """
    with ThreadPoolExecutor(_CONCURRENT_READS) as pool:
        return list(pool.map(lake.read, keys))


def read_parquet(lake: Lake, keys: Iterable[str], schema: pa.Schema) -> pa.Table:
    """The rows of several Parquet keys in one schema: columns added later are dropped, missing ones come as null."""
    tables = []
    for key in keys:
        table = pq.read_table(pa.BufferReader(lake.read(key)))
        columns = [
            table.column(field.name).cast(field.type)
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in schema
        ]
        tables.append(pa.table(columns, schema=schema))
    return pa.concat_tables(tables) if tables else schema.empty_table()
