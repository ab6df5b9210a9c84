"""One partition through the engine: bad rows set aside, equal pairs scored once, answers joined to the input's columns.

The same function runs in a local worker process and on a cluster.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import pyarrow as pa

from absa.batch.source import ROW_ID, UNREADABLE
from absa.labels import N_LABELS, sentiment

if TYPE_CHECKING:
    from absa.inference.engine import Engine

MAX_TEXT_CHARACTERS: Final = 20_000
ANSWER_COLUMNS: Final = ("label", "sentiment", "scores", "model_version", "scored_at")
_PREFIX: Final = "input_"


class Partition(NamedTuple):
    """What a partition became: the scored rows, and those that were set aside with their reason. Together all rows."""

    scored: pa.Table
    quarantined: pa.Table


def score_partition(
    engine: "Engine", table: pa.Table, *, text: str, aspect: str, version: str, scored_at: datetime
) -> Partition:
    """Score one partition of the input.

    Args:
        engine: the model.
        table: rows with the input's columns, `row_id` and `unreadable`.
        text: name of the column with the text.
        aspect: name of the column with the aspect.
        version: what to write as model_version.
        scored_at: what to write as scored_at, aware UTC.

    Returns:
        Scored rows have the input's columns and `ANSWER_COLUMNS` (an input column of the same name gets the prefix
        `input_`), in the input's order; quarantined rows have the input's columns and `reason`.
    """
    texts, aspects = table.column(text).to_pylist(), table.column(aspect).to_pylist()
    reasons = [
        unreadable or _reason(one, other)
        for unreadable, one, other in zip(table.column(UNREADABLE).to_pylist(), texts, aspects, strict=True)
    ]
    good = [index for index, reason in enumerate(reasons) if reason is None]
    bad = [index for index, reason in enumerate(reasons) if reason is not None]

    numbers: dict[tuple[str, str], int] = {}
    which = [numbers.setdefault((texts[index], aspects[index]), len(numbers)) for index in good]
    scores = engine.score(list(numbers))[which] if good else np.empty((0, N_LABELS), dtype=np.float32)
    labels = scores.argmax(axis=1) if good else np.empty(0, dtype=np.int64)

    rows = table.drop_columns([UNREADABLE])
    names = [_PREFIX + name if name in ANSWER_COLUMNS else name for name in rows.column_names]
    scored = rows.rename_columns(names).take(pa.array(good, pa.int64()))
    answers = {
        "label": pa.array(labels.astype(np.int8)),
        "sentiment": pa.array([sentiment(int(label)) for label in labels], pa.string()),
        "scores": pa.FixedSizeListArray.from_arrays(pa.array(scores.reshape(-1), pa.float32()), N_LABELS),
        "model_version": pa.array([version] * len(good), pa.string()),
        "scored_at": pa.array([scored_at] * len(good), pa.timestamp("us", tz="UTC")),
    }
    for name in ANSWER_COLUMNS:
        scored = scored.append_column(name, answers[name])
    quarantined = rows.take(pa.array(bad, pa.int64()))
    quarantined = quarantined.append_column("reason", pa.array([reasons[index] for index in bad], pa.string()))
    return Partition(scored=scored, quarantined=quarantined)


def _reason(text: object, aspect: object) -> str | None:
    """Why a row cannot be scored; the same names as where labelled rows are read."""
    if not isinstance(text, str) or not text.strip():
        return "text_empty"
    if not isinstance(aspect, str) or not aspect.strip():
        return "aspect_empty"
    if len(text) > MAX_TEXT_CHARACTERS:
        return "text_too_long"
    if aspect.strip().casefold() not in text.casefold():
        return "aspect_not_in_text"
    return None


__all__ = ["ANSWER_COLUMNS", "MAX_TEXT_CHARACTERS", "ROW_ID", "Partition", "score_partition"]
