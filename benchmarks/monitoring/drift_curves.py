"""Tables and picture of the monitoring pages from committed results: `python -m benchmarks drift_curves`.

A page shows a table between the marks `<!-- NAME -->` and `<!-- /NAME -->`. The table of live traffic has the cells
so far where the run is not complete.
"""

import json
import re
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.monitoring.live_cells import CHAIN_H, DAILY_POINTS, EXTREMES, LATE_LABELS, QUARTER_WINDOWS, daily
from benchmarks.monitoring.live_traffic import HABITS
from benchmarks.monitoring.recurring_cells import (
    LOSS,
    SLOW_UNITS,
    UNITS,
    WINDOW_ROWS,
    chain_case,
    loss_case,
    slow_case,
    window_case,
)
from benchmarks.table import pivot, table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
DESIGN = ROOT / "docs" / "design"
PAGES = [DESIGN / name for name in ("monitoring.md", "monitoring_labels.md", "monitoring_measured.md")]
PICTURE = DESIGN / "monitoring_curves.svg"
TESTS = {
    "window of 500": "windows of 500, reference 2,000",
    "of 2,000": "windows of 2,000, reference 2,000",
    "8 windows, slow": "slow test: 8 windows of 500, reference 1,000",
    f"chains of {CHAIN_H} windows": f"chain over {CHAIN_H:,} hourly windows",
    "a quarter": f"chain over a quarter of {QUARTER_WINDOWS:,} windows of six hours",
}
"""Columns of the table of live traffic: their heads, and the cases."""
RATES = ("false_alarms_at_1.0%", "false_alarms_at_0.2%", "windows_with_watch_or_stale", "slow_loss_alarms_at_1.0%")
FOUND = {
    "10 % from a new area, windows of 1,000, reference 2,000": "found_at_1%",
    "10 % from a new area of its own segment, windows of 1,000, reference 2,000": "found_at_1%",
    "negative share about 25 to 30 %, windows of 2,000, reference 10,000": "found_at_1%",
    "negative share about 25 to 35 %, windows of 2,000, reference 10,000": "found_at_1%",
    "new area grows by 1 % an hourly window, chain": "changed_share_when_found_median",
}

MAIN = {
    "no drift, windows of 100 to 5,000: false alarms at 1 %": (
        r"no drift, windows of \d+, reference 2,000", "false_alarms_at_1%",
    ),
    "no drift, windows of 100 to 5,000: false alarms at 5 %": (
        r"no drift, windows of \d+, reference 2,000", "false_alarms_at_5%",
    ),
    "a tenth of the traffic from a new area, windows of 1,000": (
        "10 % of traffic from a new area, windows of 1,000, reference 2,000", "found_at_1%",
    ),
    "negative share 25 to 30 %, windows of 2,000": (
        "predicted negative share 25 to 30 %, windows of 2,000, reference 10,000", "found_at_1%",
    ),
    "labels of a tenth of the rows flipped, 300 labels per window: windows until found, median": (
        "labels of 10 % of rows flipped, .*", "windows_until_found_median",
    ),
    "a new area that grows by 1 % a window: its share when found, median": (
        r"new area grows by 1\.00% a window of 1,000, .*", "changed_share_when_found_median",
    ),
    "F1 estimated without labels, windows of 500: interval contains the true F1": (
        "estimate without labels, windows of 500", r"interval_covers_pos_neg_f1",
    ),
    "F1 estimated without labels, windows of 500: width of the interval / width with labels": (
        "estimate without labels, windows of 500", "width_over_labelled_width",
    ),
    "window of a million predictions: time to judge and report": ("a window of 1,000,000 predictions, .*", "seconds"),
    "window of a million predictions: peak memory": ("a window of 1,000,000 predictions, .*", "peak_memory"),
}  # fmt: skip
"""Rows of the short table: their names, the cases as a pattern, and the measure."""
SIDE_BY_SIDE = {
    "labels": [
        "interval_covers_f1_of_all_answers", "width_of_interval", "bias_of_figure", "plain_interval_covers",
        "bias_of_plain_counting",
    ],
    "estimate_trust": [
        "support_distrusts_it", "back_test_distrusts_it", "rows_trusted", "estimate_less_true_f1",
        "estimate_is_off",
    ],
}  # fmt: skip
"""Measures of the tables that have a line per case, by result."""

