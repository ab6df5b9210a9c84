"""Choice of the rows that a window is judged on and compared with. Pure."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from absa.policies import StalenessPolicy
from absa.records.schema import Window, iso
from absa.records.verdict import NO_MATCH, Reason, ReferenceUse
from monitoring.traffic.cycles import (
    WINDOW_START,
    match_together,
    match_window,
    near_hours,
    next_comparison,
    with_window_start,
)
from monitoring.traffic.floods import find_floods, flood_reasons
from monitoring.traffic.kept_rows import first_labels, last_windows, outside, span_of_last
from monitoring.traffic.mix import mix_of, mix_reasons


@dataclass(frozen=True, kw_only=True)
class WindowComparison:
    """Rows to judge and to compare with.

    `rows` are the window's rows without floods. `reference` has the reference's rows of matching hours, or all of its
    rows if none match; `comparing_from` is then the start of the first window that can be compared. `first_labels` are
    the reference's first labelled rows, of all hours. `last` has rows of the last windows, this one included. `slow`
    has the rows of `last` at hours that the reference has, and the reference rows that match them. `held` is the whole
    reference.
    """

    window: Window
    policy: StalenessPolicy
    rows: pl.DataFrame
    reference: pl.DataFrame | None
    matching: str
    comparing_from: datetime | None
    first_labels: pl.DataFrame | None
    last: pl.DataFrame | None
    slow: tuple[pl.DataFrame, pl.DataFrame] | None
    held: pl.DataFrame | None
    notes: tuple[Reason, ...]

    @property
    def usual_rows(self) -> float | None:
        """Median rows per window of the matching reference; None if no rows match."""
        if self.reference is None or self.reference.is_empty() or self.comparing_from is not None:
            return None
        return float(np.median(self.reference[WINDOW_START].value_counts()["count"]))

    def alike_hours(self, *, together: bool = False) -> pl.DataFrame | None:
        """Return reference rows some hours around the window's, or around those of the last windows together."""
        if self.held is None:
            return None
        length = self.window.end - self.window.start
        if together and self.slow is not None:
            held, starts = outside(self.held, span_of_last(self.window)), self.slow[0][WINDOW_START].unique()
        else:
            held, starts = self.held, pl.Series([self.window.start])
        return near_hours(held, starts, length, self.policy)

    def use(self, *, joined: bool) -> ReferenceUse | None:
        """Return the account of the reference for the verdict; `joined`: True if this window's rows joined it."""
        if self.reference is None:
            return None
        starts = self.reference[WINDOW_START]
        span = None if starts.is_empty() else starts.sort()
        return ReferenceUse(
            rows=self.reference.height,
            held=0 if self.held is None else self.held.height,
            windows=starts.n_unique(),
            first=None if span is None else iso(span[0]),
            last=None if span is None else iso(span[-1]),
            matching=self.matching if self.comparing_from is None else NO_MATCH,
            joined=joined,
        )


def compare_window(
    rows: pl.DataFrame,
    window: Window,
    reference: pl.DataFrame | None,
    recent: pl.DataFrame | None,
    policy: StalenessPolicy,
    *,
    total: int,
) -> WindowComparison:
    """Choose the rows that a window is judged on and compared with.

    Args:
        rows: rows of the judged version in the window.
        window: the window.
        reference: all rows of the version's reference.
        recent: rows of its last windows.
        policy: names the cycle and switches the exclusion of floods.
        total: number of predictions in the window, of which `rows` may be a sample.
    """
    held = None if reference is None else outside(with_window_start(reference), window)
    before = None if recent is None else outside(with_window_start(recent), window)
    known = [part for part in (held, before) if part is not None]
    seen = pl.concat(known, how="diagonal_relaxed") if known else None
    floods = find_floods(rows, seen)
    kept = floods.removed_from(rows) if policy.exclude_floods else rows
    if kept.height < policy.min_rows:  # too few rows would be left to judge
        kept = rows
    notes = flood_reasons(floods, excluded=kept.height < rows.height, total=total, read=rows.height)
    matched, slow, comparing_from, matching = held, None, None, ""
    last = last_windows(before, kept, window, policy)
    if held is not None and held.height >= policy.min_reference_rows:
        found = match_window(held, window, policy, rows=kept.height)
        matching = found.matching
        if found.rows is None:
            comparing_from = next_comparison(window, policy)
        else:
            matched = found.rows
            slow = _slow(held, last, window, policy)
    if seen is not None and kept.height >= policy.min_rows:
        now, alike = (None, None) if slow is None else slow
        notes += mix_reasons(mix_of(kept, seen, alike, now))
    return WindowComparison(
        window=window,
        policy=policy,
        rows=kept,
        reference=matched,
        matching=matching,
        comparing_from=comparing_from,
        first_labels=None if held is None else first_labels(held, window, policy),
        last=last,
        slow=slow,
        held=held,
        notes=notes,
    )


def _slow(
    held: pl.DataFrame, last: pl.DataFrame | None, window: Window, policy: StalenessPolicy
) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    if last is None:
        return None
    reference = outside(held, span_of_last(window))
    pair = match_together(reference, last, window.end - window.start, policy)
    return pair if pair is not None and (pair[0][WINDOW_START] == window.start).any() else None
