"""Habits of customers: the delays of their labels, and the ratio of reported wrong to reported right answers.

Unsolicited labels are a biased sample. Requested labels are drawn at random, with a known probability, from the answers
that no customer judged. Together they represent every answer (Hansen and Hurwitz 1946, the follow-up of missing
responses). Audits measure the ratio of both report rates, which then corrects windows without an audit.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import sqrt
from typing import Final

import numpy as np
import polars as pl

from absa.records.lake import Lake
from absa.records.tables import FEEDBACK
from absa.records.windows import empty_frame, join_feedback, read_feedback, select_feedback
from absa.task import ABSA, TaskSpec
from monitoring.drift.sample import Bools, Floats, Sample, sample_of
from monitoring.labels.label_delays import MIN_DELAYS, LabelDelays, fit_label_delays

MIN_AUDITED: Final = 20.0
_LEAST_ARRIVED: Final = 0.1  # below it one label would stand for many unknown ones
_LATEST: Final = timedelta(days=28)
_FEEDBACK_COLUMNS: Final = ("feedback_label", "feedback_at", "feedback_source", "sampling_probability")


@dataclass(frozen=True, kw_only=True)
class AnswerHabits:
    """Arrival of labels on right and on wrong answers, and the ratio of the rates at which both are reported.

    `ratio` is None without audits; `log_error` is the standard error of its logarithm, `audited` the number of
    requested labels behind it. `possible_ratio` is the largest ratio that the number of answers allows. `now_s` is the
    time of judging (s since 1970).
    """

    now_s: float = np.nan
    right: LabelDelays | None = None
    wrong: LabelDelays | None = None
    possible_ratio: float = np.inf
    ratio: float | None = None
    log_error: float = 0.0
    audited: int = 0

    def arrived(self, sample: Sample) -> Floats:
        """Return per row (n,) the share of expected labels that has come by its age; 1 if delays are unknown."""
        if self.right is None or self.wrong is None:
            return np.ones(sample.rows)
        ages = self.now_s - sample.times
        return np.where(is_right(sample), self.right.share(ages), self.wrong.share(ages))

    def old_enough(self, sample: Sample) -> Bools:
        """Return the rows (n,) old enough for a tenth of their labels to have come; all rows if those are few."""
        if self.right is None or self.wrong is None:
            return np.ones(sample.rows, dtype=bool)
        ages = self.now_s - sample.times
        old = np.minimum(self.right.share(ages), self.wrong.share(ages)) >= _LEAST_ARRIVED
        return np.asarray(old if old.sum() >= MIN_DELAYS else np.ones(sample.rows, dtype=bool))

    def arrival_error(self, sample: Sample) -> float:
        """Return the standard error of the logarithm of the ratio of both shares, at the sample's ages."""
        if self.right is None or self.wrong is None or sample.rows == 0:
            return 0.0
        ages = self.now_s - sample.times
        right, wrong = self.right.log_error(ages).mean(), self.wrong.log_error(ages).mean()
        return float(sqrt(right**2 + wrong**2))

    @property
    def horizon_s(self) -> float | None:
        """Longest delay that could be observed (s); None if arrivals are unknown."""
        return None if self.right is None or self.wrong is None else max(self.right.horizon_s, self.wrong.horizon_s)


AS_ANSWERED: Final = AnswerHabits()


def is_right(sample: Sample) -> Bools:
    """Return a mask (n,) of rows whose answer equals the label; unlabelled rows count as wrong."""
    return np.asarray(sample.labels == sample.truth)


def unsolicited(sample: Sample) -> Bools:
    """Return a mask (n,) of rows with an unsolicited label."""
    return np.asarray((sample.truth >= 0) & ~sample.asked)


def requested(sample: Sample) -> Bools:
    """Return a mask (n,) of rows with a requested label."""
    return np.asarray((sample.truth >= 0) & sample.asked)


