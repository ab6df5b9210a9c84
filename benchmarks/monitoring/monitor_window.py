"""Time and peak memory of judging and reporting one large window; writes results/monitor_window.json."""

import argparse
import os
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from absa.records.schema import Window
from benchmarks.figures import Row, write_result
from benchmarks.monitoring.drift_traffic import SAMPLE, Traffic, load

RESULTS = Path(__file__).parents[1] / "results" / "monitor_window.json"


def judged(row: Row, met: bool) -> Row:
    """The row with its target judged."""
    return Row(**{**vars(row), "met": bool(met)})


def large_window(traffic: Traffic, rows: int) -> list[Row]:
    """Time and peak memory of watching and reporting a window of a million predictions, in this process."""
    import pyarrow as pa

    from absa.adapters.lake_stores import FolderLake
    from absa.records.layout import prediction_prefix
    from absa.records.tables import PREDICTIONS, write_parquet
    from monitoring.evidently_reports import EvidentlyReporter
    from monitoring.monitor import WatchedVersion, WatchSettings, report, watch
    from monitoring.reference_rows import save_reference

    rng = np.random.default_rng(0)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    window = Window(start=start, end=start + timedelta(hours=1))
    with tempfile.TemporaryDirectory() as folder:
        lake = FolderLake(Path(folder) / "lake")
        part = 50_000
        for k in range(rows // part):
            drawn = traffic.draw(rng, part)
            n = drawn.rows
            table = pa.table(
                {
                    "schema_version": pa.array([1] * n, pa.int16()),
                    "request_id": [f"{k:04d}-{i:06d}" for i in range(n)],
                    "at": pa.array(
                        [start + (window.end - window.start) * ((k * part + i) / rows) for i in range(n)],
                        PREDICTIONS.field("at").type,
                    ),
                    "unit_hash": [f"{i % 20_000:016x}" for i in range(n)],
                    "unit_given": [True] * n,
                    "segment": ["eu"] * n,
                    "text": list(drawn.texts or ()),
                    "aspect": list(drawn.aspects or ()),
                    "label": pa.array(drawn.labels, pa.int8()),
                    "scores": pa.array(drawn.scores.astype(np.float32).tolist(), PREDICTIONS.field("scores").type),
                    "model_version": ["1"] * n,
                    "arm": ["champion"] * n,
                    "experiment": pa.nulls(n, pa.string()),
                    "revision": pa.array([1] * n, pa.int64()),
                    "shadow": [False] * n,
                    "cached": [False] * n,
                    "truncated": [False] * n,
                    "latency_ms": pa.array([5.0] * n, pa.float32()),
                    "replica": ["r"] * n,
                },
                schema=PREDICTIONS,
            )
            write_parquet(lake, f"{prediction_prefix(start)}r-{k}.parquet", table)
        first = (
            pl.DataFrame(table)
            .head(2000)
            .with_columns(
                pl.lit(None, pl.Int8).alias("feedback_label"),
                pl.lit(None, pl.Datetime("us", "UTC")).alias("feedback_at"),
                pl.lit(None, pl.String).alias("feedback_source"),
                pl.lit(None, pl.Float64).alias("sampling_probability"),
                (pl.col("at") - pl.duration(days=1)).alias("at"),
            )
        )
        save_reference(lake, "1", first)
        started = time.monotonic()
        found = watch(lake, window, champion=WatchedVersion(version="1"), settings=WatchSettings())
        report(lake, found, EvidentlyReporter(Path(folder) / "evidently"))
        took = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    case = f"a window of {rows:,} predictions, judged and reported"
    return [
        judged(
            Row(case=case, metric="seconds", value=took, low=took, high=took, runs=1, unit="s", target="<= 60"),
            took <= 60,
        ),
        judged(
            Row(case=case, metric="peak_memory", value=peak, low=peak, high=peak, runs=1, unit="GiB", target="<= 2"),
            peak <= 2,
        ),
    ]


def main() -> int:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="predictions in the window")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ["DO_NOT_TRACK"] = "1"
    traffic = Traffic(load(SAMPLE / "feedback.csv"), load(SAMPLE / "new_area.csv"), embed=False)
    rows = large_window(traffic, options.rows)
    for row in rows:
        print(f"{row.case}: {row.metric} {row.value:.4g} {row.unit} ({row.target})")
    write_result(
        options.out,
        name="monitor_window",
        command="make benchmark-monitor_window",
        seed=0,
        rows=rows,
        versions={"polars": pl.__version__, "evidently": "0.7.23"},
    )
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
