"""Scoring of one partition: bad rows are set aside, equal pairs are scored once, answers are added as columns."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa

from absa.batch.reader import PartitionRows
from absa.data.files import MAX_TEXT_CHARACTERS
from absa.inference.aspect_span import has_aspect
from absa.task import ABSA, TaskSpec

if TYPE_CHECKING:
    from absa.inference.engine import Engine

ROW_ID: Final = "row_id"
REQUEST_ID: Final = "request_id"
REASON: Final = "reason"
LINE: Final = "line"
_PREFIX: Final = "input_"


class ScoredPartition(NamedTuple):
    """Result of a partition: the scored rows, and the rows that were set aside with their reason; together all rows."""

    scored: pa.Table
    quarantined: pa.Table


def answer_columns(task: TaskSpec, *, logged: bool) -> tuple[str, ...]:
    """Return the names of the output's columns that follow the input's columns.

    The name of the label is in the column `sentiment` for the default task, and in `name` for any other task.

    Args:
        task: task of the model.
        logged: True if answers have request ids.
    """
    name = "sentiment" if task.extends(ABSA) else "name"
    answers = ("label", name, "scores", "truncated", "model_version", "scored_at")
    return (*answers, REQUEST_ID) if logged else answers


def score_partition(
    engine: "Engine",
    rows: PartitionRows,
    *,
    text: str,
    aspect: str | None,
    version: str,
    scored_at: datetime,
    request_ids: Callable[[Sequence[int], datetime], list[str]] | None = None,
) -> ScoredPartition:
    """Score one partition of the input.

    Args:
        engine: the model.
        rows: rows of the partition.
        text: name of the column with the text.
        aspect: name of the column with the aspect or topic; None for plain text.
        version: value of the column model_version.
        scored_at: value of the column scored_at, aware UTC.
        request_ids: returns an id per scored row, from the row ids and the time; None: no ids.

    Returns:
        Scored rows have `row_id`, the input's columns and `answer_columns`, in the input's order; quarantined rows have
        `row_id`, `line` (in the file, null in Parquet), the input's columns and `reason`. `output_names` holds the
        names of input columns in the output.
    """
    table, task = rows.table, engine.task
    texts = table.column(text).to_pylist()
    aspects = [None] * len(texts) if aspect is None else table.column(aspect).to_pylist()
    reasons = [
        unreadable or _reason(one, other, task)
        for unreadable, one, other in zip(rows.unreadable.to_pylist(), texts, aspects, strict=True)
    ]
    good = [index for index, reason in enumerate(reasons) if reason is None]
    bad = [index for index, reason in enumerate(reasons) if reason is not None]

    numbers: dict[tuple[str, str | None], int] = {}
    which = [numbers.setdefault((texts[index], aspects[index]), len(numbers)) for index in good]
    encoded = engine.tokenizer.encode(list(numbers))
    scores = engine.score_encoded(encoded)[which] if good else np.empty((0, task.n_labels), dtype=np.float32)
    truncated = [encoded[number].truncated for number in which]
    labels = scores.argmax(axis=1).astype(np.int8)

    columns = answer_columns(task, logged=request_ids is not None)
    names = output_names(table.column_names, columns)
    scored = table.rename_columns(names).add_column(0, ROW_ID, rows.row_ids)
    if bad:
        scored = scored.take(pa.array(good, pa.int64()))
    answers = {
        "label": pa.array(labels),
        columns[1]: pa.array(task.labels, pa.string()).take(pa.array(labels)),
        "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.reshape(-1), pa.float32()), task.n_labels),
        "truncated": pa.array(truncated, pa.bool_()),
        "model_version": pa.repeat(pa.scalar(version, pa.string()), len(good)),
        "scored_at": pa.repeat(pa.scalar(scored_at, pa.timestamp("us", tz="UTC")), len(good)),
    }
    if request_ids is not None:
        answers[REQUEST_ID] = pa.array(request_ids(scored.column(ROW_ID).to_pylist(), scored_at), pa.string())
    for name, values in answers.items():
        scored = scored.append_column(name, values)
    quarantined = table.rename_columns(_free_names(table.column_names, (ROW_ID, LINE, REASON)))
    quarantined = (
        quarantined.add_column(0, LINE, rows.lines).add_column(0, ROW_ID, rows.row_ids).take(pa.array(bad, pa.int64()))
    )
    quarantined = quarantined.append_column(REASON, pa.array([reasons[index] for index in bad], pa.string()))
    return ScoredPartition(scored=scored, quarantined=quarantined)


def output_names(columns: Sequence[str], answers: Sequence[str]) -> list[str]:
    """Return the names of the input's columns in the output: `input_label` if an answer column is named `label`.

    Args:
        columns: names in the input.
        answers: columns of the output after those of the input.
    """
    return _free_names(columns, (ROW_ID, *answers))


def _free_names(columns: Sequence[str], taken: Sequence[str]) -> list[str]:
    """Return the columns' names; `input_` is prefixed, repeatedly if needed, to a name that is taken."""
    used = {*taken, *columns}
    found = []
    for column in columns:
        name = column
        if column in taken:
            while name in used:
                name = _PREFIX + name
            used.add(name)
        found.append(name)
    return found


def _reason(text: object, aspect: object, task: TaskSpec) -> str | None:
    """Return the reason why a row cannot be scored, by the names that ingest uses; None if it can be scored."""
    if not isinstance(text, str) or not text or text.isspace():
        return "text_empty"
    phrase = aspect.strip() if isinstance(aspect, str) else ""
    if task.phrase is not None and not phrase:
        return "aspect_empty"
    if len(text) > MAX_TEXT_CHARACTERS:
        return "text_too_long"
    if task.phrase == "aspect" and not has_aspect(text, phrase):
        return "aspect_not_in_text"
    return None
