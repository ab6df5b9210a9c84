"""Insights: volume, share of one label and its change, per aspect or topic and segment."""

import json
import warnings
from typing import Final

import polars as pl

from absa.records.lake import Lake
from absa.records.layout import INSIGHTS_CURRENT
from absa.records.schema import SCHEMA_VERSION, Window, iso
from absa.records.windows import MAX_ROWS, UNIT, WindowData, load_window
from absa.sinks import matplotlib_label
from absa.task import ABSA, TaskSpec

_Z: Final = 1.96
_KEYS: Final = ("segment", "aspect")
_SHOWN: Final = 15
_KEPT: Final = 30
_FEWEST_KEPT: Final = 10


def insights(
    lake: Lake, window: Window, *, min_rows: int = 20, max_rows: int = MAX_ROWS, task: TaskSpec = ABSA
) -> pl.DataFrame:
    """Return volume and label share per segment and aspect, compared with the window of equal length before.

    Args:
        lake: holds the predictions.
        window: event time.
        min_rows: aspects with fewer predictions are left out.
        max_rows: a window with more predictions is sampled, and the numbers of rows are scaled to the whole.
        task: task whose first evaluated label is counted; in the default task that is negative.

    Returns:
        segment, aspect, rows, share with low and high (95 %, over units, so that one active customer makes no interval
        narrow), rows_before, change with change_low and change_high (null without rows before), the most frequent
        first. Case of aspects is ignored.
    """
    length = window.end - window.start
    earlier = Window(start=window.start - length, end=window.start)
    label = task.evaluated_numbers[0]
    now, before = (_shares(load_window(lake, each, max_rows=max_rows), label) for each in (window, earlier))
    both = now.filter(pl.col("rows") >= min_rows).join(before, on=_KEYS, how="left", suffix="_before", nulls_equal=True)
    error = (pl.col("error") ** 2 + pl.col("error_before") ** 2).sqrt()
    change = pl.col("share") - pl.col("share_before")
    return both.select(
        *_KEYS,
        "rows",
        "share",
        (pl.col("share") - _Z * pl.col("error")).clip(0.0, 1.0).alias("low"),
        (pl.col("share") + _Z * pl.col("error")).clip(0.0, 1.0).alias("high"),
        pl.col("rows_before").fill_null(0),
        change.alias("change"),
        (change - _Z * error).alias("change_low"),
        (change + _Z * error).alias("change_high"),
    ).sort("rows", "segment", "aspect", descending=[True, False, False], nulls_last=True)


def keep_insights(lake: Lake, window: Window, task: TaskSpec = ABSA) -> None:
    """Write a window's most frequent aspects to insights/current.json, which the console reads.

    Without aspects (redacted log, or a task of plain text) nothing is written.
    """
    if task.phrase is None:
        return
    found = insights(lake, window, min_rows=_FEWEST_KEPT, task=task).filter(pl.col("aspect").is_not_null()).head(_KEPT)
    told = {
        "schema_version": SCHEMA_VERSION,
        "window_start": iso(window.start),
        "window_end": iso(window.end),
        "label": task.evaluated[0],
        "rows": found.to_dicts(),
    }
    lake.write(INSIGHTS_CURRENT, json.dumps(told).encode())


def _shares(data: WindowData, label: int) -> pl.DataFrame:
    """Return rows, the label's share per (segment, aspect), and its standard error over units.

    The error is never below that of independent units with one more unit of each kind.
    """
    scale = data.total / max(data.rows.height, 1)
    named = data.rows.filter(pl.col("aspect").is_not_null()).with_columns(
        pl.col("aspect").str.to_lowercase(),
        UNIT.alias("unit"),
        (pl.col("label") == label).alias("counted"),
    )
    by_unit = named.group_by(*_KEYS, "unit").agg(
        pl.len().cast(pl.Float64).alias("n"), pl.col("counted").sum().cast(pl.Float64).alias("k")
    )
    total = by_unit.with_columns(
        (pl.col("k").sum() / pl.col("n").sum()).over(_KEYS, mapping_strategy="group_to_rows").alias("share")
    )
    clustered = ((pl.col("k") - pl.col("share") * pl.col("n")) ** 2).sum() / pl.col("n").sum() ** 2
    pulled = (pl.col("share").first() * pl.len() + 1.0) / (pl.len() + 2.0)
    return total.group_by(*_KEYS).agg(
        (pl.col("n").sum() * scale).round().cast(pl.Int64).alias("rows"),
        pl.col("share").first().alias("share"),
        pl.max_horizontal(clustered, pulled * (1.0 - pulled) / pl.len()).sqrt().alias("error"),
    )


def insights_plot(found: pl.DataFrame, task: TaskSpec = ABSA) -> bytes:
    """Return a PNG of the most frequent aspects with their intervals; a character that the font lacks is a box."""
    from io import BytesIO

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = found.head(_SHOWN)
    names = [
        matplotlib_label(f"{segment}: {aspect}" if segment else str(aspect))
        for segment, aspect in shown.select(_KEYS).iter_rows()
    ]
    figure = Figure(figsize=(8, 0.8 + 0.35 * max(shown.height, 1)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    share, low, high = (shown[column].to_numpy() for column in ("share", "low", "high"))
    places = list(range(shown.height))
    axes.errorbar(share, places, xerr=[share - low, high - share], fmt="o", color="tab:red", ecolor="lightgray")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share of answers that are {matplotlib_label(task.evaluated[0])}, 95 % interval over units")
    axes.set_title(f"Share of {matplotlib_label(task.evaluated[0])} by {task.phrase}")
    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)  # customers write in every script
        figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
