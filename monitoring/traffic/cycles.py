"""Rhythm of days and weeks: which reference rows match a window's hour and weekday. Pure.

Traffic at night, by day and at weekends differs without any drift. A row belongs to the slot of its window: the weekday
and hour (UTC) of the window's start. A window is compared with rows of its own slot. If these are too few, equal
numbers of rows of the hours before and after are added. Until the weekday itself has enough rows, the window is
compared with other days of the same kind (working days, weekends).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from absa.policies import StalenessPolicy
from absa.records.schema import Window
from absa.records.windows import smallest

WINDOW_START: Final = "window_start"
MOST_KEPT_ROWS: Final = 20_000
"""Most rows that join a reference without a cycle: as many as a test of drift uses."""
_DAY: Final = timedelta(days=1)
_SLOTS: Final = 7 * 24
_DAYS: Final = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_WORKING: Final = (0, 1, 2, 3, 4)
_WEEKEND: Final = (5, 6)
_ENOUGH_TIMES: Final = 2
_NEAR_HOURS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """Cycle that applies to windows of one length; `weekdays` and `hours`: True if the weekday or the hour counts."""

    weekdays: bool
    hours: bool

    @classmethod
    def of(cls, policy: StalenessPolicy, length: timedelta) -> "Cycle":
        """Return the policy's cycle, without parts that are equal in all windows of this length."""
        whole_weeks = length % (7 * _DAY) == timedelta(0)
        return cls(weekdays=policy.cycle == "week" and not whole_weeks, hours=policy.cycle != "none" and length < _DAY)

    @property
    def known(self) -> bool:
        """Return True if the weekday or the hour counts."""
        return self.weekdays or self.hours


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Reference rows that a window is compared with; `matching` names them. `rows` is None if none match."""

    rows: pl.DataFrame | None
    matching: str


def with_window_start(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with the start of their window; for rows of an earlier release, the hour of the request."""
    hour = pl.col("at").dt.truncate("1h")
    known = pl.col(WINDOW_START).fill_null(hour) if WINDOW_START in rows.columns else hour
    return rows.with_columns(known.alias(WINDOW_START))


def same_slot(rows: pl.DataFrame, window: Window, cycle: Cycle) -> pl.DataFrame:
    """Return the rows of the window's own slot, in which the reference keeps the window's rows."""
    levels = [_slots(window, cycle, days=(window.start.weekday(),))]
    return rows.filter(_slot().is_in(levels[0])) if cycle.known else rows


def match_window(reference: pl.DataFrame, window: Window, policy: StalenessPolicy, *, rows: int) -> Matched:
    """Return the reference rows of the window's hour and weekday.

    Args:
        reference: rows outside the window, with the start of their window.
        window: the window.
        policy: names the cycle and `reference_rows`, which are enough.
        rows: number of rows in the window. At most twice as many are returned, or twice `reference_rows` if that is
            more.
    """
    cycle = Cycle.of(policy, window.end - window.start)
    most = _ENOUGH_TIMES * max(policy.reference_rows, rows)
    if not cycle.known:
        return Matched(rows=smallest(reference, most), matching="all hours")
    slots = reference.select(_slot().alias("slot"))["slot"]
    best = reference.clear()
    how = ""
    for matching, days in _days_of(window, cycle):
        for wider in (False, True) if cycle.hours else (False,):
            found = _around(reference, slots, _slots(window, cycle, days=days), wider=wider)
            if found.height > best.height:
                best, how = found, f"{matching}{' and the hours around' if wider else ''}"
            if best.height >= policy.reference_rows:
                return Matched(rows=smallest(best, most), matching=how)
    if best.height < policy.min_reference_rows:
        return Matched(rows=None, matching=next(iter(_days_of(window, cycle)))[0])
    return Matched(rows=smallest(best, most), matching=how)


