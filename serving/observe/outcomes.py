"""Outcomes of items by version and arm, counted for guardrails and metrics.

An item is `ok` if its version scored it, even if its request failed because of another item, because the counts are
used to judge versions.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from absa.records.log_lines import json_line
from absa.records.rows import LATENCY_BOUNDS_MS, OutcomeCount

_MINUTE_US: Final = 60_000_000

Outcome = Literal["ok", "error", "shed", "timeout"]
OUTCOME_NAMES: Final[tuple[Outcome, ...]] = ("ok", "error", "shed", "timeout")
_INDEX: Final = {outcome: index for index, outcome in enumerate(OUTCOME_NAMES)}


@dataclass(slots=True)
class Cell:
    """Counts of one version and arm. `histogram` has one count per bound, and one for longer latencies."""

    counts: list[int] = field(default_factory=lambda: [0] * len(OUTCOME_NAMES))
    histogram: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))
    latency_sum_ms: float = 0.0


class OutcomeCounts:
    """Counts since the start of the process, and counts that are not logged yet. Not safe for several threads."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str], Cell] = {}
        self._pending: dict[tuple[int, str, str], Cell] = {}

    def add(self, at_us: int, version: str, arm: str, outcome: Outcome, latency_ms: float | None = None) -> None:
        """Count one item. Only an answered item has a latency and is in the histogram."""
        index = _INDEX[outcome]
        minute = at_us - at_us % _MINUTE_US
        total = self._totals.get((version, arm))
        if total is None:
            total = self._totals.setdefault((version, arm), Cell())
        pending = self._pending.get((minute, version, arm))
        if pending is None:
            pending = self._pending.setdefault((minute, version, arm), Cell())
        total.counts[index] += 1
        pending.counts[index] += 1
        if latency_ms is not None:
            place = bisect_left(LATENCY_BOUNDS_MS, latency_ms)
            total.histogram[place] += 1
            pending.histogram[place] += 1
            total.latency_sum_ms += latency_ms

    def take(self) -> list[tuple[int, bytes, int]]:
        """Return the counts since the last call, as (minute in microseconds since 1970, log lines, rows)."""
        lines: dict[int, list[bytes]] = {}
        for (minute, version, arm), cell in self._pending.items():
            ok, error, shed, timeout = cell.counts
            row = OutcomeCount(minute, version, arm, ok, error, shed, timeout, cell.histogram)
            lines.setdefault(minute, []).append(json_line(row))
        self._pending.clear()
        return [(minute, b"".join(each), len(each)) for minute, each in sorted(lines.items())]

    def totals(self) -> list[list[Any]]:
        """Return rows of version, arm, the four counts, the latency sum in ms and the histogram."""
        return [
            [version, arm, *cell.counts, cell.latency_sum_ms, cell.histogram]
            for (version, arm), cell in self._totals.items()
        ]
