"""False alarms and detection of monitoring, beside Evidently's default, in one run; writes results/drift.json.

Windows are drawn with replacement from labelled rows: the bundled ones, or `--known` and `--new` files with text,
aspect, label. Scores are drawn so that a row with confidence c is right with probability c. Finished cells are kept in
the result file, so a run that was cut short goes on where it was.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from absa.schema import Window
from benchmarks.figures import Row, share, write_result
from monitoring.drift import detect_drift
from monitoring.performance import back_test, estimate, measure
from monitoring.sample import Sample, make_sample
from monitoring.sequential import RightAnswers, detect_slow_loss

RESULTS = Path(__file__).parent / "results" / "drift.json"
SAMPLE = Path(__file__).parent.parent / "absa" / "data" / "sample"
PEER = "evidently 0.7.23, default DataDriftPreset"
Bench = Callable[[], list[Row]]


class Traffic:
    """Draws samples from rows of a known and of a new product area."""

    def __init__(self, known: pl.DataFrame, new: pl.DataFrame, seed: int) -> None:
        self.known, self.new = known, new
        self.rng = np.random.default_rng(seed)

    def draw(
        self, count: int, *, new_share: float = 0.0, shares: Sequence[float] | None = None, flipped: float = 0.0
    ) -> Sample:
        """A window. `shares` sets the mix of predicted classes, `flipped` the share of rows whose truth is another."""
        rng = self.rng
        from_new = rng.random(count) < new_share
        rows = pl.concat(
            [
                self.known[rng.integers(self.known.height, size=int((~from_new).sum()))],
                self.new[rng.integers(self.new.height, size=int(from_new.sum()))],
            ]
        )
        predicted = rows["label"].to_numpy().astype(np.int64) if shares is None else rng.choice(3, count, p=shares)
        confidence = np.clip(rng.normal(0.83, 0.1, count), 0.4, 0.99)
        truth = np.where(rng.random(count) < confidence, predicted, (predicted + rng.integers(1, 3, count)) % 3)
        truth = np.where(rng.random(count) < flipped, (truth + rng.integers(1, 3, count)) % 3, truth)
        scores = np.repeat(((1.0 - confidence) / 2.0)[:, None], 3, axis=1)
        scores[np.arange(count), predicted] = confidence
        return make_sample(
            predicted, scores, truth=truth, texts=tuple(rows["text"].to_list()), aspects=tuple(rows["aspect"].to_list())
        )


def evidently_alarms(reference: Sample, current: Sample) -> bool:
    """Whether Evidently's default preset calls any of five columns drifted."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    def frame(sample: Sample) -> Any:
        texts = sample.texts or ()
        return pd.DataFrame(
            {
                "predicted": sample.labels.astype(str),
                "confidence": sample.scores.max(axis=1),
                "margin": np.ptp(sample.scores, axis=1),
                "characters": [float(len(text)) for text in texts],
                "words": [float(len(text.split())) for text in texts],
            }
        )

    definition = DataDefinition(
        numerical_columns=["confidence", "margin", "characters", "words"], categorical_columns=["predicted"]
    )
    both = [Dataset.from_pandas(frame(sample), data_definition=definition) for sample in (current, reference)]
    found = Report([DataDriftPreset()]).run(*both).dict()["metrics"]
    return any(m["value"]["count"] > 0 for m in found if "DriftedColumnsCount" in m["metric_name"])


def judged(row: Row, met: bool) -> Row:
    """The row with its target judged."""
    return Row(**{**vars(row), "met": bool(met)})


def no_drift(traffic: Traffic, size: int, runs: int, peer_runs: int) -> list[Row]:
    """False alarms with a fresh reference of 2,000 rows and a fresh window each time."""
    alarms = {0.01: 0, 0.05: 0}
    for seed in range(runs):
        report = detect_drift(traffic.draw(2000), traffic.draw(size), false_alarm_rate=0.01, seed=seed)
        lowest = min(finding.p_adjusted for finding in report.findings)
        for rate in alarms:
            alarms[rate] += lowest <= rate
    case = f"no drift, windows of {size}, reference 2,000"
    rows = []
    for rate, hits in alarms.items():
        bound = rate + 2.58 * np.sqrt(rate * (1 - rate) / runs)
        row = share(case, f"false_alarms_at_{rate:.0%}", hits, runs, target=f"<= {bound:.3f} (99 % binomial bound)")
        rows.append(judged(row, row.value <= bound))
    hits = sum(evidently_alarms(traffic.draw(2000), traffic.draw(size)) for _ in range(peer_runs))
    return [*rows, share(case, "false_alarms", hits, peer_runs, peer=PEER)]


