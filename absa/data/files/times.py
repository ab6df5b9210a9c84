"""Times in files: ISO 8601 and the similar forms of databases and spreadsheets, with or without a zone."""

from typing import Final

import polars as pl

TIME: Final = pl.Datetime("us", "UTC")
_DATE: Final = r"^(\d{4})[-/.](\d{2})[-/.](\d{2})"
_PARTS: Final = (
    r"^(?<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?<time>\d{1,2}:\d{2})(?::(?<seconds>\d{2})(?:[.,](?<fraction>\d{1,9}))?)?"
    r" ?(?<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?(?::?00)?)?)?$"
)


def times(column: pl.Expr, form: str | None = None) -> pl.Expr:
    """Return the times of a column of text; null if the text is not a time. A time without a zone is UTC.

    `form` is the form in the codes of `strptime`; None: ISO 8601 and similar forms.

    Dates have the year first, such as 2026-11-30, 2026/11/30 or 2026.11.30. Hours and minutes, seconds and a fraction,
    and a zone such as Z, UTC, +00, +0000 or +00:00 may follow.
    """
    zoned = column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    plain = column.str.replace(" ", "T").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False)
    iso = (zoned, plain.dt.replace_time_zone("UTC"))
    if form is None:
        return pl.coalesce(*iso)
    if "%z" in form:
        return pl.coalesce(column.str.to_datetime(form, time_unit="us", time_zone="UTC", strict=False), *iso)
    return pl.coalesce(column.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC"), *iso)


def other_times(column: pl.Expr) -> pl.Expr:
    """Return the times of rare forms, which `times` returns as null; uses a slower pattern."""
    parts = column.str.to_uppercase().str.replace(_DATE, "${1}-${2}-${3}").str.extract_groups(_PARTS)
    zone = parts.struct.field("zone").fill_null("Z").replace({"UTC": "Z", "GMT": "Z"})
    hours = zone.str.replace("^Z$", "+00").str.slice(0, 3)
    minutes = zone.str.replace_all(":", "").str.slice(3, 2).fill_null("").replace({"": "00"})
    written = pl.concat_str(
        parts.struct.field("date"),
        pl.lit("T"),
        parts.struct.field("time").fill_null("00:00"),
        pl.lit(":"),
        parts.struct.field("seconds").fill_null("00"),
        pl.lit("."),
        parts.struct.field("fraction").fill_null("0"),
        hours,
        pl.lit(":"),
        minutes,
    )
    return pl.coalesce(
        written.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False),
        column.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False).dt.replace_time_zone("UTC"),
    )
