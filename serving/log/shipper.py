"""Shipper: writes the spool to the lake exactly once.

The keys in the lake are made from the name of a claim, so a repetition writes the same keys.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from absa.errors import EvergreenError
from absa.records.lake import Lake
from absa.records.log_lines import LOG_FORMAT, read_log
from absa.records.rows import Feedback, OutcomeCount, Prediction
from absa.records.tables import write_parquet
from serving.log.log_records import LogPart, feedback_parts, outcome_parts, prediction_parts
from serving.log.spool import FEEDBACK_LOG, OUTCOME_LOG, PREDICTION_LOG, SpoolReader

_log = logging.getLogger("evergreen.shipper")
_STREAMS: Final[dict[str, tuple[Any, Callable[[list[Any], str, str], list[LogPart]]]]] = {
    PREDICTION_LOG: (Prediction, prediction_parts),
    FEEDBACK_LOG: (Feedback, feedback_parts),
    OUTCOME_LOG: (OutcomeCount, outcome_parts),
}
_WRONG_VALUES: Final = (TypeError, ValueError, OverflowError)  # Arrow's errors are among them


@dataclass(slots=True)
class ShipCounts:
    """Counts of shipped rows since the process started."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_STREAMS, 0))
    unreadable: int = 0
    kept_aside: int = 0
    failures: int = 0
    last_error: str | None = None


class Shipper:
    """Ships the logs of the workers.

    Args:
        lake: receives the files.
        spool: the spool's folder.
        replica: name of this replica, in file names and rows.
    """

    def __init__(self, lake: Lake, spool: Path, replica: str) -> None:
        self._lake, self._replica = lake, replica
        self._spool = SpoolReader(spool)
        self.counts = ShipCounts()
        self._spool.sweep()
        self._spool.take_back()

    def ship(self, *, everything: bool = False) -> bool:
        """Recover, claim and ship segments. Segments that the lake does not accept stay for the next call.

        Args:
            everything: also ship the counts of the current minute (when the replica stops).

        Returns:
            True if every claimed segment is in the lake.
        """
        try:
            self._spool.recover()
            self._spool.claim(self._replica, everything=everything)
            for stream, name, folder in self._spool.claims():
                self._ship_claim(stream, name, folder)
        except (EvergreenError, OSError) as error:
            self.counts.failures += 1
            sentence = str(error) if isinstance(error, EvergreenError) else f"{type(error).__name__}: {error.strerror}"
            if sentence != self.counts.last_error:
                _log.warning("the log cannot be shipped; it stays on the local disk until the next try: %s", sentence)
            self.counts.last_error = sentence
            return False
        self.counts.last_error = None
        return True

    def _ship_claim(self, stream: str, name: str, folder: Path) -> None:
        kind, parts_of = _STREAMS[stream]
        rows: list[Any] = []
        unreadable = 0
        for segment in self._spool.segments(folder):
            lines = read_log(segment.read_bytes(), kind)
            if lines.newer:
                self._spool.keep_aside(segment)
                self.counts.kept_aside += 1
                _log.error(
                    "log segment %s: expected format %d or older, got %d of a newer release; it is kept and "
                    "shipped when that release runs here again",
                    segment.name, LOG_FORMAT, lines.newer,
                )  # fmt: skip
                continue
            rows += lines.rows
            unreadable += lines.unreadable
        try:
            parts = parts_of(rows, name, self._replica)
        except _WRONG_VALUES:  # a damaged line must not block the rest of the claim
            kept = [row for row in rows if self._fits(row, parts_of)]
            unreadable += len(rows) - len(kept)
            parts = parts_of(kept, name, self._replica)
        for part in parts:
            write_parquet(self._lake, part.key, part.table)
            self.counts.rows[stream] += part.table.num_rows
        self._spool.discard(folder)
        self.counts.unreadable += unreadable
        if unreadable:
            _log.error("%d lines of claim %s could not be read and were left out", unreadable, name)

    def _fits(self, row: Any, parts_of: Callable[[list[Any], str, str], list[LogPart]]) -> bool:
        try:
            parts_of([row], "", self._replica)
        except _WRONG_VALUES:
            return False
        return True

    def lag_s(self) -> float:
        """Return the age of the oldest closed segment that is not in the lake, in seconds."""
        return self._spool.oldest_s()
