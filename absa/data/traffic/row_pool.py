"""Labelled rows that simulated customers send."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from absa.data.normalise import hold_back_point, side_key


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A labelled row of a pool."""

    text: str
    aspect: str | None
    label: int
    segment: str | None = None


def labelled_rows(frame: pl.DataFrame) -> list[LabelledRow]:
    """Return the labelled rows of a frame with text, aspect, label and segment."""
    columns = frame.drop_nulls("label").select("text", "aspect", "label", "segment")
    return [LabelledRow(text, aspect, int(label), segment) for text, aspect, label, segment in columns.iter_rows()]


def hold_back(frame: pl.DataFrame, share: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split rows by text into rows to ingest and rows to hold back for traffic; near-duplicates stay together.

    A hash of the text decides. It is independent of the sides of a snapshot. Equal data give an equal split.
    """
    held = pl.Series([hold_back_point(text) < share for text in frame["text"].to_list()], dtype=pl.Boolean)
    return frame.filter(~held), frame.filter(held)


def known_texts(frames: Sequence[pl.DataFrame]) -> frozenset[int]:
    """Return the side keys of all texts in some frames, which a stream must not send."""
    return frozenset(side_key(text) for frame in frames for text in frame["text"].unique().to_list())


@dataclass(slots=True)
class RowPool:
    """Rows to draw from, in shuffled order: each row is drawn once before any row is drawn again."""

    rows: Sequence[LabelledRow]
    n_labels: int
    by_segment: dict[str | None, list[LabelledRow]] = field(default_factory=dict)
    served: set[LabelledRow] = field(default_factory=set)
    _by_label: dict[tuple[str | None, int], list[LabelledRow]] = field(default_factory=dict)
    _fresh: dict[tuple[str | None, int], list[LabelledRow]] = field(default_factory=dict)  # not drawn in this round

    def __post_init__(self) -> None:
        for row in self.rows:
            self.by_segment.setdefault(row.segment, []).append(row)
            self._by_label.setdefault((row.segment, row.label), []).append(row)

    def label_shares(self, segment: str | None) -> tuple[float, ...]:
        """Return the natural share of each label in a segment."""
        counts = [len(self._by_label.get((segment, label), ())) for label in range(self.n_labels)]
        return tuple(count / sum(counts) for count in counts)

    def draw(self, random_: random.Random, segment: str | None, shares: Sequence[float]) -> LabelledRow:
        """Return a row of a segment, with a label drawn by the shares; no row repeats before all rows were drawn."""
        weights = [share if (segment, label) in self._by_label else 0.0 for label, share in enumerate(shares)]
        if not sum(weights):
            weights = list(self.label_shares(segment))
        kind = segment, random_.choices(range(self.n_labels), weights)[0]
        waiting = self._fresh.get(kind)
        if not waiting:
            waiting = self._fresh[kind] = random_.sample(self._by_label[kind], len(self._by_label[kind]))
        return waiting.pop()
