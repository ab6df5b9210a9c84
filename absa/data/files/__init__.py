"""Rows of files: delimited text, JSON lines and Parquet, from folders and buckets."""

from typing import Final

MAX_BAD_SHARE: Final = 0.1  # share of a file's rows above which an ingest or a batch stops
MAX_TEXT_CHARACTERS: Final = 20_000
