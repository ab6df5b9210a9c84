"""Label queue: the rows that are worth a label, each with its sampling probability.

One draw serves audit and learning: every row without feedback has the audit's chance, and hard rows have a larger one.
Hard rows are uncertain, deferred (not certain under the promise), or answered differently by a shadow. The chance of
each row is known and never zero, so the F1 weighted by its inverse is unbiased (Horvitz and Thompson 1952), however
hard the chosen rows are.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from absa.errors import PermanentError
from absa.records.lake import Lake
from absa.records.schema import Window
from absa.records.windows import load_window, read_predictions
from absa.sinks import write_csv
from absa.task import ABSA, TaskSpec
from monitoring.drift.sample import scores_of

_COLUMNS: Final = ("request_id", "text", "aspect", "why", "predicted", "confidence", "sampling_probability", "label")


def queue_columns(task: TaskSpec = ABSA) -> tuple[str, ...]:
    """Return the columns of a task's queue: an aspect or topic, or neither in plain text."""
    return tuple(task.shown_columns(_COLUMNS).values())


def ask_labels(
    lake: Lake,
    window: Window,
    *,
    count: int,
    audit_share: float = 0.3,
    seed: int = 0,
    version: str | None = None,
    trusted_sources: Collection[str] | None = None,
    task: TaskSpec = ABSA,
) -> pl.DataFrame:
    """Return about `count` rows of a window that are worth a label.

    Rows that were requested before take part in the draw and are not requested again. All draws use the same random
    number per row, so all rows requested so far are one larger draw, and `sampling_probability` is the chance in it.
    Rows requested before keep their smaller chance, so they count for somewhat more than the new ones.

    Args:
        lake: holds the predictions.
        window: event time.
        count: number of rows to request; rows are drawn independently, so the result has about this number.
        audit_share: share of these rows that is drawn at random (0 to 1).
        seed: seed of the draw; an equal seed draws equal rows.
        version: only this version's answers.
        trusted_sources: feedback sources that may measure; rows labelled by other sources are drawn. None: all.
        task: task of the lake; decides whether rows have an aspect or a topic.

    Returns:
        The columns of `queue_columns`, `label` empty, the hardest first. `why` is audit, uncertain,
        disagreement or deferred.

    Raises:
        PermanentError: the log's texts are redacted.
    """
    rows = load_window(lake, window, trusted_sources=trusted_sources).rows
    rows = rows.filter(pl.col("feedback_label").is_null() | pl.col("sampling_probability").is_not_null())
    if version is not None:
        rows = rows.filter(pl.col("model_version") == version)
    if rows.height and rows["text"].null_count() == rows.height:
        raise PermanentError("the log's texts are redacted: there is no text to label")
    rows = rows.filter(pl.col("text").is_not_null() & pl.col("scores").is_not_null())
    if rows.height == 0:
        return pl.DataFrame(schema=dict.fromkeys(queue_columns(task), pl.String))
    scores = np.sort(scores_of(rows["scores"], int(rows["scores"].list.len().to_numpy().max())), axis=1)
    hardness = 1.0 - (scores[:, -1] - scores[:, -2])
    both = rows.select("request_id", "label").join(_shadow_labels(lake, window), on="request_id")
    differing = both.filter(pl.col("label") != pl.col("shadow_label"))["request_id"]
    differs = rows["request_id"].is_in(differing.implode()).to_numpy()
    deferred = (rows["certain"] == False).fill_null(value=False).to_numpy()  # noqa: E712  a column, null without promise
    hardness = np.where(differs | deferred, 1.0, hardness)
    luck = np.array([_luck(request, seed) for request in rows["request_id"]])
    asked = rows["feedback_label"].is_not_null().to_numpy()
    base, chance = _draw(hardness, luck, asked, count, audit_share)
    why = np.where(luck < base, "audit", np.where(differs, "disagreement", np.where(deferred, "deferred", "uncertain")))
    return (
        rows.select(
            "request_id",
            "text",
            *([] if task.phrase is None else [pl.col("aspect").alias(task.phrase)]),
            pl.Series("why", why.tolist()),
            pl.col("label").alias("predicted"),
            pl.Series("confidence", scores[:, -1]),
            pl.Series("sampling_probability", chance),
            pl.lit(None, pl.Int8).alias("label"),
        )
        .filter(pl.Series(~asked & (luck < chance)))
        .sort("sampling_probability", "request_id", descending=[True, False])
    )


def _draw(
    hardness: np.ndarray, luck: np.ndarray, asked: np.ndarray, count: int, audit_share: float
) -> tuple[float, np.ndarray]:
    """Return the audit's chance and each row's, for about `count` new rows."""
    goal = count + int(asked.sum())
    while True:
        base = min(1.0, audit_share * goal / len(hardness))
        chance = _chances(hardness, base, goal)
        drawn_again = int((asked & (luck < chance)).sum())
        if count + drawn_again >= goal:
            return base, chance
        goal = count + drawn_again


def _chances(hardness: np.ndarray, base: float, count: int) -> np.ndarray:
    """Return min(1, base + c * hardness) with c such that the sum is `count`, or all rows if there are fewer."""
    low, high = 0.0, 1.0
    goal = min(float(count), float(len(hardness)))
    while high < 1e9 and np.minimum(1.0, base + high * hardness).sum() < goal:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2.0
        if np.minimum(1.0, base + middle * hardness).sum() < goal:
            low = middle
        else:
            high = middle
    return np.asarray(np.minimum(1.0, base + high * hardness))


def _luck(request: str, seed: int) -> float:
    """Return a row's draw in [0, 1), by hash: exporting again requests the same rows."""
    digest = hashlib.sha256(f"{seed}:{request}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _shadow_labels(lake: Lake, window: Window) -> pl.DataFrame:
    """Return the answers of every shadow, so that all disagreements with a shadow have the same chance."""
    parts = [pl.DataFrame(schema={"request_id": pl.String, "shadow_label": pl.Int8})]
    for part in read_predictions(lake, window, pl.col("shadow")):
        parts.append(part.select("request_id", pl.col("label").alias("shadow_label")))
    return pl.concat(parts).unique()


def write_queue(rows: pl.DataFrame, path: Path) -> None:
    """Write the queue as a CSV file for spreadsheets; labels go into its last column, as a number or a name."""
    write_csv(path, rows.columns, rows.iter_rows())