Rows = list[dict[str, Any]]
Points = list[tuple[float, float, float, float]]


def lines(rows: Rows, pattern: str, *, name: str, x: int = 1) -> dict[str, Points]:
    """Points (x, value, low, high) of the rows whose case matches, by the name that the match and the row make."""
    found: dict[str, Points] = {}
    for row in rows:
        match = re.fullmatch(pattern, row["case"])
        if match and row["unit"] == "share":
            peer = f" ({row['peer'].split(',')[0]})" if row.get("peer") else ""
            key = name.format(*match.groups(), metric=row["metric"].replace("_", " ")) + peer
            point = (float(match[x].replace(",", "")), row["value"], row["low"], row["high"])
            found.setdefault(key, []).append(point)
    return {key: sorted(points) for key, points in found.items()}


def draw(axes: Any, curves: dict[str, Points]) -> None:
    """Curves with their 95 % intervals."""
    for name, points in curves.items():
        x, value, low, high = ([point[k] for point in points] for k in range(4))
        spread = [
            [max(0.0, v - a) for v, a in zip(value, low, strict=True)],
            [max(0.0, b - v) for v, b in zip(value, high, strict=True)],
        ]
        axes.errorbar(x, value, yerr=spread, marker="o", capsize=3, label=name)
    axes.set_ylim(-0.02, 1.02)
    axes.legend(fontsize=7)


def picture(rows: Rows) -> None:
    """False alarms against window size, detection against window size, detection against strength."""
    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    calm, sizes, strengths = figure.subplots(1, 3)
    draw(calm, lines(rows, r"no drift, windows of (\d+), reference 2,000", name="{metric}"))
    for rate in (0.01, 0.05):
        calm.axhline(rate, color="lightgray", linestyle=":")
    calm.set_yscale("symlog", linthresh=0.02)
    calm.set_title("no drift: windows that alarm", fontsize=9)
    area = r"10 % of traffic from a new area, windows of ([\d,]+), reference 2,000"
    negative = r"predicted negative share 25 to (30|35) %, windows of ([\d,]+), reference 2,000"
    draw(
        sizes,
        {
            **lines(rows, area, name="10 % from a new area"),
            **lines(rows, negative, name="negative share 25 to {} %", x=2),
        },
    )
    sizes.set_title("drift: windows in which it is found at 1 %", fontsize=9)
    for axes in (calm, sizes):
        axes.set_xscale("log")
        axes.set_xlabel("rows in the window")
    strength = r"([\d.]+) % of traffic from a new area, windows of 1,000, reference 2,000"
    large = r"predicted negative share 25 to ([\d.]+) %, windows of 2,000, reference 10,000"
    moved = {
        name: [(x - 25, *rest) for x, *rest in points]
        for name, points in lines(rows, large, name="negative share above 25 %, windows of 2,000").items()
    }
    draw(strengths, {**lines(rows, strength, name="new area, windows of 1,000"), **moved})  # type: ignore[dict-item]
    strengths.set_xlabel("strength: points of share that moved")
    strengths.set_title("drift: windows in which it is found at 1 %", fontsize=9)
    with rc_context({"svg.hashsalt": "drift"}):  # equal figures, equal file
        figure.savefig(PICTURE, metadata={"Date": None})