def effective_rows(weights: Floats) -> float:
    """Return the number of equally weighted rows that are as informative (Kish 1965); 0 without rows."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


def habits_of(kept: Sequence[pl.DataFrame | None], now: datetime, task: TaskSpec = ABSA) -> AnswerHabits:
    """Return the habits that rows of one version show; a row in several frames counts once."""
    frames = [rows for rows in kept if rows is not None and rows.height]
    if not frames:
        return AS_ANSWERED
    once = pl.concat(frames, how="diagonal_relaxed").unique("request_id", keep="last", maintain_order=True)
    return habits_seen(sample_of(once, task), now.timestamp())


def habits_seen(sample: Sample, now_s: float) -> AnswerHabits:
    """Return the habits that labelled rows of several windows show.

    Args:
        sample: rows of one version, of any age.
        now_s: time until which their feedback is known (s since 1970).
    """
    answered, right, ages = unsolicited(sample), is_right(sample), now_s - sample.times
    arrivals = [fit_label_delays(sample.delays[kind], ages[kind]) for kind in (answered & right, answered & ~right)]
    if None in arrivals:  # too few of one kind: both get the same delays
        arrivals = [fit_label_delays(sample.delays[answered], ages[answered])] * 2
    known = AnswerHabits(now_s=now_s, right=arrivals[0], wrong=arrivals[1])
    known = replace(known, possible_ratio=_possible_ratio(sample, known))
    audited = np.flatnonzero(requested(sample))
    ratio = _reporting_ratio(sample, known, answered & right, answered & ~right, audited)
    if ratio is None:
        return known
    return replace(known, ratio=ratio[0], log_error=ratio[1], audited=len(audited))


def _reporting_ratio(
    sample: Sample, known: AnswerHabits, right: Bools, wrong: Bools, audited: np.ndarray
) -> tuple[float, float] | None:
    """Return the ratio of the report rates of wrong and right answers, and the standard error of its logarithm.

    None if there are too few audited rows, or if no right or no wrong answer was reported.
    """
    weights = sample.weights[audited]
    effective = effective_rows(weights)
    if effective < MIN_AUDITED or not right.any() or not wrong.any():
        return None
    silent = sample.rows - int(right.sum()) - int(wrong.sum())
    share = (float(weights[is_right(sample)[audited]].sum() / weights.sum()) * effective + 0.5) / (effective + 1.0)
    all_right, all_wrong = right.sum() + silent * share, wrong.sum() + silent * (1.0 - share)
    expected = 1.0 / known.arrived(sample)
    reported = (expected[wrong].sum() / all_wrong) / (expected[right].sum() / all_right)
    # answers of one unit are alike, so its labels count as fewer independent ones
    alone = 1.0 / len(np.unique(sample.groups[right])) + 1.0 / len(np.unique(sample.groups[wrong]))
    units = len(np.unique(sample.groups[audited])) / len(audited)
    drawn = share * (1.0 - share) / (effective * units) * (silent / all_right + silent / all_wrong) ** 2
    return float(reported), float(sqrt(alone + drawn))


def _possible_ratio(sample: Sample, known: AnswerHabits) -> float:
    """Return the largest reporting ratio that is possible; infinite if no right answer was judged.

    The ratio is largest if every wrong answer was reported: all other answers are then right.
    """
    answered, right = unsolicited(sample), is_right(sample)
    expected = 1.0 / known.arrived(sample)
    rights, wrongs = expected[answered & right].sum(), expected[answered & ~right].sum()
    return float(max(1.0, (sample.rows - wrongs) / rights)) if rights else np.inf


def with_late_labels(
    lake: Lake, kept: Sequence[pl.DataFrame | None], *, until: datetime, sources: Collection[str] | None = None
) -> list[pl.DataFrame | None]:
    """Return kept rows with the feedback that has come since they were kept.

    Args:
        lake: holds the feedback.
        kept: frames in the shape of `WindowData.rows`; rows older than 28 days stay as they are.
        until: feedback received at or after this is left out.
        sources: feedback sources that count; None: every source.
    """
    young = [rows.filter(pl.col("at") >= until - _LATEST) for rows in kept if rows is not None]
    wanted = pl.concat([rows.select("request_id", "at") for rows in young]) if young else pl.DataFrame()
    if wanted.height == 0:
        return list(kept)
    start = wanted["at"].min()
    assert isinstance(start, datetime)
    said = select_feedback(read_feedback(lake, start, until, sources), wanted)
    feedback = pl.concat([empty_frame(FEEDBACK), *said])
    known = feedback["request_id"].unique()

    def joined(rows: pl.DataFrame | None) -> pl.DataFrame | None:
        if rows is None:
            return None
        new = pl.col("request_id").is_in(known.implode())
        renewed = join_feedback(rows.filter(new).drop(_FEEDBACK_COLUMNS), feedback).select(rows.columns)
        return pl.concat([rows.filter(~new), renewed], how="vertical_relaxed").sort("at", "request_id")

    return [joined(rows) for rows in kept]


def late_share(sample: Sample, habits: AnswerHabits) -> float | None:
    """Return the share of a sample's expected labels that has come; None if arrivals are unknown."""
    answered = unsolicited(sample)
    if habits.horizon_s is None or not answered.any():
        return None
    return float(answered.sum() / (1.0 / habits.arrived(sample))[answered].sum())
