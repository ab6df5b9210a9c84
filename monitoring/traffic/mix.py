"""Mix of a window: the share of its rows from units that joined, and the units that left. Pure.

The share of rows from units that were not seen before is never zero; chance alone gives about the share of rows from
units seen in exactly one of the windows before (Good 1953, 'The population frequencies of species'; the jackknife over
windows of Burnham and Overton 1978). A unit has left if it was in one of the last windows and is absent from all
windows since, and if it is in so many of the reference's windows of these hours that the absence is not due to chance.
Units that left are reported only while the last windows show them: a reference is not renewed, so more and more of its
units have left long ago.
"""

from dataclasses import dataclass
from typing import Final

import polars as pl

from absa.records.verdict import Reason

NOTABLE_SHARE: Final = 0.05
"""Share of the rows, of one unit that joined or of all that left, from which the mix is reported."""
NOTABLE_RISE: Final = 0.10
"""Share of the rows from all units that joined, above what chance gives, from which the mix is reported."""
_LARGE: Final = 0.01
_CHANCE: Final = 0.001
_GIVEN: Final = pl.col("unit_given").fill_null(value=False)


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Shares of rows, 0 to 1.

    `joined` is the share of the window's rows from units seen neither in the reference nor in the last windows;
    `expected` is the share that chance gives. `largest` is the share of the largest such unit, and `segment` is its
    segment. `left` is the share of the reference's rows from units that left within the last windows.
    """

    joined: float
    expected: float
    largest: float
    segment: str | None
    left: float


def mix_of(
    rows: pl.DataFrame, known: pl.DataFrame, reference: pl.DataFrame | None, last: pl.DataFrame | None
) -> Mix | None:
    """Return the mix of a window; None if its rows or the earlier rows have no units.

    Args:
        rows: rows of the window.
        known: rows from before, of reference and last windows, with the start of their window.
        reference: rows of the reference that match the last windows' hours; None without any.
        last: rows of the last windows and of this one, of the same hours; None without any.
    """
    mine, before = rows.filter(_GIVEN), known.filter(_GIVEN)
    if mine.height == 0 or before.height == 0:
        return None
    expected = _seen_in_one_window(_by_unit(before)) / before.height
    new = mine.join(before, on="unit_hash", how="anti")
    sizes = (
        new.group_by("unit_hash")
        .agg(pl.len().alias("rows"), pl.col("segment").mode().sort().first())
        .sort("rows", "unit_hash")
    )
    return Mix(
        joined=new.height / rows.height,
        expected=expected * mine.height / rows.height,
        largest=0.0 if sizes.height == 0 else float(sizes["rows"][-1]) / rows.height,
        segment=None if sizes.height == 0 else sizes["segment"][-1],
        left=_left(reference, last),
    )


def _left(reference: pl.DataFrame | None, last: pl.DataFrame | None) -> float:
    if reference is None or last is None or reference.height == 0:
        return 0.0
    reference, last = (rows.with_columns(hour=pl.col("window_start").dt.hour()) for rows in (reference, last))
    large = _by_unit(reference.filter(_GIVEN)).filter(pl.col("rows") >= _LARGE * reference.height)
    seen_last = last.join(large, on="unit_hash").group_by("unit_hash").agg(pl.col("window_start").max().alias("seen"))
    absences = seen_last.join(last.select("window_start", "hour").unique(), how="cross").filter(
        pl.col("window_start") > pl.col("seen")
    )
    of_all, of_unit = (
        reference.group_by(by).agg(pl.col("window_start").n_unique().alias(name))
        for by, name in (("hour", "of_all"), (["unit_hash", "hour"], "windows"))
    )
    left = (
        absences.group_by("unit_hash", "hour")
        .agg(pl.len().alias("looks"))
        .join(of_all, on="hour", how="left")
        .join(of_unit, on=["unit_hash", "hour"], how="left")
        .group_by("unit_hash")
        .agg(pl.col("looks", "of_all", "windows").sum())
        .filter((1.0 - pl.col("windows") / (pl.col("of_all") + 1.0)).pow(pl.col("looks")) <= _CHANCE)
    )
    return float(large.join(left, on="unit_hash", how="semi")["rows"].sum()) / reference.height


def _by_unit(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.group_by("unit_hash").agg(pl.col("window_start").n_unique().alias("windows"), pl.len().alias("rows"))


def _seen_in_one_window(by_unit: pl.DataFrame) -> int:
    """Return the number of rows from units that appear in a single window."""
    return int(by_unit.filter(pl.col("windows") == 1)["rows"].sum())


def mix_reasons(mix: Mix | None) -> tuple[Reason, ...]:
    """Return the notable changes of a mix. No sentence names a unit."""
    if mix is None:
        return ()
    found = []
    if mix.largest >= NOTABLE_SHARE or mix.joined - mix.expected >= NOTABLE_RISE:
        of = f" of segment '{mix.segment}'" if mix.segment else ""
        alone = f"; the largest of them{of} sends {mix.largest:.0%}" if mix.largest >= NOTABLE_SHARE else ""
        found.append(
            Reason(
                kind="mix:joined",
                sentence=(
                    f"{mix.joined:.0%} of the predictions are for units that neither the reference nor the last "
                    f"windows have, chance gives about {mix.expected:.0%}{alone}."
                ),
                statistic=mix.joined,
                threshold=mix.expected,
            )
        )
    if mix.left >= NOTABLE_SHARE:
        found.append(
            Reason(
                kind="mix:left",
                sentence=(
                    f"Units that sent {mix.left:.0%} of the reference's predictions stopped within the last windows."
                ),
                statistic=mix.left,
                threshold=NOTABLE_SHARE,
            )
        )
    return tuple(found)
