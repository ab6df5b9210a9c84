"""Forms of dates, decided by the values of a column."""

from datetime import datetime

import polars as pl
import pytest

from absa.data.recognition.dates import find_date_form

DAYS = [datetime(2026, 1 + n % 12, 1 + n % 28, n % 24, n % 60) for n in range(60)]


@pytest.mark.parametrize(
    ("form", "ambiguous"),
    [
        ("%d/%m/%Y", False),
        ("%m/%d/%Y", False),
        ("%d.%m.%Y %H:%M", False),
        ("%m/%d/%Y %I:%M %p", False),
        ("%d-%m-%y", False),
        ("%d %b %Y", False),
        ("%B %d, %Y", False),
        ("%Y%m%d", False),
    ],
)
def test_form_is_found_by_values(form: str, ambiguous: bool) -> None:
    found = find_date_form(pl.Series([day.strftime(form) for day in DAYS]))
    assert found is not None
    assert (found.form, found.share, found.ambiguous) == (form, 1.0, ambiguous)
    assert found.first.date() == min(DAYS).date()


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ", "%Y/%m/%d %H:%M"])
def test_year_first_needs_no_form(form: str) -> None:
    found = find_date_form(pl.Series([day.strftime(form) for day in DAYS]))
    assert found is not None
    assert (found.form, found.order) == (None, "year, month, day")


@pytest.mark.parametrize(
    ("clock", "form"), [("", "%d/%m/%Y"), (" 10:30", "%d/%m/%Y %H:%M"), (" 10:30 AM", "%m/%d/%Y %I:%M %p")]
)
def test_exchangeable_days_have_a_default(clock: str, form: str) -> None:
    found = find_date_form(pl.Series([f"{n:02d}/{13 - n:02d}/2026{clock}" for n in range(1, 13)]))
    assert found is not None
    assert (found.form, found.ambiguous) == (form, True)


def test_some_values_that_are_no_dates_are_counted() -> None:
    found = find_date_form(pl.Series([*[day.strftime("%d/%m/%Y") for day in DAYS[:45]], *["unknown"] * 5]))
    assert found is not None
    assert found.share == pytest.approx(0.9)


@pytest.mark.parametrize("values", [[], ["bug", "praise"], ["1", "2", "3"], ["ACC-1"], ["1.2.3"], ["12345678"]])
def test_other_values_are_no_dates(values: list[str]) -> None:
    assert find_date_form(pl.Series(values, dtype=pl.String)) is None
