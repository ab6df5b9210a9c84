"""Rows of files: delimited text, JSON lines and Parquet, from folders and buckets."""

from typing import Final

MAX_BAD_SHARE: Final = 0.1  # of a file's rows: above it an ingest or a batch stops
MAX_TEXT_CHARACTERS: Final = 20_000
