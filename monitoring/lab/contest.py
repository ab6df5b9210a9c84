"""Contest of rhythms over a log: each answers the same windows with versions trained on the labels known by then.

The versions are TF-IDF with logistic regression, a substitute for the transformer, because a contest trains no
transformer. The result shows when retraining pays on this traffic, not the quality of the product's versions. The log's
own answers are ignored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Final, Protocol

import numpy as np
import polars as pl

from absa.data.normalise import hold_back_point
from absa.data.snapshot import manifests, sample_side
from absa.errors import PermanentError
from absa.evaluation.baseline import Baseline, train_baseline
from absa.evaluation.counts import confusion_counts
from absa.records.lake import Lake
from absa.records.layout import PREDICTIONS_FOLDER, prediction_hour
from absa.records.schema import parse_iso
from absa.records.verdict import Verdict
from absa.records.windows import WindowData, load_window
from absa.task import TaskSpec
from monitoring.drift.sample import Floats, sample_of
from monitoring.lab.rhythms import Rhythm, RhythmResult
from monitoring.monitor import WatchedVersion, WatchSettings
from monitoring.performance import Estimate, FrozenTest, loss_between, measure
from monitoring.replay import ReplayedMonitor, ReplayedSpan, rescored

WINDOWS_NEEDED: Final = 10
LABELS_NEEDED: Final = 500
MOST_WINDOWS: Final = 60
_FIRST_LABELS: Final = 200
_MOST_TRAINED: Final = 10_000
_TESTED_SHARE: Final = 0.1
_LOSS_P: Final = 0.05
_TAUGHT: Final = {"text": pl.String, "aspect": pl.String, "label": pl.Int64}
_FEEDBACK: Final = ("feedback_label", "feedback_at", "feedback_source", "sampling_probability")


class WindowJudge(Protocol):
    """Judge of one version's windows."""

    def judge(self, data: WindowData, now: datetime) -> Verdict:
        """Return the verdict on a window with the feedback known at a time."""


JudgeMaker = Callable[[WatchedVersion, datetime | None], WindowJudge]
"""Function from version and start of the last retraining to the judge of the version's windows."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Results of the rhythms over `windows` windows with `labels` labels. `cut`: True if time ran out too early."""

    results: tuple[RhythmResult, ...]
    windows: int
    labels: int
    cut: bool


def logged_span(lake: Lake, window_s: float) -> ReplayedSpan:
    """Return the period of the log in at most 60 windows: see `fitting_span`.

    Raises:
        PermanentError: the log is empty.
    """
    found = [hour for key in lake.list(PREDICTIONS_FOLDER) if (hour := prediction_hour(key)) is not None]
    if not found:
        raise PermanentError("the log holds no predictions: serve traffic and collect feedback first")
    start, end = min(found), max(found) + timedelta(hours=1)
    return fitting_span(start, end, window_s)


def fitting_span(start: datetime, end: datetime, window_s: float) -> ReplayedSpan:
    """Return a span in windows of the given length, or of a multiple of it if there are more than 60."""
    parts = max(1.0, (end - start).total_seconds() / window_s / MOST_WINDOWS)
    return ReplayedSpan(start=start, end=end, window_s=window_s * float(np.ceil(parts)))


def compare_rhythms(
    lake: Lake,
    span: ReplayedSpan,
    rhythms: Sequence[Rhythm],
    settings: WatchSettings,
    *,
    feedback_delay_s: float = 0.0,
    on_window: Callable[[int, int], bool] | None = None,
    judges: JudgeMaker | None = None,
) -> Contest:
    """Replay a log under several rhythms.

    Every rhythm starts with the same version, trained on the newest snapshot from before the log, else on the log's
    first 200 labels. Each window is first answered, then judged and used for training, with the labels received by that
    time. F1 is measured on all labels received until now.

    Args:
        lake: holds log and snapshots; it is only read.
        span: windows to replay.
        rhythms: rhythms to compare, `NO_RETRAINING` first.
        settings: policy, sizes and trusted sources.
        feedback_delay_s: seconds from a window's end until it is judged and may be used for training.
        on_window: called after each window with the number of finished windows and of all; False ends the contest.
        judges: makes the judge of the windows; the monitor by default.

    Raises:
        PermanentError: the log is too short, has too few labels, or its texts are redacted.
    """
    windows = list(span.windows())
    make_judge = judges or (lambda version, at: ReplayedMonitor(lake, version, settings, retrained_at=at))
    learned = _first_rows(lake, span.start)
    labelled: list[pl.DataFrame] = []
    contestants: list[_Contestant] = []
    played = labels = seen = 0
    for window in windows:
        data = load_window(lake, window, trusted_sources=settings.measuring_sources, max_rows=settings.max_rows)
        now = window.end + timedelta(seconds=feedback_delay_s)
        labelled.append(data.rows.filter(pl.col("feedback_label").is_not_null()))
        known = pl.concat([learned, _known_by(labelled, now, settings)])
        if contestants and data.rows.height:
            answers: dict[int, WindowData] = {}
            train = cache(partial(_StandIn.trained, known, settings.task))  # rhythms that train now share one training
            for each in contestants:
                each.learn(train, each.answer(data, answers), now)
            played += 1
            labels += labelled[-1].height
        elif not contestants and known.height >= _FIRST_LABELS:
            first = _StandIn.trained(known, settings.task)
            if first is not None:
                contestants = [_Contestant(each, first, now, make_judge, settings.task) for each in rhythms]
        seen += 1
        if on_window is not None and not on_window(seen, len(windows)):
            break
    if played < WINDOWS_NEEDED or labels < LABELS_NEEDED:
        raise PermanentError(
            f"the log has {played} windows of {span.window_s:g} s with {labels} labels after a first training on "
            f"{_FIRST_LABELS}: expected {WINDOWS_NEEDED} windows and {LABELS_NEEDED} labels; collect more feedback, "
            "or name shorter windows (--window-s)"
        )
    start, tolerated = contestants[0].start(), settings.policy.tolerated_f1_loss
    results = tuple(each.result(start, tolerated) for each in contestants)
    return Contest(results=results, windows=played, labels=labels, cut=seen < len(windows))


