"""Refused rows of the last ingest as a CSV file in the home."""

from pathlib import Path
from typing import Final

import polars as pl

from absa.config_file import REFUSED_ROWS
from absa.sinks import write_csv
from absa.task import TaskSpec

_COLUMNS: Final = ("uri", "row", "reason", "text", "aspect", "label", "segment", "source")


class RefusedRows:
    """Collector of refused rows. `write` replaces the file of the ingest before."""

    def __init__(self, home: Path, task: TaskSpec) -> None:
        self._file = home / REFUSED_ROWS
        self._columns = task.shown_columns(_COLUMNS)
        self._frames: list[pl.DataFrame] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Take the rows of one file."""
        self._frames.append(rows.select(pl.col(column).alias(name) for column, name in self._columns.items()))

    def write(self) -> Path | None:
        """Write the file and return its path; without a refused row remove it and return None."""
        if not self._frames:
            self._file.unlink(missing_ok=True)
            return None
        self._file.touch(mode=0o600)  # customers' texts
        write_csv(self._file, [*self._columns.values()], (row for frame in self._frames for row in frame.iter_rows()))
        return self._file
