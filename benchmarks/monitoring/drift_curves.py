"""Tables and picture of docs/design/monitoring_measured.md from committed results: `python -m benchmarks drift_curves`.

The picture stands in monitoring.md too.
"""

import json
import re
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.table import table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "design" / "monitoring_measured.md"
PICTURE = PAGE.with_name("monitoring_curves.svg")

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
    figure.savefig(PICTURE, metadata={"Date": None})


def main() -> None:
    """Draw the picture and put the tables between the page's marks."""
    page = PAGE.read_text(encoding="utf-8")
    for name in ("drift", "drift_public", "monitor_window"):
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        if name == "drift":
            picture(result["rows"])
            aimed = {row["case"] for row in result["rows"] if row["target"]}  # the others are the picture's
            result["rows"] = [row for row in result["rows"] if row["case"] in aimed]
        shown = table(result)
        if name == "drift":
            shown = f"![false alarms and detection]({PICTURE.name})\n\n{shown}"
        page = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
            lambda marks, shown=shown: f"{marks[1]}\n{shown}\n{marks[2]}",  # type: ignore[misc]
            page,
            flags=re.DOTALL,
        )
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
