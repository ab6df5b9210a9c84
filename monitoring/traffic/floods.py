"""Floods: near-identical texts that make up an unusual share of a window, from one unit or from many. Pure.

Texts that share nearly all words fall into one bucket of a locality-sensitive hash with a known chance (MinHash, Broder
1997): the smallest hashes of a text's words are those of the shared words. A bucket is a flood if it is large, much
larger than the buckets of other repeated texts, and was not usual before. The cost is linear in rows.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from absa.data.key_columns import key_column
from absa.records.verdict import Reason
from absa.records.windows import UNIT, smallest
from monitoring.drift.sample import Ints

MIN_FLOOD_ROWS: Final = 30
MIN_FLOOD_SHARE: Final = 0.02
_TIMES_USUAL: Final = 5.0
_OTHERS: Final = 20  # a flood is compared with the bucket of this rank: up to 20 floods at once are found
_BANDS: Final = 4
_HASHES: Final = 4  # a bucket holds half of a flood whose texts share 10 of 12 words, and hardly any other text
_LOOKED_AT: Final = 20  # number of buckets of a band that are examined
_SAMPLE: Final = 500  # texts of a bucket that show its shared words
_SAMPLED_BEFORE: Final = 20_000
_NEARLY_ALL: Final = 0.8
_ALIKE: Final = 0.75
_KNOWN: Final = 0.5
_NAMED: Final = 3


@dataclass(frozen=True, kw_only=True)
class FoundFlood:
    """Near-identical texts: their number of `rows`, `share` of the rows that were read, and number of `units`."""

    rows: int
    share: float
    units: int


@dataclass(frozen=True, kw_only=True)
class Floods:
    """Floods of a window, the largest first, and the positions (k,) of their rows."""

    found: tuple[FoundFlood, ...] = ()
    positions: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def removed_from(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the window's rows without those of the floods."""
        return (
            rows
            if not self.found
            else rows.with_row_index("place").remove(pl.col("place").is_in(self.positions)).drop("place")
        )


def find_floods(rows: pl.DataFrame, usual: pl.DataFrame | None) -> Floods:
    """Return the floods among a window's rows.

    Args:
        rows: rows of one version in the window; without texts there are no floods.
        usual: rows from before the window; texts that repeated as much there are not a flood. None: no such rows.
    """
    least = max(MIN_FLOOD_ROWS, int(np.ceil(MIN_FLOOD_SHARE * rows.height)))
    if rows.height < least or rows["text"].null_count() == rows.height:
        return Floods()
    words = _words(rows["text"].fill_null(""))
    before: pl.Series | None = None
    flood_of = np.full(rows.height, -1, dtype=np.int64)
    for band in range(_BANDS):
        buckets = _buckets(words, band)
        sizes = buckets.value_counts(sort=True, name="rows")
        common = int(sizes["rows"][_OTHERS]) if sizes.height > _OTHERS else 0
        large = sizes.filter((pl.col("rows") >= least / 3) & (pl.col("rows") >= _TIMES_USUAL * common)).head(_LOOKED_AT)
        for bucket in large["bucket"]:
            members = (buckets == bucket).arg_true()
            core = _core(words.gather(members.head(_SAMPLE)))
            alike = np.flatnonzero(_near(words, core))
            if len(alike) < least or (flood_of[alike] >= 0).mean() > _KNOWN:
                continue
            if before is None:
                before = _words(_texts_of(usual))
            if len(alike) >= _TIMES_USUAL * rows.height * (float(_near(before, core).mean()) if len(before) else 0.0):
                flood_of[alike[flood_of[alike] < 0]] = flood_of.max() + 1
    return _account(rows, flood_of)


def flood_reasons(floods: Floods, *, excluded: bool, total: int, read: int) -> tuple[Reason, ...]:
    """Return a reason for each of the largest floods; `total` predictions were served, `read` of them were read."""
    after = "left out of tests, estimates and the reference" if excluded else "judged with the rest"
    return tuple(
        Reason(
            kind="flood",
            sentence=(
                f"{round(flood.rows * total / max(read, 1))} of {total} predictions ({flood.share:.0%}) have nearly "
                f"the same text, from {flood.units} {'unit' if flood.units == 1 else 'units'}; they are {after}."
            ),
            statistic=flood.share,
            threshold=MIN_FLOOD_SHARE,
        )
        for flood in floods.found[:_NAMED]
    )


def _words(texts: pl.Series) -> pl.Series:
    return key_column(texts).str.split(" ").list.unique()


def _buckets(words: pl.Series, band: int) -> pl.Series:
    """Return the bucket of each text in a band: a hash of the smallest hashes of its words."""
    smallest = {str(k): words.list.eval(pl.element().hash(seed=band * _HASHES + k)).list.min() for k in range(_HASHES)}
    return pl.DataFrame(smallest).hash_rows(seed=0).alias("bucket")


def _core(words: pl.Series) -> pl.Series:
    """Return the words that nearly all of some texts share."""
    counts = words.list.explode().value_counts(name="texts")
    return counts.filter(pl.col("texts") >= _NEARLY_ALL * len(words))[words.name]


def _near(words: pl.Series, core: pl.Series) -> npt.NDArray[np.bool_]:
    """Return a mask (n,) of texts that share three quarters of their words, and of the core's words, with the core."""
    shared = words.list.set_intersection(core.to_list()).list.len().to_numpy()
    return np.asarray(shared >= _ALIKE * np.maximum(words.list.len().to_numpy(), max(len(core), 1)))


def _texts_of(usual: pl.DataFrame | None) -> pl.Series:
    return pl.Series([], dtype=pl.String) if usual is None else smallest(usual, _SAMPLED_BEFORE)["text"].drop_nulls()


def _account(rows: pl.DataFrame, flood_of: Ints) -> Floods:
    positions = np.flatnonzero(flood_of >= 0)
    if len(positions) == 0:
        return Floods()
    units = rows.select(UNIT.alias("unit"))["unit"].gather(positions)
    counted = (
        pl.DataFrame({"flood": flood_of[positions], "unit": units})
        .group_by("flood")
        .agg(pl.len().alias("rows"), pl.col("unit").n_unique().alias("units"))
        .sort("rows", "flood", descending=[True, False])
    )
    found = tuple(
        FoundFlood(rows=size, share=size / rows.height, units=senders)
        for size, senders in counted.select("rows", "units").iter_rows()
    )
    return Floods(found=found, positions=positions)