def detection(
    traffic: Traffic,
    case: str,
    sizes: tuple[int, int],
    runs: int,
    peer_runs: int,
    target: float,
    before: dict[str, Any],
    after: dict[str, Any],
) -> list[Row]:
    """Windows in which a shift is found at 1 % false alarms over all columns."""
    hits = 0
    for seed in range(runs):
        report = detect_drift(
            traffic.draw(sizes[0], **before), traffic.draw(sizes[1], **after), false_alarm_rate=0.01, seed=seed
        )
        hits += bool(report.drifted)
    row = share(case, "found_at_1%", hits, runs, target=f">= {target}")
    found = sum(
        evidently_alarms(traffic.draw(sizes[0], **before), traffic.draw(sizes[1], **after)) for _ in range(peer_runs)
    )
    return [judged(row, row.value >= target), share(case, "found", found, peer_runs, peer=PEER)]


def concept(traffic: Traffic, runs: int) -> list[Row]:
    """Windows of 300 labels until a tenth of flipped labels is found, and false alarms over 100 windows without."""
    delays, alarms = [], 0
    for _ in range(runs):
        reference = RightAnswers.of(traffic.draw(1000))
        found = detect_slow_loss(reference, [RightAnswers.of(traffic.draw(300, flipped=0.1)) for _ in range(30)])
        delays.append(next((k + 1 for k, state in enumerate(found) if state.alarm), 30))
        calm = detect_slow_loss(reference, [RightAnswers.of(traffic.draw(300)) for _ in range(20)])
        alarms += any(state.alarm for state in calm)
    case = "labels of 10 % of rows flipped, 300 labels a window, reference 1,000"
    low, middle, high = np.quantile(delays, [0.25, 0.5, 0.75])
    row = Row(
        case=case,
        metric="windows_until_found_median",
        value=float(middle),
        low=float(low),
        high=float(high),
        runs=runs,
        unit="windows",
        target="<= 5",
    )
    rate = share("no change, 300 labels a window", "alarm_within_20_windows_at_1%", alarms, runs, target="<= 0.20")
    return [judged(row, middle <= 5), judged(rate, rate.value <= 0.20)]


def slow(traffic: Traffic, runs: int) -> list[Row]:
    """A new area that takes one more percent of the traffic each window of 1,000 rows."""
    shares = []
    for seed in range(runs):
        reference = traffic.draw(2000)
        for percent in range(1, 31):
            if detect_drift(
                reference, traffic.draw(1000, new_share=percent / 100), false_alarm_rate=0.01, seed=seed
            ).drifted:
                break
        shares.append(percent / 100)
    low, middle, high = np.quantile(shares, [0.05, 0.5, 0.95])
    row = Row(
        case="new area grows by 1 % a window of 1,000, reference 2,000",
        metric="changed_share_when_found_median",
        value=float(middle),
        low=float(low),
        high=float(high),
        runs=runs,
        unit="share",
        target="< 0.10",
    )
    return [judged(row, middle < 0.10)]


def cbpe(traffic: Traffic, runs: int) -> list[Row]:
    """Coverage and width of the estimate without labels, and whether the back-test sees when it cannot hold."""
    covered, widths, measured_widths, caught, blamed = 0, [], [], 0, 0
    for _ in range(runs):
        window = traffic.draw(500)
        promised, found = estimate(window), measure(window)
        assert promised is not None
        assert found is not None
        covered += promised.low <= found.pos_neg_f1 <= promised.high
        widths.append(promised.high - promised.low)
        measured_widths.append(found.high - found.low)
        held, broken = back_test(window), back_test(traffic.draw(500, flipped=0.2))
        blamed += held is not None and not held.trusted
        caught += broken is not None and not broken.trusted
    case = "estimate without labels, windows of 500"
    coverage = share(case, "covers_true_f1", covered, runs, target=">= 0.90")
    ratio = float(np.mean(widths) / np.mean(measured_widths))
    width = Row(
        case=case,
        metric="width_over_labelled_width",
        value=ratio,
        low=ratio,
        high=ratio,
        runs=runs,
        unit="ratio",
        target="<= 2",
    )
    return [
        judged(coverage, coverage.value >= 0.9),
        judged(width, ratio <= 2),
        share(case, "back_test_blames_a_good_estimate", blamed, runs),
        share("20 % of labels flipped, windows of 500", "back_test_finds_it", caught, runs),
    ]


