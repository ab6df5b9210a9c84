"""Rows of a window as arrays of equal length, for the detectors."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from absa.task import ABSA, TaskSpec

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Sample of n predictions.

    `texts` and `aspects` are None if the log is redacted; drift of texts is then not tested. `labels` (n,) are
    predicted, `scores` (n, labels of `task`) are calibrated. `truth` (n,) is the last feedback or -1, `weights` (n,)
    its inverse sampling probability (1 if unsolicited), and `asked` (n,) is True if it was requested. `times` (n,) are
    the times of the requests (s since 1970), `delays` (n,) the times from request to feedback (s); NaN if unknown.

    Rows of one `group` (a unit, or a text if no unit was given) depend on each other, so tests count them as one piece
    of evidence. A group of 0 or more is the same group in every sample; a negative one is a group of this sample alone.
    `embeddings` (n, d) are computed by the model, NaN for a row without one; None without a model.
    """

    labels: Ints
    scores: Floats
    truth: Ints
    weights: Floats
    asked: Bools
    groups: Ints
    texts: tuple[str, ...] | None
    aspects: tuple[str, ...] | None
    segments: tuple[str, ...]
    times: Floats
    delays: Floats
    embeddings: npt.NDArray[np.float32] | None = None
    task: TaskSpec = ABSA

    @property
    def rows(self) -> int:
        """Number of predictions."""
        return len(self.labels)

    @property
    def labelled(self) -> int:
        """Number of predictions with feedback."""
        return int((self.truth >= 0).sum())

    def take(self, index: Ints) -> "Sample":
        """Return the rows at these positions."""
        return Sample(**{name: _picked(value, index) for name, value in vars(self).items()})


def _picked(column: Any, index: Ints) -> Any:
    if isinstance(column, tuple):
        return tuple(column[i] for i in index)
    return column[index] if isinstance(column, np.ndarray) else column


def make_sample(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    *,
    truth: npt.ArrayLike | None = None,
    weights: npt.ArrayLike | None = None,
    asked: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    texts: tuple[str, ...] | None = None,
    aspects: tuple[str, ...] | None = None,
    segments: tuple[str, ...] | None = None,
    times: npt.ArrayLike | None = None,
    delays: npt.ArrayLike | None = None,
    embeddings: npt.NDArray[np.float32] | None = None,
    task: TaskSpec = ABSA,
) -> Sample:
    """Return a sample of the given arrays; by default nothing is labelled and every row is a group of its own."""
    predicted = np.asarray(labels, dtype=np.int64)
    n = len(predicted)
    return Sample(
        labels=predicted,
        scores=np.asarray(scores, dtype=np.float64).reshape(n, task.n_labels),
        truth=np.full(n, -1, dtype=np.int64) if truth is None else np.asarray(truth, dtype=np.int64),
        weights=np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64),
        asked=np.zeros(n, dtype=bool) if asked is None else np.asarray(asked, dtype=bool),
        groups=-1 - np.arange(n, dtype=np.int64) if groups is None else np.asarray(groups, dtype=np.int64),
        texts=texts,
        aspects=aspects,
        segments=("",) * n if segments is None else segments,
        times=np.full(n, np.nan) if times is None else np.asarray(times, dtype=np.float64),
        delays=np.full(n, np.nan) if delays is None else np.asarray(delays, dtype=np.float64),
        embeddings=embeddings,
        task=task,
    )


def sample_of(rows: pl.DataFrame, task: TaskSpec = ABSA) -> Sample:
    """Return the sample of a window's frame (see `windows.load_window`); a frame without rows gives an empty sample.

    Rows without an answer are left out. A version that knows fewer labels than the task gives the others no score.
    """
    rows = rows.filter(pl.col("label").is_not_null() & pl.col("scores").is_not_null())
    n = rows.height
    redacted = n > 0 and rows["text"].null_count() == n
    texts = None if redacted else tuple(rows["text"].fill_null("").to_list())
    aspects = None if redacted else tuple(rows["aspect"].fill_null("").to_list())
    unit = rows.select(
        pl.when(pl.col("unit_given").fill_null(value=False))
        .then(pl.lit("u:") + pl.col("unit_hash").fill_null(""))
        .otherwise(pl.lit("t:") + pl.col("text").fill_null(pl.col("request_id")))
        .hash(seed=0)
    ).to_series()
    probability = rows["sampling_probability"].fill_null(1.0).to_numpy().astype(np.float64)
    return make_sample(
        rows["label"].to_numpy(),
        np.nan_to_num(scores_of(rows["scores"], task.n_labels), nan=1.0 / task.n_labels),
        truth=rows["feedback_label"].fill_null(-1).to_numpy(),
        weights=1.0 / np.clip(probability, 1e-6, 1.0),
        asked=rows["sampling_probability"].is_not_null().to_numpy(),
        groups=(unit.to_numpy() >> 1).astype(np.int64),
        texts=texts,
        aspects=aspects,
        segments=tuple(rows["segment"].fill_null("").to_list()),
        times=_seconds(rows["at"]),
        delays=_seconds(rows["feedback_at"]) - _seconds(rows["at"]),
        task=task,
    )


def scores_of(scores: pl.Series, n_labels: int) -> Floats:
    """Return lists of scores as (n, n_labels); labels beyond a list's length have the score 0."""
    known = [scores.list.get(k, null_on_oob=True).cast(pl.Float64) for k in range(n_labels)]
    columns = [column.fill_null(0.0).to_numpy() for column in known]
    return np.stack(columns, axis=1) if len(scores) else np.zeros((0, n_labels))


def _seconds(times: pl.Series) -> Floats:
    return times.dt.epoch("us").cast(pl.Float64).fill_null(np.nan).to_numpy() / 1e6


def concat_samples(first: Sample, second: Sample) -> Sample:
    """Return the rows of both samples in order; negative groups of different samples stay different."""
    beyond = min(0, int(first.groups.min())) if first.rows else 0
    apart = replace(second, groups=np.where(second.groups < 0, second.groups + beyond, second.groups))
    return Sample(**{name: _joined(value, getattr(apart, name)) for name, value in vars(first).items()})


def _joined(first: Any, second: Any) -> Any:
    if first is None or second is None:
        return None
    if isinstance(first, TaskSpec):
        return first
    return first + second if isinstance(first, tuple) else np.concatenate([first, second])
