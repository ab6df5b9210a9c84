"""Replay of decisions: logged traffic through any version and policy. Nothing is recorded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from absa.errors import PermanentError
from absa.records.lake import Lake
from absa.records.schema import Window
from absa.records.verdict import Verdict
from absa.records.windows import WindowData, load_window
from monitoring.drift.sequential import RightAnswers
from monitoring.labels.habits import with_late_labels
from monitoring.monitor import (
    WatchedVersion,
    WatchSettings,
    evidence_of,
    extended_reference,
    recent_rows,
    to_verdict,
)
from monitoring.staleness import judge_staleness

PairScorer = Callable[[Sequence[tuple[str, str | None]]], npt.NDArray[np.float32]]
"""(text, aspect) pairs to calibrated scores (n, labels)."""


@dataclass(frozen=True, kw_only=True)
class ReplayedSpan:
    """Period to replay, in windows of `window_s` seconds."""

    start: datetime
    end: datetime
    window_s: float

    def windows(self) -> Iterator[Window]:
        """Yield every whole window, the oldest first."""
        length = timedelta(seconds=self.window_s)
        at = self.start
        while at + length <= self.end:
            yield Window(start=at, end=at + length)
            at += length


class ReplayedMonitor:
    """Judge of one version's windows in order, with the monitor's rules. Keeps its state in memory.

    Args:
        lake: holds the log; it is only read.
        version: the version that is judged.
        settings: policy and sizes.
        retrained_at: start of the last retraining, for the cooldown.
    """

    def __init__(
        self, lake: Lake, version: WatchedVersion, settings: WatchSettings, *, retrained_at: datetime | None = None
    ) -> None:
        self._lake, self._version, self._settings = lake, version, settings
        self._retrained_at = retrained_at
        self._reference: pl.DataFrame | None = None
        self._recent: pl.DataFrame | None = None
        self._earlier: list[RightAnswers] = []
        self._new_labels = 0

    def judge(self, data: WindowData, now: datetime) -> Verdict:
        """Return the verdict on a window with the feedback known at a time; `retrain` starts the cooldown."""
        version, settings = self._version, self._settings
        self._new_labels += int(data.rows["feedback_label"].is_not_null().sum())
        reference, recent = with_late_labels(
            self._lake, [self._reference, self._recent], until=now, sources=settings.measuring_sources
        )
        seen = evidence_of(
            data,
            reference,
            champion=version,
            settings=settings,
            now=now,
            new_labels=self._new_labels,
            earlier=self._earlier,
            recent=recent,
        )
        since_s = None if self._retrained_at is None else (now - self._retrained_at).total_seconds()
        evidence = replace(seen.evidence, since_retraining_s=since_s)
        verdict = to_verdict(seen, judge_staleness(evidence, settings.policy), at=now)
        changed = extended_reference(seen, champion=version, settings=settings, verdict=verdict)
        self._reference = reference if changed is None else changed
        self._recent = recent_rows(recent, seen, version, settings)
        answers = RightAnswers.recorded(verdict.by_version.get(version.version))
        if answers is not None:
            self._earlier.append(answers)
        if verdict.action == "retrain":
            self._retrained_at = now
        return verdict


def replay(
    lake: Lake,
    span: ReplayedSpan,
    *,
    version: WatchedVersion,
    settings: WatchSettings,
    scorer: PairScorer | None = None,
    feedback_delay_s: float = 0.0,
) -> Iterator[Verdict]:
    """Judge logged windows in order, with the monitor's rules.

    Only labels count that were known `feedback_delay_s` after a window's end. A verdict with the action `retrain`
    starts the cooldown.

    Args:
        lake: holds the log; it is only read.
        span: windows to judge.
        version: the version that is judged.
        settings: policy and sizes.
        scorer: gives answers in place of the logged ones, so that a version that never served can be judged; None: the
            logged answers of `version` count.
        feedback_delay_s: seconds from a window's end to its judgement.

    Raises:
        PermanentError: a scorer is given and the log's texts are redacted.
    """
    monitor = ReplayedMonitor(lake, version, settings)
    for window in span.windows():
        now = window.end + timedelta(seconds=feedback_delay_s)
        data = load_window(
            lake,
            window,
            trusted_sources=settings.measuring_sources,
            feedback_until=now,
            max_rows=settings.max_rows,
        )
        if scorer is not None:
            data = rescored(data, version.version, scorer)
        yield monitor.judge(data, now)


def rescored(data: WindowData, version: str, scorer: PairScorer) -> WindowData:
    """Return the window as if this version had answered all of it.

    Raises:
        PermanentError: the log's texts are redacted.
    """
    rows = data.rows
    if rows.height == 0:
        return replace(data, by_version={})
    if rows["text"].null_count():
        raise PermanentError(
            "the log's texts are redacted: only the logged answers can be replayed, not other versions"
        )
    scores = scorer(list(zip(rows["text"].to_list(), rows["aspect"].to_list(), strict=True)))
    rows = rows.with_columns(
        pl.Series("label", scores.argmax(axis=1).astype(np.int8)),
        pl.Series("scores", scores.astype(np.float32).tolist(), dtype=rows.schema["scores"]),
        pl.lit(version).alias("model_version"),
    )
    return replace(data, rows=rows, by_version={version: data.total})
