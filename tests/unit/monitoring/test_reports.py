"""Tests of Evidently reports over good windows and windows that hold next to nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from absa.errors import UnavailableError
from absa.records.lake import Lake
from absa.records.schema import Window
from absa.records.verdict import ReferenceUse, Verdict
from absa.records.windows import load_window
from monitoring.evidently_reports import DESCRIPTORS, EvidentlyReporter, verdict_text
from monitoring.monitor import WatchedVersion, WatchSettings, report, watch
from monitoring.verdicts import VerdictStore
from tests.unit.monitoring.conftest import START, Traffic

Windows = Callable[[int], Window]
CHAMPION = WatchedVersion(version="1", champion_since=START)


def snapshots(workspace: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(workspace.glob("*/snapshots/*.json"))]


def reported(lake: Lake, window: Window, reporter: EvidentlyReporter, *, now: datetime) -> Verdict:
    judged = watch(lake, window, champion=CHAMPION, settings=WatchSettings(), now=now)
    return report(lake, judged, reporter)


def test_report_per_window_has_verdict_without_texts(
    lake: Lake, traffic: Traffic, window: Windows, tmp_path: Path
) -> None:
    reporter = EvidentlyReporter(tmp_path / "evidently", ui_url="http://127.0.0.1:8001/")
    for k in range(2):
        traffic.send(window(k), 150, segment="eu")
        verdict = reported(lake, window(k), reporter, now=window(k).end)
        assert verdict.report_uri is not None
        assert verdict.report_uri.startswith("http://127.0.0.1:8001/projects/")
    # late labels: new revisions, and a report in place of the window's first one
    again = reported(lake, window(1), reporter, now=window(1).end + timedelta(hours=1))
    reports = snapshots(tmp_path / "evidently")
    assert len(reports) == 2
    assert again.revision == 4, "a verdict and its report, twice"
    top = reports[0]["widgets"][0]  # type: ignore[index]
    assert top["title"] == "Verdict"
    assert "150 predictions" in top["params"]["text"]
    written = json.dumps(reports)
    assert "printer" not in written
    assert "measured pos/neg F1" in written
    assert all(descriptor in written for descriptor in DESCRIPTORS)


@pytest.mark.parametrize("case", ["empty", "one row", "one class", "two classes", "all null", "no labels"])
def test_nearly_empty_window_gets_report(
    case: str, lake: Lake, traffic: Traffic, window: Windows, tmp_path: Path
) -> None:
    reporter = EvidentlyReporter(tmp_path / "evidently")
    traffic.send(window(0), 120)
    watch(lake, window(0), champion=CHAMPION, settings=WatchSettings(), now=window(0).end)
    if case != "empty":
        traffic.send(window(1), 1 if case == "one row" else 120, labelled=0.0 if case == "no labels" else 1.0)
    if case == "two classes":  # of three: Evidently takes such rows as binary
        for key in [*lake.list("predictions/"), *lake.list("feedback/")]:
            path = Path(lake.url(key))
            pl.read_parquet(path).with_columns(pl.col("label").clip(upper_bound=1)).write_parquet(path)
    if case in ("one class", "all null"):
        (key,) = [k for k in lake.list("predictions/") if not k.endswith("r1-1.parquet")]
        path = Path(lake.url(key))
        frame = pl.read_parquet(path)
        blank = [pl.lit(0).cast(pl.Int8).alias("label")]
        if case == "all null":
            blank += [pl.lit(None, frame.schema[c]).alias(c) for c in ("text", "aspect", "segment", "latency_ms")]
        frame.with_columns(blank).write_parquet(path)
    verdict = reported(lake, window(1), reporter, now=window(1).end)
    assert verdict.report_uri is not None
    assert Path(verdict.report_uri).is_file()


def test_verdict_text_reports_rows_read(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 200)
    verdict = watch(lake, window(0), champion=CHAMPION, settings=WatchSettings(), now=window(0).end).verdict
    text = verdict_text(verdict, load_window(lake, window(0), max_rows=50))
    used = ReferenceUse(
        rows=900, held=5_000, windows=3, first=None, last=None, matching="Mondays at 10:00 UTC", joined=True
    )
    with_reference = verdict_text(replace(verdict, reference=used), load_window(lake, window(0), max_rows=50))
    assert "Compared with 900 reference rows of 3 windows: Mondays at 10:00 UTC." in with_reference
    assert "50 of 200 predictions" in text
    assert f"**{verdict.verdict}** for version 1" in text


def test_verdict_stands_while_evidently_is_down(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 120)
    judged = watch(lake, window(0), champion=CHAMPION, settings=WatchSettings(), now=window(0).end)
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9"):
        report(lake, judged, EvidentlyReporter("http://127.0.0.1:9"))
    assert VerdictStore(lake).latest(window(0)) == judged.verdict
