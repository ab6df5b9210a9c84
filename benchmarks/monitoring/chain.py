"""The monitor's pure chain over windows in turn: evidence, verdict, reference and recent rows, without a lake."""

from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from absa.records.schema import Window
from absa.records.verdict import Verdict
from absa.records.windows import WindowData
from benchmarks.monitoring.live_traffic import known_at
from monitoring.drift.embedding import Embedder
from monitoring.drift.sequential import RightAnswers
from monitoring.monitor import (
    HISTORY_WINDOWS,
    Observation,
    WatchedVersion,
    WatchSettings,
    evidence_of,
    extended_reference,
    recent_rows,
    to_verdict,
)
from monitoring.staleness import judge_staleness


@dataclass(frozen=True, kw_only=True)
class JudgedWindow:
    """A window's verdict with what it was found from."""

    verdict: Verdict
    seen: Observation

    @property
    def alarms(self) -> bool:
        """True where the verdict is WATCH or STALE."""
        return self.verdict.verdict != "FRESH"

    @property
    def compared(self) -> bool:
        """True where the window was compared with reference rows of its own hours."""
        evidence = self.seen.evidence
        drift = evidence.drift
        return drift is not None and drift.too_small is None and evidence.comparing_from is None

    @property
    def kinds(self) -> list[str]:
        """Kinds of the reasons."""
        return [reason.kind for reason in self.verdict.reasons]


@dataclass
class Chain:
    """State of the monitor between windows: what it keeps in the lake.

    `champion` took the traffic at `champion.champion_since`; `settings` are a deployment's.
    """

    champion: WatchedVersion
    settings: WatchSettings = field(default_factory=WatchSettings)
    embedder: Embedder | None = None
    reference: pl.DataFrame | None = None
    recent: pl.DataFrame | None = None
    earlier: list[RightAnswers] = field(default_factory=list)

    def judge(self, window: Window, rows: pl.DataFrame, *, now: datetime | None = None) -> JudgedWindow:
        """Judge a window and keep what later windows are compared with.

        Args:
            window: which window.
            rows: as `load_window` gives them, with all feedback that will ever come.
            now: the time of judging; feedback after it is not seen. By default the window's end.
        """
        at = now or window.end
        reference, recent = (None if kept is None else known_at(kept, at) for kept in (self.reference, self.recent))
        rows = known_at(rows, at)
        counts = dict(rows.group_by("model_version").len().iter_rows())
        seen = evidence_of(
            WindowData(window=window, rows=rows, total=rows.height, by_version=counts),
            reference,
            champion=self.champion,
            settings=self.settings,
            now=at,
            new_labels=0,
            earlier=self.earlier[-HISTORY_WINDOWS:],
            recent=recent,
            embedder=self.embedder,
        )
        verdict = to_verdict(seen, judge_staleness(seen.evidence, self.settings.policy), at=at)
        grown = extended_reference(seen, champion=self.champion, settings=self.settings, verdict=verdict)
        self.recent = recent_rows(recent, seen, self.champion, self.settings)
        self.reference = self.reference if grown is None else grown
        answers = RightAnswers.recorded(verdict.by_version.get(self.champion.version))
        if answers is not None:
            self.earlier.append(answers)
        return JudgedWindow(verdict=verdict, seen=seen)
