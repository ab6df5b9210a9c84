"""Form of the dates in a column, decided by its values."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from absa.data.files.times import other_times, times

LEAST_SHARE: Final = 0.8  # share of a column's values that must be dates
_MOST_VALUES: Final = 5_000
_FIRST_VALUES: Final = 50  # enough to rule out most forms
_DATE_LIKE: Final = r"^\D{0,12}\d{1,4}[-/., ]+\w{1,9}[-/., ]+\d{1,4}\b|^[A-Za-z]{3,9} \d{1,2},? \d{4}\b|^\d{8}$"
_SHORT_YEAR: Final = r"^\d{1,2}[-/.](?:\d{1,2}|[A-Za-z]{3})[-/.]\d{2}\b"  # 1.2.3 is a version number
_YEARS: Final = (1970, 2100)
_DAYS: Final = (
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%d/%m",
    "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%m-%d-%y",
    "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y", "%B %d %Y", "%d-%b-%Y", "%d-%b-%y", "%d. %B %Y",
    "%a, %d %b %Y", "%Y%m%d",
)  # fmt: skip
_CLOCKS: Final = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
_LETTERS: Final = {"%d": "day", "%m": "month", "%b": "month", "%B": "month", "%Y": "year", "%y": "year"}


@dataclass(frozen=True, kw_only=True)
class DateForm:
    """Form of a column of dates.

    Attributes:
        form: codes of `strptime`; None for ISO 8601 and similar forms with the year first.
        share: share of the values that have the form, 0 to 1.
        ambiguous: True if every value is also a date with day and month exchanged.
        first: earliest time.
        last: latest time.
    """

    form: str | None
    share: float
    ambiguous: bool
    first: datetime
    last: datetime

    @property
    def order(self) -> str:
        """Order of day, month and year in words."""
        if self.form is None:
            return "year, month, day"
        codes = [self.form[at : at + 2] for at, letter in enumerate(self.form) if letter == "%"]
        return ", ".join(_LETTERS[code] for code in codes if code in _LETTERS)


def find_date_form(values: pl.Series) -> DateForm | None:
    """Return the form that most of a column's values (text, no nulls) have; None if they are not dates. Pure.

    If several forms fit equally many values, a form with the day first is preferred; with AM and PM a form with the
    month first.
    """
    if values.is_empty():
        return None
    values = values.head(_MOST_VALUES)
    iso = _read(values, None)
    if _share(iso) >= LEAST_SHARE:
        return _form(None, iso, ambiguous=False)
    few = values.head(_FIRST_VALUES)
    if few.str.contains(_DATE_LIKE).sum() < LEAST_SHARE / 2 * len(few):
        return None
    possible = [form for form in _forms() if _share(_read(few, form)) >= LEAST_SHARE / 2]
    found = {form: _read(values, form) for form in possible}
    if not found:
        return None
    best = max(found, key=lambda form: (_share(found[form]), ("%p" in form) == _month_first(form)))
    if _share(found[best]) < LEAST_SHARE:
        return None
    other = found.get(_exchanged(best))
    return _form(best, found[best], ambiguous=other is not None and _share(other) == _share(found[best]))


def _forms() -> Iterator[str]:
    for clock in _CLOCKS:
        for day in _DAYS:
            yield day + clock


def _read(values: pl.Series, form: str | None) -> pl.Series:
    """Return the times of values; null if a value has another form or a year outside of 1970 to 2100."""
    column = pl.col("value")
    if form is None:
        read = pl.coalesce(times(column), other_times(column))
    else:
        read = column.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC")
    at = pl.DataFrame({"value": values}).select(at=read)["at"]
    if form is not None and "%y" in form:
        at = at.set(~values.str.contains(_SHORT_YEAR), None)
    return at.set((at.dt.year() < _YEARS[0]) | (at.dt.year() > _YEARS[1]), None)


def _share(at: pl.Series) -> float:
    return 1.0 - at.null_count() / len(at)


def _month_first(form: str) -> bool:
    month, day = form.find("%m"), form.find("%d")
    return 0 <= month < day


def _exchanged(form: str) -> str:
    return form.replace("%d", "%_").replace("%m", "%d").replace("%_", "%m")


def _form(form: str | None, at: pl.Series, *, ambiguous: bool) -> DateForm:
    first, last = at.min(), at.max()
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return DateForm(form=form, share=_share(at), ambiguous=ambiguous, first=first, last=last)
