"""Rows of windows with the columns that the rules of traffic read."""

from datetime import UTC, datetime, timedelta
from itertools import count

import polars as pl

from absa.records.schema import Window
from monitoring.traffic.kept_rows import of_window

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
_NUMBERS = count()


def hours(start: float, length: float = 1.0) -> Window:
    """Window that starts so many hours after Monday, 00:00 UTC."""
    at = MONDAY + timedelta(hours=start)
    return Window(start=at, end=at + timedelta(hours=length))


def frame(
    window: Window, units: list[str], texts: list[str] | None = None, *, segment: str | None = None
) -> pl.DataFrame:
    """Rows of a window, one for each unit of the list."""
    step = (window.end - window.start) / max(len(units), 1)
    rows = pl.DataFrame(
        {
            "request_id": [f"r{next(_NUMBERS)}" for _ in units],
            "at": pl.Series([window.start + k * step for k in range(len(units))], dtype=pl.Datetime("us", "UTC")),
            "unit_hash": pl.Series(units, dtype=pl.String),
            "unit_given": [True] * len(units),
            "segment": pl.Series([segment] * len(units), dtype=pl.String),
            "text": pl.Series(texts or [f"text of {unit} {k}" for k, unit in enumerate(units)], dtype=pl.String),
        }
    )
    return of_window(rows, window)


def traffic(window: Window, count: int = 100) -> pl.DataFrame:
    """Rows of a window from so many units of its own."""
    return frame(window, [f"{window.key}-{k}" for k in range(count)])
