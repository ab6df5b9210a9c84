"""Drift of a batch job's rows against held-out rows of its version's training data: findings and a report.

The reference is a sample of the test split of the version's training snapshot, scored by the same package. The version
was trained on neither the reference nor the batch. The report starts no retraining, because a batch may differ from
live traffic on purpose.
"""

import io
import json
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from absa.data.snapshot import load_side
from absa.errors import PermanentError
from absa.records.lake import Lake
from absa.records.layout import JOB_DRIFT_FINDINGS, JOB_DRIFT_REPORT, JOB_PARTS
from absa.records.schema import Window, iso, parse_iso, utc_now
from absa.records.tables import PREDICTIONS
from absa.records.verdict import Reason, Verdict, VersionFigures
from absa.records.windows import WindowData, empty_frame
from absa.task import TaskSpec
from monitoring.drift.detect import DriftReport, detect_drift
from monitoring.drift.sample import sample_of

if TYPE_CHECKING:
    from absa.inference.engine import Engine

REFERENCE_ROWS: Final = 2_000
CURRENT_ROWS: Final = 5_000
_PARTS: Final = 50
_FEEDBACK: Final = {
    "feedback_label": pl.Int8,
    "feedback_at": pl.Datetime("us", "UTC"),
    "feedback_source": pl.String,
    "sampling_probability": pl.Float64,
}


def report_batch_drift(
    output: Lake, manifest: dict[str, Any], lake: Lake, engine: "Engine", *, false_alarm_rate: float = 0.01
) -> DriftReport:
    """Compare a finished job's rows with the training reference; write drift/report.html and drift/findings.json.

    Args:
        output: holds the job's parts and manifest, and receives the report.
        manifest: manifest of the job.
        lake: holds the version's snapshot.
        engine: engine of the version that scored the job.
        false_alarm_rate: share of jobs without drift in which any column may alarm.

    Raises:
        PermanentError: the package names no snapshot.
        NotFoundError: the lake has no such snapshot.
    """
    snapshot = engine.package.config.snapshot
    if snapshot is None:
        raise PermanentError(
            "the version's package names no snapshot, so there is no training reference to compare with"
        )
    now = utc_now()
    reference = _scored(load_side(lake, snapshot, "test"), engine, now)
    current = _sampled(output, manifest, now)
    task = engine.package.config.task
    found = detect_drift(sample_of(reference, task), sample_of(current, task), false_alarm_rate=false_alarm_rate)
    record = {
        "schema_version": 1,
        "at": iso(now),
        "reference": {"snapshot": snapshot, "side": "test", "rows": reference.height},
        "rows": current.height,
        "too_small": found.too_small,
        "drifted": [each.kind for each in found.drifted],
        "findings": [asdict(each) for each in found.findings],
    }
    output.write(JOB_DRIFT_FINDINGS, json.dumps(record, indent=1).encode())
    output.write(JOB_DRIFT_REPORT, _page(current, reference, found, manifest, task))
    return found


def _scored(rows: pl.DataFrame, engine: "Engine", now: datetime) -> pl.DataFrame:
    """Return a sample of one split of a snapshot with the version's answers."""
    rows = rows.sample(min(rows.height, REFERENCE_ROWS), seed=0)
    scores = engine.score(list(zip(rows["text"], rows["aspect"], strict=True)))
    return _frame(rows["text"], rows["aspect"], rows["segment"], scores.argmax(axis=1), scores, now)


def _sampled(output: Lake, manifest: dict[str, Any], now: datetime) -> pl.DataFrame:
    """Return a sample of a job's output, spread over its parts; the same on every call."""
    keys = output.list(JOB_PARTS)
    keys = [keys[index] for index in sorted({int(k) for k in np.linspace(0, len(keys) - 1, min(_PARTS, len(keys)))})]
    each = -(-CURRENT_ROWS // len(keys))
    parts = []
    for key in keys:
        file = pq.ParquetFile(io.BytesIO(output.read(key)))
        named = {name.strip().lower(): name for name in file.schema_arrow.names}
        phrase = manifest.get("aspect_column")
        wanted = [name for name in (manifest["text_column"], phrase, "label", "scores") if name]
        segment = named.get("segment")
        frame = pl.from_arrow(file.read(columns=[*wanted, *([segment] if segment else [])]))
        assert isinstance(frame, pl.DataFrame)
        frame = frame.select(
            text=pl.col(manifest["text_column"]).cast(pl.String),
            aspect=pl.col(phrase).cast(pl.String) if phrase else pl.lit(None, pl.String),
            segment=pl.col(segment).cast(pl.String) if segment else pl.lit(None, pl.String),
            label=pl.col("label"),
            scores=pl.col("scores"),
        )
        parts.append(frame.sample(min(each, frame.height), seed=0))
    rows = pl.concat(parts)
    return _frame(rows["text"], rows["aspect"], rows["segment"], rows["label"], rows["scores"], now)


def _frame(text: Any, aspect: Any, segment: Any, label: Any, scores: Any, now: datetime) -> pl.DataFrame:
    """Return rows in the shape of `WindowData.rows`, without feedback."""
    columns = {"text": text, "aspect": aspect, "segment": segment, "label": label}
    rows = pl.DataFrame(columns).with_columns(
        pl.Series("scores", scores, dtype=pl.List(pl.Float32)),
        label=pl.col("label").cast(pl.Int8),
        request_id=pl.int_range(pl.len()).cast(pl.String),
        at=pl.lit(now.astimezone(UTC)),
        unit_given=pl.lit(value=False),
    )
    absent: dict[str, Any] = {**empty_frame(PREDICTIONS).schema, **_FEEDBACK}
    return rows.with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in absent.items() if name not in rows.columns
    )


def _page(
    current: pl.DataFrame, reference: pl.DataFrame, found: DriftReport, manifest: dict[str, Any], task: TaskSpec
) -> bytes:
    from monitoring.evidently_reports import build_report

    version = manifest["model_version"]
    reasons = tuple(
        Reason(
            kind=f"drift:{each.kind}", sentence=each.sentence, statistic=each.statistic, threshold=each.threshold,
            p_value=each.p_adjusted,
        )
        for each in found.drifted
    )  # fmt: skip
    window = Window(start=parse_iso(manifest["started_at"]), end=parse_iso(manifest["finished_at"]))
    current = current.with_columns(model_version=pl.lit(version))
    verdict = Verdict(
        window=window,
        verdict="WATCH" if reasons else "FRESH",
        version=version,
        by_version={
            version: VersionFigures(
                rows=manifest["rows"], labelled=0, f1=None, estimated_f1=None, default_task=task.is_default
            )
        },
        reasons=reasons,
        action="none",
        action_reason=found.too_small
        or "This report compares a batch with the version's test rows; it starts nothing.",
        at=window.end,
    )
    data = WindowData(window=window, rows=current, total=manifest["rows"], by_version={version: manifest["rows"]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        build_report(data, reference, verdict, task).save_html(str(path))
        return path.read_bytes()
