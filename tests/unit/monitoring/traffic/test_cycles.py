"""Match of reference rows with hour and weekday of a window."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from absa.policies import StalenessPolicy
from monitoring.traffic.cycles import (
    Cycle,
    match_together,
    match_window,
    near_hours,
    next_comparison,
    with_window_start,
)
from tests.unit.monitoring.traffic.frames import MONDAY, hours, traffic

POLICY = StalenessPolicy(min_rows=100, min_reference_rows=100, reference_rows=300)
DAY = 24


def starts(rows: pl.DataFrame | None) -> dict[float, int]:
    """Rows by the hours since Monday, 00:00, of their window."""
    assert rows is not None
    return dict(Counter((at - MONDAY) / timedelta(hours=1) for at in rows["window_start"]))


def history(*at: float, count: int = 100, length: float = 1.0) -> pl.DataFrame:
    return pl.concat([traffic(hours(start, length), count) for start in at])


def test_first_day_has_no_matching_rows() -> None:
    found = match_window(history(*range(10)), hours(10), POLICY, rows=100)
    assert found.rows is None
    assert found.matching == "Mondays at 10:00 UTC"
    assert next_comparison(hours(10), POLICY) == hours(DAY + 10).start


def test_first_weekend_is_not_compared_with_working_days() -> None:
    saturday = hours(5 * DAY + 10)
    found = match_window(history(*range(5 * DAY)), saturday, POLICY, rows=100)
    assert found.rows is None
    assert next_comparison(saturday, POLICY) == hours(6 * DAY + 10).start
    assert next_comparison(hours(6 * DAY + 10), POLICY) == hours(12 * DAY + 10).start
    assert next_comparison(hours(4 * DAY + 10), POLICY) == hours(7 * DAY + 10).start


def test_second_day_takes_hours_around_in_balance() -> None:
    uneven = pl.concat([history(9, 11), traffic(hours(10), 150), traffic(hours(DAY + 9), 80)])
    found = match_window(uneven, hours(DAY + 10), POLICY, rows=100)
    by_hour = Counter(at % DAY for at, rows in starts(found.rows).items() for _ in range(rows))
    assert by_hour == {9: 100, 10: 150, 11: 100}
    assert found.matching == "working days at 10:00 UTC and the hours around"


def test_own_weekday_comes_first_once_it_has_enough() -> None:
    past = history(*(day * DAY + 10 for day in range(7)), count=300)
    found = match_window(past, hours(7 * DAY + 10), POLICY, rows=100)
    assert starts(found.rows) == {10: 300}
    assert found.matching == "Mondays at 10:00 UTC"


def test_cycle_of_days_ignores_weekdays() -> None:
    policy = StalenessPolicy(reference_rows=300, cycle="day")
    past = history(*(day * DAY + hour for day in range(5) for hour in (9, 10, 11)))
    found = match_window(past, hours(5 * DAY + 10), policy, rows=100)
    assert {at % DAY for at in starts(found.rows)} == {10}
    assert found.matching == "all days at 10:00 UTC"


def test_no_cycle_compares_with_all_rows() -> None:
    policy = StalenessPolicy(reference_rows=300, cycle="none")
    assert starts(match_window(history(0, 5), hours(10), policy, rows=100).rows) == {0: 100, 5: 100}


@pytest.mark.parametrize(
    ("length", "cycle", "known"),
    [
        (1, "week", (True, True)),
        (24, "week", (True, False)),
        (7 * 24, "week", (False, False)),
        (24, "day", (False, False)),
        (1, "day", (False, True)),
        (1, "none", (False, False)),
    ],
)
def test_cycle_counts_what_windows_differ_by(length: int, cycle: str, known: tuple[bool, bool]) -> None:
    found = Cycle.of(replace(POLICY, cycle=cycle), timedelta(hours=length))
    assert (found.weekdays, found.hours) == known


def test_daily_windows_match_kind_of_day() -> None:
    past = history(*(day * DAY for day in range(6)), count=150, length=DAY)
    found = match_window(past, hours(6 * DAY, DAY), POLICY, rows=150)
    assert (starts(found.rows), found.matching) == ({5 * DAY: 150}, "weekends")


def test_midnight_has_hours_of_both_days_around() -> None:
    past = history(23, DAY, DAY + 1, DAY + 23, count=60)
    found = match_window(past, hours(2 * DAY), POLICY, rows=100)
    assert sum(starts(found.rows).values()) == 180
    assert set(starts(found.rows)) >= {DAY, DAY + 1}


def test_together_keeps_proportions_of_hours() -> None:
    past = history(*range(DAY), count=200)
    last = pl.concat([traffic(hours(DAY + 9), 100), traffic(hours(DAY + 10), 50)])
    found = match_together(past, last, timedelta(hours=1), POLICY)
    assert found is not None
    rows, alike = found
    assert rows.height == 150
    assert starts(alike) == {9: 200, 10: 100}


def test_together_leaves_out_hours_without_history() -> None:
    friday, saturday = hours(4 * DAY + 23), hours(5 * DAY)
    past = history(*(day * DAY + 23 for day in range(4)))
    found = match_together(past, pl.concat([traffic(friday), traffic(saturday)]), timedelta(hours=1), POLICY)
    assert found is not None
    assert set(starts(found[0])) == {4 * DAY + 23}
    assert match_together(past, traffic(saturday), timedelta(hours=1), POLICY) is None


def test_near_hours_are_three_around_of_like_days() -> None:
    past = history(*range(6 * DAY), count=2)
    found = near_hours(past, pl.Series([hours(7 * DAY + 10).start]), timedelta(hours=1), POLICY)
    assert set(starts(found)) == {day * DAY + hour for day in range(5) for hour in range(7, 14)}
    without = StalenessPolicy(reference_rows=300, cycle="none")
    assert near_hours(past, pl.Series([hours(10).start]), timedelta(hours=1), without).height == past.height


def test_rows_of_earlier_releases_get_their_hour() -> None:
    old = traffic(hours(10)).drop("window_start")
    assert starts(with_window_start(old)) == {10: 100}