def match_together(
    reference: pl.DataFrame, last: pl.DataFrame, length: timedelta, policy: StalenessPolicy
) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """Return the last windows' rows and reference rows of the same hours in the same proportions.

    Windows whose hour the reference does not have are left out of both; None if too few rows are left.

    Args:
        reference: rows outside all of these windows, with the start of their window.
        last: rows of the last windows, with the start of their window.
        length: length of a window.
        policy: names the cycle and the number of reference rows that are needed.
    """
    cycle = Cycle.of(policy, length)
    most = _ENOUGH_TIMES * max(policy.reference_rows, last.height)
    if not cycle.known:
        kept = smallest(reference, most)
        return (last, kept) if kept.height >= policy.min_reference_rows else None
    slots = reference.select(_slot().alias("slot"))["slot"]
    starts = last[WINDOW_START].unique().sort()
    for exact in (True, False):  # the weekdays themselves, once they have enough rows
        groups: dict[tuple[int, ...], list[datetime]] = {}
        for start in starts:
            window = Window(start=start, end=start + length)
            days = (start.weekday(),) if exact else list(_days_of(window, cycle))[-1][1]
            groups.setdefault(tuple(_slots(window, cycle, days=days)), []).append(start)
        pairs = [
            (last.filter(pl.col(WINDOW_START).is_in(members)), reference.filter(slots.is_in(list(chosen))))
            for chosen, members in groups.items()
        ]
        pairs = [(now, before) for now, before in pairs if before.height]
        rows = sum(now.height for now, _ in pairs)
        if not pairs or (exact and sum(before.height for _, before in pairs) < policy.reference_rows):
            continue
        times = min([most / rows, *(before.height / now.height for now, before in pairs)])
        if times * rows >= policy.min_reference_rows:
            alike = [smallest(before, int(times * now.height)) for now, before in pairs]
            return pl.concat([now for now, _ in pairs]).sort("at"), pl.concat(alike)
    return None


def near_hours(reference: pl.DataFrame, starts: pl.Series, length: timedelta, policy: StalenessPolicy) -> pl.DataFrame:
    """Return the reference's rows of the same kind of day, up to three hours from any of some windows.

    Args:
        reference: rows with the start of their window.
        starts: starts of the windows.
        length: length of a window.
        policy: names the cycle.
    """
    cycle = Cycle.of(policy, length)
    if not cycle.known:
        return reference
    chosen = {
        (slot + step) % _SLOTS
        for start in starts
        for slot in _slots(
            Window(start=start, end=start + length),
            cycle,
            days=list(_days_of(Window(start=start, end=start + length), cycle))[-1][1],
        )
        for step in (range(-_NEAR_HOURS, _NEAR_HOURS + 1) if cycle.hours else (0,))
    }
    return reference.filter(_slot().is_in(sorted(chosen)))


def next_comparison(window: Window, policy: StalenessPolicy) -> datetime:
    """Return the start of the first window that can be compared with this one's rows."""
    length = window.end - window.start
    cycle = Cycle.of(policy, length)
    step = _DAY if length < _DAY else length
    days = list(_days_of(window, cycle))[-1][1]
    at = window.start + step
    while cycle.weekdays and at.weekday() not in days:
        at += step
    return at


def _days_of(window: Window, cycle: Cycle) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the days that a window may be compared with and their name, the most similar first."""
    at = f" at {window.start:%H:%M} UTC" if cycle.hours else ""
    if not cycle.weekdays:
        yield f"all days{at}", tuple(range(7))
        return
    day = window.start.weekday()
    yield f"{_DAYS[day]}{at}", (day,)
    if window.end - window.start <= _DAY:
        working = day in _WORKING
        yield f"{'working days' if working else 'weekends'}{at}", _WORKING if working else _WEEKEND


def _slots(window: Window, cycle: Cycle, *, days: tuple[int, ...]) -> list[int]:
    """Return the slots of the window's hour on some days."""
    chosen = days if cycle.weekdays else tuple(range(7))
    hours = (window.start.hour,) if cycle.hours else tuple(range(24))
    return [24 * day + hour for day in chosen for hour in hours]


def _around(reference: pl.DataFrame, slots: pl.Series, chosen: list[int], *, wider: bool) -> pl.DataFrame:
    """Return the rows of some slots and, if wider, equal numbers of the hours before and after."""
    own = reference.filter(slots.is_in(chosen))
    if not wider:
        return own
    sides = [reference.filter(slots.is_in([(slot + step) % _SLOTS for slot in chosen])) for step in (-1, 1)]
    each = min(side.height for side in sides)
    return pl.concat([own, *(smallest(side, each) for side in sides)]).sort("at")


def _slot() -> pl.Expr:
    start = pl.col(WINDOW_START)
    return (start.dt.weekday().cast(pl.Int64) - 1) * 24 + start.dt.hour().cast(pl.Int64)