def million(traffic: Traffic, rows: int) -> list[Row]:
    """Time and peak memory of watching and reporting a window of a million predictions, in this process."""
    import pyarrow as pa

    from absa.adapters.lake import FolderLake, write_parquet
    from absa.adapters.tables import PREDICTIONS, prediction_prefix
    from monitoring.monitor import WatchedVersion, WatchSettings, watch
    from monitoring.reports import EvidentlyReporter
    from monitoring.windows import save_reference

    start = datetime(2026, 1, 1, tzinfo=UTC)
    window = Window(start=start, end=start + timedelta(hours=1))
    with tempfile.TemporaryDirectory() as folder:
        lake = FolderLake(Path(folder) / "lake")
        part = 50_000
        for k in range(rows // part):
            drawn = traffic.draw(part)
            n = drawn.rows
            table = pa.table(
                {
                    "schema_version": pa.array([1] * n, pa.int16()),
                    "request_id": [f"{k:04d}-{i:06d}" for i in range(n)],
                    "at": pa.array(
                        [start + timedelta(milliseconds=3 * (k * part + i)) for i in range(n)],
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
        watch(
            lake,
            window,
            champion=WatchedVersion(version="1"),
            settings=WatchSettings(),
            reporter=EvidentlyReporter(Path(folder) / "evidently"),
        )
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


def load(path: Path) -> pl.DataFrame:
    """Rows with text, aspect and label."""
    return pl.read_csv(path).rename(str.lower).select("text", "aspect", pl.col("label").cast(pl.Int64)).drop_nulls()


def cells(known: Traffic, options: argparse.Namespace) -> dict[str, Bench]:
    """Every cell by name, the cheap ones first."""
    runs, few, peers = options.runs, options.detection_runs, options.peer_runs
    quarter, third, more = [0.25, 0.25, 0.5], [0.30, 0.25, 0.45], [0.35, 0.25, 0.40]
    shift = (10_000, 2_000)
    table: dict[str, Bench] = {
        "million": lambda: million(known, options.million),
        "concept": lambda: concept(known, runs),
        "cbpe": lambda: cbpe(known, runs),
        "new area": lambda: detection(
            known,
            "10 % of traffic from a new area, windows of 1,000, reference 2,000",
            (2_000, 1_000),
            few,
            peers,
            0.90,
            {},
            {"new_share": 0.1},
        ),
    }
    for size in (100, 500, 1000, 5000):
        table[f"no drift {size}"] = lambda size=size: no_drift(known, size, runs, peers)  # type: ignore[misc]
    for name, after, target in (("25 to 30 %", third, 0.85), ("25 to 35 %", more, 0.99)):
        case = f"predicted negative share {name}, windows of 2,000, reference 10,000"
        table[name] = lambda case=case, after=after, target=target: detection(  # type: ignore[misc]
            known, case, shift, few, peers, target, {"shares": quarter}, {"shares": after}
        )
    table["slow"] = lambda: slow(known, options.slow_runs)
    return table


def main() -> int:
    """Run every cell that the result file does not hold yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="windows a cell without drift")
    parser.add_argument("--detection-runs", type=int, default=500, help="windows a cell with drift")
    parser.add_argument("--peer-runs", type=int, default=100, help="windows a cell judged by Evidently's default")
    parser.add_argument("--slow-runs", type=int, default=50, help="slow drifts")
    parser.add_argument("--million", type=int, default=1_000_000, help="predictions of the large window")
    parser.add_argument("--known", type=Path, default=SAMPLE / "feedback.csv")
    parser.add_argument("--new", type=Path, default=SAMPLE / "new_area.csv")
    parser.add_argument("--cells", nargs="*", help="only these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ["DO_NOT_TRACK"] = "1"
    done: dict[str, list[dict[str, Any]]] = {}
    partial = options.out.with_suffix(".partial.json")
    if partial.exists():
        done = json.loads(partial.read_text())
    traffic = Traffic(load(options.known), load(options.new), options.seed)
    for number, (name, run) in enumerate(cells(traffic, options).items()):
        if name in done or (options.cells and name not in options.cells):
            continue
        traffic.rng = np.random.default_rng([options.seed, number])
        started = time.monotonic()
        done[name] = [row.to_json() for row in run()]
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(done, indent=1))
        for row in done[name]:
            print(f"{row['case']}: {row['metric']} {row['value']:.4g} ({row.get('peer') or row['target']})", flush=True)
        print(f"  {time.monotonic() - started:.0f} s", flush=True)
    rows = [Row(**{k: v for k, v in row.items() if k != "projected"}) for part in done.values() for row in part]
    write_result(
        options.out,
        name="drift",
        command="python -m benchmarks.drift",
        seed=options.seed,
        rows=rows,
        versions={"numpy": np.__version__, "polars": pl.__version__, "evidently": "0.7.23"},
    )
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
