"""The pictures of docs/design/monitoring.md from the committed result: python -m benchmarks.drift_curves."""

import json
import re
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "design" / "monitoring_curves.png"


def main() -> None:
    """Draw false alarms against window size, and detection by case, ours beside Evidently's default."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "drift.json").read_text())["rows"]
    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    lines: dict[str, list[tuple[int, float, float, float]]] = {}
    for row in rows:
        size = re.search(r"no drift, windows of (\d+)", row["case"])
        if size:
            name = row.get("peer") or row["metric"].replace("_", " ")
            lines.setdefault(name, []).append((int(size[1]), row["value"], row["low"], row["high"]))
    for name, points in lines.items():
        sizes, values, lows, highs = zip(*sorted(points), strict=True)
        errors = [
            [v - low for v, low in zip(values, lows, strict=True)],
            [h - v for v, h in zip(values, highs, strict=True)],
        ]
        left.errorbar(sizes, values, yerr=errors, marker="o", capsize=3, label=name)
    for rate in (0.01, 0.05):
        left.axhline(rate, color="lightgray", linestyle=":")
    left.set_xscale("log")
    left.set_yscale("symlog", linthresh=0.02)
    left.set_ylim(0, 1)
    left.set_xlabel("rows in the window (reference 2,000)")
    left.set_ylabel("windows without drift that alarm")
    left.legend(fontsize=8)
    found = [row for row in rows if row["metric"] in ("found_at_1%", "found")]
    cases = list(dict.fromkeys(row["case"] for row in found))
    for offset, peer in ((-0.2, False), (0.2, True)):
        values = [
            next(r["value"] for r in found if r["case"] == case and bool(r.get("peer")) == peer) for case in cases
        ]
        label = "Evidently's default" if peer else "ours at 1 % false alarms"
        right.barh([k + offset for k in range(len(cases))], values, height=0.38, label=label)
    right.set_yticks(range(len(cases)), [case.replace(", windows", ",\nwindows") for case in cases], fontsize=8)
    right.set_xlabel("windows in which the drift is found")
    right.set_xlim(0, 1)
    right.legend(fontsize=8)
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    main()