def traffic_table(rows: Rows) -> str:
    """Return the false alarms of each traffic without drift, by test, the peers' on its windows of 500 last."""
    peers = sorted({row["peer"] for row in rows if row.get("peer") and " traffic, " in row["case"]})
    heads = ["traffic without drift", *TESTS, *(peer.split(",")[0] for peer in peers)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in (*HABITS, LATE_LABELS):
        cases = [f"{name} traffic, {case}" for case in TESTS.values()]
        mine = [_cell(rows, case, RATES) for case in cases]
        others = [_cell(rows, cases[0], ("false_alarms",), peer=peer) for peer in peers]
        lines.append(f"| {' | '.join([name, *mine, *others])} |")
    return "\n".join(lines)


def range_table(rows: Rows) -> str:
    """Return the false alarms at the ends of the range of windows and units, and under a daily cycle alone."""
    lines = ["| traffic without drift | test | alarms |", "|---|---|---|"]
    for name, size in EXTREMES:
        case = f"{name} traffic, windows of {size:,}, reference 2,000"
        lines.append(f"| {name} | window of {size:,} | {_cell(rows, case, RATES)} |")
    for points in DAILY_POINTS:
        test = f"chain over {CHAIN_H:,} hourly windows"
        lines.append(f"| {daily(points)} | {test} | {_cell(rows, f'{daily(points)} traffic, {test}', RATES)} |")
    return "\n".join(lines)


def found_table(rows: Rows) -> str:
    """Return the detections under combined traffic beside those under independent traffic."""
    lines = ["| drift | independent traffic | all together |", "|---|---|---|"]
    for case, metric in FOUND.items():
        found = [_cell(rows, f"{name} traffic, {case}", (metric,)) for name in ("independent", "together")]
        lines.append(f"| {case} | {' | '.join(found)} |")
    return "\n".join(lines)


def recurring_table(rows: Rows) -> str:
    """Return the false alarms where only the unit ids recur."""
    cases = [*map(slow_case, SLOW_UNITS), *map(window_case, WINDOW_ROWS)]
    cases += [chain_case(units, CHAIN_H) for units in (UNITS, 0)]
    cases += [loss_case(known) for known in (False, True)]
    lines = ["| without drift | alarms |", "|---|---|"]
    return "\n".join([*lines, *(f"| {case} | {_cell(rows, case, RATES)} |" for case in cases)])


def loss_line(rows: Rows) -> str:
    """Return after how many windows a slow loss is found; nothing where it is not measured."""
    case = loss_case(known=False, loss=LOSS)
    found = [row for row in rows if row["case"] == case]
    return "".join(f"Of {case}: found after {row['value']:g} windows (median of {row['runs']} runs)." for row in found)


def public_table(rows: Rows) -> str:
    """Return for each other area how often a tenth of it is found, and how far the estimate without labels is off."""
    lines = [
        "| rows from | a tenth of them found | estimated F1 | true F1 | back-test distrusts the estimate |",
        "|---|---|---|---|---|",
    ]
    found = {(row["case"], row["metric"]): row["value"] for row in rows if not row.get("peer")}
    for (case, metric), value in found.items():
        area = re.fullmatch(r"10 % of traffic from (.+), windows of 1,000", case)
        if area and metric == "found_at_1%":
            whole = f"all traffic from {area[1]}, windows of 500"
            estimated, true = (found[whole, f"{which}_pos_neg_f1"] for which in ("estimated", "true"))
            caught = found[whole, "back_test_says_not_to_trust_it"]
            lines.append(f"| {area[1]} | {value:.1%} | {estimated:.2f} | {true:.2f} | {caught:.1%} |")
    return "\n".join(lines)


def summary_table(rows: Rows) -> str:
    """Return the main figures with their targets and the commits that were measured; the peer's in brackets."""
    lines = ["| case | runs | measured | target | commit |", "|---|---|---|---|---|"]
    for name, (pattern, metric) in MAIN.items():
        mine = [row for row in rows if row["metric"] == metric and re.fullmatch(pattern, row["case"])]
        cases = {row["case"] for row in mine if not row.get("peer")}
        peers = [row for row in rows if row.get("peer", "").startswith("evidently") and row["case"] in cases]
        if not mine:
            continue
        peer = f" (Evidently {_span(peers)})" if peers and mine[0]["unit"] == "share" else ""
        met = all(row["met"] is not False for row in mine)
        target = f"{mine[0]['target']}: {'met' if met else '**missed**'}" if mine[0]["target"] else ""
        commits = ", ".join(sorted({row["commit"] for row in mine}))
        lines.append(f"| {name} | {mine[0]['runs']:,} | {_span(mine)}{peer} | {target} | {commits} |")
    return "\n".join(lines)


def _span(rows: Rows) -> str:
    values = [row["value"] for row in rows]
    low, high = min(values), max(values)
    unit = rows[0]["unit"]
    if unit == "share":
        return f"{high:.1%}" if low == high else f"{low:.1%} to {high:.1%}"
    return f"{high:.3g} {unit}" if low == high else f"{low:.3g} to {high:.3g} {unit}"


def _cell(rows: Rows, case: str, metrics: tuple[str, ...], peer: str | None = None) -> str:
    """Return a share with its number of runs, **bold** where it misses its target; a dash where it is not measured."""
    for row in rows:
        if row["case"] == case and row["metric"] in metrics and row.get("peer") == peer:
            text = f"{row['value']:.1%}" + ("" if peer else f" of {row['runs']:,}")
            return f"**{text}**" if row["met"] is False else text
    return "-"


def between(page: str, name: str, shown: str) -> str:
    """Return the page with the text between the marks of a name replaced."""
    return re.sub(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda marks: f"{marks[1]}\n{shown}\n{marks[2]}", page,
        flags=re.DOTALL,
    )  # fmt: skip


def drift_rows() -> Rows:
    """Return the rows of the finished run, or of the cells so far where a later run is not complete."""
    cells = RESULTS / "cells" / "drift.json"
    if cells.exists():
        return [row for found in json.loads(cells.read_text()).values() for row in found]
    return committed_rows("drift")


def committed_rows(name: str) -> Rows:
    """Return the rows of a finished result, each with the commit that it measured."""
    result = json.loads((RESULTS / f"{name}.json").read_text())
    return [{"commit": result["commit"]} | row for row in result["rows"]]


def newest_rows(rows: Rows) -> Rows:
    """Return rows with those of finished results for the cases that they lack."""
    known = {row["case"] for row in rows}
    earlier: Rows = []
    for name in ("drift", "monitor_window"):
        if (RESULTS / f"{name}.json").exists():
            earlier += committed_rows(name)
    return [*rows, *(row for row in earlier if row["case"] not in known)]


def page_tables() -> dict[str, str]:
    """Draw the picture, and return the tables by the name of their marks."""
    found = {}
    for name in ("drift", "drift_public", "monitor_window", *SIDE_BY_SIDE):
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        if name == "drift":
            picture(result["rows"])
            aimed = {row["case"] for row in result["rows"] if row["target"]}  # the others are the picture's
            result["rows"] = [row for row in result["rows"] if row["case"] in aimed]
        found[name] = pivot(result, SIDE_BY_SIDE[name]) if name in SIDE_BY_SIDE else table(result)
    found["drift"] = f"![false alarms and detection]({PICTURE.name})\n\n{found['drift']}"
    rows = drift_rows()
    tables = "\n\n".join(each(rows) for each in (traffic_table, recurring_table, loss_line, range_table, found_table))
    public = json.loads((RESULTS / "drift_public.json").read_text())
    return {
        **found,
        "traffic": f"{tables}\n",
        "main": f"{summary_table(newest_rows(rows))}\n",
        "public": f"{public_table(public['rows'])}\n\nCommit {public['commit']}.\n",
    }


def main() -> None:
    """Draw the picture and put the tables between the pages' marks."""
    tables = page_tables()
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        for name, shown in tables.items():
            page = between(page, name, shown)
        path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