def _first_rows(lake: Lake, before: datetime) -> pl.DataFrame:
    """Return rows that were known before the log; none without an older snapshot."""
    older = [each for each in manifests(lake) if parse_iso(each.created_at) <= before]
    if not older:
        return pl.DataFrame(schema=_TAUGHT)
    return _taught(sample_side(lake, older[-1].digest, "train", _MOST_TRAINED))


def _taught(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop_nulls(["text", "label"]).select(
        "text", pl.col("aspect").fill_null(""), pl.col("label").cast(pl.Int64)
    )


def _known_by(labelled: Sequence[pl.DataFrame], now: datetime, settings: WatchSettings) -> pl.DataFrame:
    """Return the rows that had a trusted label at a time."""
    come = pl.col("feedback_at") < now
    if settings.training_sources is not None:
        come &= pl.col("feedback_source").is_in(sorted(settings.training_sources))
    return _taught(pl.concat([rows.filter(come) for rows in labelled]).with_columns(label=pl.col("feedback_label")))


@dataclass(frozen=True)
class _StandIn:
    model: Baseline
    frozen: FrozenTest

    @classmethod
    def trained(cls, rows: pl.DataFrame, task: TaskSpec) -> "_StandIn | None":
        """Train on the newest rows; a tenth of the texts, chosen by hash, is the test. None if rows have no words."""
        rows = rows.tail(_MOST_TRAINED)
        tested = pl.Series([hold_back_point(text) < _TESTED_SHARE for text in rows["text"]], dtype=pl.Boolean)
        model, test = train_baseline(rows.filter(~tested), task), rows.filter(tested)
        if model is None or test.height == 0:
            return None
        predicted = model.score(list(test.select("text", "aspect").iter_rows())).argmax(axis=1)
        counts = confusion_counts(test["label"].to_numpy(), predicted, n_labels=task.n_labels)
        return cls(model, _frozen(counts, task))


def _frozen(counts: Floats, task: TaskSpec) -> FrozenTest:
    return FrozenTest(confusion=tuple(map(tuple, counts.tolist())), evaluated=task.evaluated_numbers)


class _Contestant:
    """Rhythm with its current version, the counts of its answers, and its trainings."""

    def __init__(
        self, rhythm: Rhythm, version: _StandIn, since: datetime, make_judge: JudgeMaker, task: TaskSpec
    ) -> None:
        self._rhythm, self._version, self._since, self._make_judge = rhythm, version, since, make_judge
        self._task = task
        self._number = 1
        self._counts: list[Floats] = []
        self._figures: list[Estimate | None] = []
        self._judge = self._new_judge(None)

    def answer(self, data: WindowData, answers: dict[int, WindowData]) -> WindowData:
        """Answer a window and count the answers. `answers` caches those of versions that several rhythms share."""
        key = id(self._version)
        if key not in answers:
            answers[key] = rescored(data, str(self._number), self._version.model.score)
        sample = sample_of(answers[key].rows, self._task)
        known = np.flatnonzero(sample.truth >= 0)
        self._counts.append(
            confusion_counts(
                sample.truth[known], sample.labels[known], sample.weights[known], n_labels=self._task.n_labels
            )
        )
        self._figures.append(measure(sample))
        return answers[key]

    def learn(self, train: Callable[[], _StandIn | None], answered: WindowData, now: datetime) -> None:
        """Train a new version if the rhythm requires one."""
        if self._rhythm.on_verdicts:
            due = self._judge.judge(_as_known(answered, str(self._number), now), now).action == "retrain"
        else:
            every_s = self._rhythm.every_s
            due = every_s is not None and (now - self._since).total_seconds() >= every_s
        new = train() if due else None
        if new is not None:
            self._version, self._since, self._number = new, now, self._number + 1
            self._judge = self._new_judge(now)

    def _new_judge(self, retrained_at: datetime | None) -> WindowJudge:
        watched = WatchedVersion(
            version=str(self._number),
            frozen_test=self._version.frozen,
            snapshot_at=self._since,
            champion_since=self._since,
        )
        return self._make_judge(watched, retrained_at)

    def start(self) -> Estimate:
        """Return the F1 of the first windows that have 200 labels together."""
        counts = np.cumsum(self._counts, axis=0)
        enough = int(np.argmax(counts.sum(axis=(1, 2)) >= _FIRST_LABELS))
        return _frozen(counts[enough], self._task).estimate()

    def result(self, start: Estimate, tolerated: float) -> RhythmResult:
        """Return the counts, and the number of windows with a proven loss above the tolerated one."""
        losses = [loss_between(start, each, tolerated=tolerated) for each in self._figures if each is not None]
        return RhythmResult(
            rhythm=self._rhythm,
            counts=np.array(self._counts),
            trainings=self._number - 1,
            evaluated=self._task.evaluated_numbers,
            lossy_windows=sum(loss.p_value <= _LOSS_P for loss in losses),
        )


def _as_known(answered: WindowData, version: str, now: datetime) -> WindowData:
    """Return an answered window as rows of `version`, with the feedback received by a time."""
    come = pl.col("feedback_at") < now
    rows = answered.rows.with_columns(
        pl.lit(version).alias("model_version"), *(pl.when(come).then(name).alias(name) for name in _FEEDBACK)
    )
    return replace(answered, rows=rows, by_version={version: answered.total})
