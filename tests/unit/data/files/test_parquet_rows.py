"""Parquet in bounded memory: what unpacks to too much is refused before it is unpacked."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from absa.batch.batch_input import cut_partitions, inspect
from absa.batch.reader import PartitionReader
from absa.data.files import parquet_rows
from absa.data.files.parquet_rows import open_parquet, scan_rows
from absa.data.read import read_examples
from absa.errors import InvalidDataError

TEXT = "the app " + "x" * 10_000


def write(path: Path, rows: int, **options: object) -> Path:
    table = pa.table({"text": [TEXT] * rows, "aspect": ["app"] * rows, "label": [1] * rows})
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dictionary": False, "compression": "zstd"},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}},
    ],
    ids=["dictionary", "plain", "delta"],
)
def test_small_file_that_unpacks_large_is_refused(tmp_path, monkeypatch, options):
    monkeypatch.setattr(parquet_rows, "MAX_GROUP_BYTES", 5_000_000)
    path = write(tmp_path / "rows.parquet", 1000, **options)
    assert path.stat().st_size < 50_000
    source = inspect(str(path))
    for read in (
        lambda: read_examples(path),
        lambda: list(map(PartitionReader(source).read, cut_partitions(source, 100))),
    ):
        with pytest.raises(InvalidDataError, match=r"row group 0 of .* unpacks to .* smaller row groups"):
            read()
    assert read_examples(write(path, 400, **options))[0].height == 400


def test_columns_keep_their_types(tmp_path):
    table = pa.table(
        {
            "text": ["the app"] * 4,
            "large": pa.array(["a", None] * 2, pa.large_string()),
            "kind": pa.array(["a", "b"] * 2).dictionary_encode(),
            "nested": [{"a": [1]}] * 4,
            "number": [1, 2, 3, None],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    with (tmp_path / "rows.parquet").open("rb") as file:
        found = pa.Table.from_batches(scan_rows(open_parquet(file, "rows"), "rows", table.column_names))
    assert found.equals(table)


def test_many_row_groups_of_one_text_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "MAX_GROUP_BYTES", 5_000_000)
    path = write(tmp_path / "rows.parquet", 1000, row_group_size=100)
    with pytest.raises(InvalidDataError, match="over 200 times its size"):
        read_examples(path)


def test_pieces_are_small_and_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "_PIECE_BYTES", 200_000)
    path = tmp_path / "rows.parquet"
    texts = [f"{number} {TEXT}" for number in range(100)] * 2
    pq.write_table(pa.table({"text": texts}), path, row_group_size=150)
    with path.open("rb") as file:
        pieces = list(scan_rows(open_parquet(file, "rows"), "rows", ["text"]))
    assert [text for piece in pieces for text in piece.column(0).to_pylist()] == texts
    assert all(piece.column(0).type == pa.string() for piece in pieces)
    assert max(piece.nbytes for piece in pieces) < 400_000


def test_broken_row_group_is_named(tmp_path):
    path = write(tmp_path / "rows.parquet", 100, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[4:40] = b"\xff" * 36
    path.write_bytes(content)
    with pytest.raises(InvalidDataError, match=r"row group 0 of .* is broken"):
        read_examples(path)
