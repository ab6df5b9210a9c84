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
from monitoring.monitor import (
    WatchedVersion,
    WatchSettings,
    evidence_of,
    extended_reference,
    recent_rows,
    to_verdict,
)
from monitoring.staleness import judge_staleness

PairScorer = Callable[[Sequence[tuple[str, str]]], npt.NDArray[np.float32]]
"""(text, aspect) pairs to calibrated scores (n, 3)."""


@dataclass(frozen=True, kw_only=True)
class ReplayedSpan:
    """From when to when, in windows of which length (s)."""

    start: datetime
    end: datetime
    window_s: float

    def windows(self) -> Iterator[Window]:
        """Every whole window, the first one first."""
        length = timedelta(seconds=self.window_s)
        at = self.start
        while at + length <= self.end:
            yield Window(start=at, end=at + length)
            at += length


def replay(
    lake: Lake,
    span: ReplayedSpan,
    *,
    version: WatchedVersion,
    settings: WatchSettings,
    scorer: PairScorer | None = None,
    feedback_delay_s: float = 0.0,
) -> Iterator[Verdict]:
    """Judge logged windows one after another as the monitor would have.

    Labels count as they were known `feedback_delay_s` after each window's end. A verdict that asks for retraining
    starts the cooldown, so later verdicts say what they would have said.

    Args:
        lake: where the log lies; it is only read.
        span: which windows.
        version: what is judged.
        settings: policy and sizes.
        scorer: answers in place of the logged ones, so that a version that never served is judged on the same traffic;
            None keeps the logged answers of `version`.
        feedback_delay_s: see above.

    Raises:
        PermanentError: a scorer is given and the log's texts are redacted.
    """
    reference: pl.DataFrame | None = None
    retrained_at: datetime | None = None
    new_labels = 0
    earlier: list[RightAnswers] = []
    recent: pl.DataFrame | None = None
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
            data = _rescored(data, version.version, scorer)
        new_labels += int(data.rows["feedback_label"].is_not_null().sum())
        seen = evidence_of(
            data,
            reference,
            champion=version,
            settings=settings,
            now=now,
            new_labels=new_labels,
            earlier=earlier,
            recent=recent,
        )
        since_s = None if retrained_at is None else (now - retrained_at).total_seconds()
        evidence = replace(seen.evidence, since_retraining_s=since_s)
        verdict = to_verdict(seen, judge_staleness(evidence, settings.policy), at=now)
        grown = extended_reference(seen, champion=version, settings=settings, verdict=verdict)
        reference = reference if grown is None else grown
        recent = recent_rows(recent, seen, version, settings)
        figures = verdict.by_version.get(version.version)
        answers = RightAnswers.recorded(figures)
        if answers is not None:
            earlier.append(answers)
        if verdict.action == "retrain":
            retrained_at = now
        yield verdict


def _rescored(data: WindowData, version: str, scorer: PairScorer) -> WindowData:
    """Return the window as if this version had answered all of it."""
    rows = data.rows
    if rows.height == 0:
        return replace(data, by_version={})
    if rows["text"].null_count() or rows["aspect"].null_count():
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
