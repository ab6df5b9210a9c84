"""Rows that the monitor keeps of a version in the lake: its reference, and some of its last windows."""

import io

import polars as pl

from absa.errors import NotFoundError
from absa.records.lake import Lake
from absa.records.layout import recent_key, reference_key
from absa.records.tables import write_parquet


def save_reference(lake: Lake, version: str, rows: pl.DataFrame) -> None:
    """Write the version's reference; it replaces the one before."""
    write_parquet(lake, reference_key(version), rows.to_arrow())


def load_reference(lake: Lake, version: str) -> pl.DataFrame | None:
    """Return the version's reference rows, in the shape of `WindowData.rows`; None if there is none yet."""
    return _kept(lake, reference_key(version))


def save_recent(lake: Lake, version: str, rows: pl.DataFrame) -> None:
    """Write rows of the version's last windows; they replace those before."""
    write_parquet(lake, recent_key(version), rows.to_arrow())


def load_recent(lake: Lake, version: str) -> pl.DataFrame | None:
    """Return rows of the version's last windows; None if there was none yet."""
    return _kept(lake, recent_key(version))


def _kept(lake: Lake, key: str) -> pl.DataFrame | None:
    try:
        return pl.read_parquet(io.BytesIO(lake.read(key)))
    except NotFoundError:
        return None
