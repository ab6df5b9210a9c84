"""Rows that a window is judged on and compared with."""

from dataclasses import replace

import polars as pl

from absa.policies import StalenessPolicy
from absa.records.verdict import NO_MATCH
from monitoring.traffic.comparison import WindowComparison, compare_window
from tests.unit.monitoring.traffic.frames import frame, hours, traffic

POLICY = StalenessPolicy(min_rows=50, min_reference_rows=50, reference_rows=200)
DAY = 24


def labelled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(feedback_label=pl.lit(0, pl.Int8))


def compared(rows: pl.DataFrame, at: float, *past: pl.DataFrame, policy: StalenessPolicy = POLICY) -> WindowComparison:
    reference = pl.concat([labelled(part) for part in past])
    return compare_window(labelled(rows), hours(at), reference, None, policy, total=rows.height)


def copies(count: int) -> list[str]:
    return [f"please call me back about the contract for my new house today {k}" for k in range(count)]


def test_usual_size_is_that_of_like_hours() -> None:
    past = [traffic(hours(day * DAY + 3), 60) for day in range(3)] + [
        traffic(hours(day * DAY + 15)) for day in range(3)
    ]
    assert compared(traffic(hours(3 * DAY + 3), 60), 3 * DAY + 3, *past).usual_rows == 60.0
    assert compared(traffic(hours(3 * DAY + 9)), 3 * DAY + 9, *past).usual_rows is None


def test_hours_without_match_are_compared_with_all() -> None:
    found = compared(traffic(hours(9)), 9, traffic(hours(3)))
    assert found.comparing_from == hours(DAY + 9).start
    assert found.reference is not None
    assert found.reference.height == 100
    used = found.use(joined=True)
    assert used is not None
    assert (used.matching, used.rows, used.held, used.joined) == (NO_MATCH, 100, 100, True)


def test_flood_that_leaves_too_little_is_judged() -> None:
    rows = frame(hours(DAY + 3), [f"u{k}" for k in range(90)], copies(90))
    found = compared(rows, DAY + 3, traffic(hours(3)))
    assert found.rows.height == 90
    assert "judged with the rest" in found.notes[0].sentence


def test_policy_decides_whether_floods_count() -> None:
    rows = pl.concat([traffic(hours(DAY + 3)), frame(hours(DAY + 3), ["bot"] * 60, copies(60))])
    assert compared(rows, DAY + 3, traffic(hours(3))).rows.height == 100
    whole = replace(POLICY, exclude_floods=False)
    assert compared(rows, DAY + 3, traffic(hours(3)), policy=whole).rows.height == 160


def test_slow_loss_keeps_its_first_labels() -> None:
    past = [traffic(hours(k), 100) for k in range(60)]
    found = compared(traffic(hours(61)), 61, *past).first_labels
    assert found is not None
    assert found["window_start"].max() == hours(24).start
    alone = compared(traffic(hours(61)), 61, *past, policy=replace(POLICY, cycle="none")).first_labels
    assert alone is not None
    assert alone.height == 200
