"""Tests of what customers feel, by aspect and segment."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl

from absa.records.lake import Lake
from absa.records.layout import INSIGHTS_CURRENT
from absa.records.schema import Window, iso
from monitoring.insights import insights, insights_plot, keep_insights
from tests.unit.monitoring.conftest import Traffic

Windows = Callable[[int], Window]


def negative(lake: Lake, number: int, share: float) -> None:
    """Give a segment file a known share of negative answers about one aspect."""
    key = next(k for k in lake.list("predictions/") if k.endswith(f"r1-{number}.parquet"))
    path = Path(lake.url(key))
    frame = pl.read_parquet(path)
    wanted = [0 if k < share * frame.height else 2 for k in range(frame.height)]
    frame.with_columns(pl.Series("label", wanted, pl.Int8), pl.lit("Desk").alias("aspect")).write_parquet(path)


def test_volume_share_and_change_match_log(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 100, labelled=0.0, segment="eu")
    negative(lake, 1, 0.2)
    number = traffic.written + 1
    traffic.send(window(1), 200, labelled=0.0, segment="eu")
    negative(lake, number, 0.5)
    (row,) = insights(lake, window(1)).to_dicts()
    assert (row["segment"], row["aspect"], row["rows"], row["rows_before"]) == ("eu", "desk", 200, 100)
    assert abs(row["share"] - 0.5) < 1e-9
    assert abs(row["change"] - 0.3) < 1e-9
    assert row["change_low"] > 0.1
    assert row["low"] < 0.5 < row["high"]


def test_a_loud_customer_widens_the_interval(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 200, labelled=0.0)
    negative(lake, 1, 0.5)
    many = insights(lake, window(0)).row(0, named=True)
    key = lake.list("predictions/")[0]
    path = Path(lake.url(key))
    frame = pl.read_parquet(path)
    loud = pl.when(pl.col("label") == 0).then(pl.lit("loud")).otherwise(pl.col("unit_hash")).alias("unit_hash")
    frame.with_columns(loud).write_parquet(path)
    one = insights(lake, window(0)).row(0, named=True)
    assert one["high"] - one["low"] > 2 * (many["high"] - many["low"])


def test_one_customer_counts_little_however_often(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 500, labelled=0.0, units=1)
    negative(lake, 1, 0.5)
    row = insights(lake, window(0)).row(0, named=True)
    assert row["rows"] == 500
    assert row["high"] - row["low"] > 0.9


def test_volume_is_windows_even_when_sampled(lake: Lake, traffic: Traffic, window: Windows) -> None:
    for k in range(2):
        number = traffic.written + 1
        traffic.send(window(k), 400, labelled=0.0)
        negative(lake, number, 0.5)
    row = insights(lake, window(1), max_rows=100).row(0, named=True)
    assert (row["rows"], row["rows_before"]) == (400, 400)


def test_rare_aspects_are_omitted_and_new_unchanged(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 19, labelled=0.0)
    negative(lake, 1, 0.5)
    assert insights(lake, window(0)).height == 0
    assert insights(lake, window(0), min_rows=10).row(0, named=True)["change"] is None


def test_the_plot_is_a_picture_even_of_nothing(lake: Lake, traffic: Traffic, window: Windows) -> None:
    assert insights_plot(insights(lake, window(0))).startswith(b"\x89PNG")
    traffic.send(window(1), 100, labelled=0.0)
    assert insights_plot(insights(lake, window(1), min_rows=1)).startswith(b"\x89PNG")


def test_console_state_is_kept_with_window(lake: Lake, traffic: Traffic, window: Windows) -> None:
    traffic.send(window(0), 100, labelled=0.0, segment="eu")
    negative(lake, 1, 0.2)
    keep_insights(lake, window(0))
    told = json.loads(lake.read(INSIGHTS_CURRENT))
    assert (told["window_start"], told["window_end"]) == (iso(window(0).start), iso(window(0).end))
    assert told["rows"] == insights(lake, window(0), min_rows=10).head(30).to_dicts() != []
