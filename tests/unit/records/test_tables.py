"""Rows of the lake as tables: a damaged file is named."""

from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.errors import IntegrityError
from absa.records.tables import FEEDBACK, read_parquet, table_of, write_parquet


@pytest.mark.parametrize("kept", [0, 4, 200])
def test_damaged_parquet_file_is_named(tmp_path: Path, kept: int) -> None:
    lake, key = FolderLake(tmp_path), "feedback/date=2026-11-30/one.parquet"
    write_parquet(lake, key, table_of([], FEEDBACK))
    assert read_parquet(lake, [key], FEEDBACK).num_rows == 0
    lake.write(key, lake.read(key)[:kept])
    with pytest.raises(IntegrityError, match="is not a readable Parquet file: restore it") as caught:
        read_parquet(lake, [key], FEEDBACK)
    assert lake.url(key) in str(caught.value)
