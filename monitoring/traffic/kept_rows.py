"""Rows kept of a version once a window is judged: its reference, and some of the last windows. Pure.

The reference holds up to `reference_rows` rows of each hour of the week (of each slot of the cycle, see `cycles`). A
window's rows join the reference only if the window was judged without drift and is not STALE. A later judgement that
finds drift or STALE removes them. Every row has the start of its window, which records the origin of the row.
"""

from datetime import timedelta
from typing import Final

import polars as pl

from absa.policies import StalenessPolicy
from absa.records.schema import Window
from absa.records.windows import smallest
from monitoring.traffic.cycles import MOST_KEPT_ROWS, WINDOW_START, Cycle, same_slot, with_window_start

RECENT_WINDOWS: Final = 8


def inside(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return the rows of a window."""
    return rows.filter((pl.col("at") >= window.start) & (pl.col("at") < window.end))


def outside(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return the rows outside a window, which is never compared with its own rows."""
    return rows.filter((pl.col("at") < window.start) | (pl.col("at") >= window.end))


def of_window(rows: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return rows of a window with the column of its start."""
    return rows.with_columns(pl.lit(window.start, pl.Datetime("us", "UTC")).alias(WINDOW_START))


def changed_reference(
    reference: pl.DataFrame | None, rows: pl.DataFrame, window: Window, policy: StalenessPolicy, *, sound: bool
) -> pl.DataFrame | None:
    """Return the reference after a window was judged; None if it does not change.

    Args:
        reference: the reference before.
        rows: rows of the window that may join.
        window: the window.
        policy: names the cycle and the number of rows per slot.
        sound: True if the window was judged without drift and is not STALE.
    """
    before = of_window(rows.clear(), window) if reference is None else with_window_start(reference)
    others = outside(before, window)
    cycle = Cycle.of(policy, window.end - window.start)
    room = policy.reference_rows - same_slot(others, window, cycle).height
    if not sound or rows.height == 0 or room <= 0:
        return others if others.height < before.height else None
    joining = smallest(rows, room if cycle.known else MOST_KEPT_ROWS)
    return pl.concat([others, of_window(joining, window)], how="diagonal_relaxed")


def changed_recent(
    recent: pl.DataFrame | None, rows: pl.DataFrame, window: Window, policy: StalenessPolicy
) -> pl.DataFrame:
    """Return rows of each of the last windows, this one included, for the test of slow drift."""
    mine = of_window(smallest(rows, policy.reference_rows), window)
    if recent is None:
        return mine
    others = outside(with_window_start(recent), window)
    both = pl.concat([others, mine], how="diagonal_relaxed").sort("at")
    newest = max([window.end, *others["at"].tail(1)])  # kept in the order of time
    return both.filter(pl.col("at") >= newest - RECENT_WINDOWS * (window.end - window.start))


def span_of_last(window: Window) -> Window:
    """Return the time of the last windows, this one included."""
    return Window(start=window.start - (RECENT_WINDOWS - 1) * (window.end - window.start), end=window.end)


def last_windows(
    recent: pl.DataFrame | None, rows: pl.DataFrame, window: Window, policy: StalenessPolicy
) -> pl.DataFrame | None:
    """Return rows of this window and of the windows just before it; None if there are no windows before it."""
    if recent is None or rows.height == 0:
        return None
    start = span_of_last(window).start
    before = with_window_start(recent).filter((pl.col("at") >= start) & (pl.col("at") < window.start))
    if before.height == 0:
        return None
    return pl.concat([before, of_window(smallest(rows, policy.reference_rows), window)], how="diagonal_relaxed")


def first_labels(reference: pl.DataFrame, window: Window, policy: StalenessPolicy) -> pl.DataFrame:
    """Return the labelled rows of the reference's first windows: `reference_rows`, and at least a day if hours differ.

    Later labels are compared with these rows. A baseline that grew with the traffic would hide a slow loss.
    """
    labelled = reference.filter(pl.col("feedback_label").is_not_null()).sort(WINDOW_START, "request_id")
    if labelled.height <= policy.reference_rows:
        return labelled
    last = labelled[WINDOW_START][policy.reference_rows - 1]
    if Cycle.of(policy, window.end - window.start).hours:
        last = max(last, labelled[WINDOW_START][0] + timedelta(days=1))
    return smallest(labelled.filter(pl.col(WINDOW_START) <= last), MOST_KEPT_ROWS)
