"""Picture of the quality of all recipes, as the paper on training shows it."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Row

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "quality.svg"
TARGET = 0.785  # pos/neg F1


def draw(rows: Sequence[Row]) -> None:
    """Draw pos/neg F1 of each recipe with its range over cells; filled where there are five cells or more."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.metric == "pos_neg_f1" and ": " in row.case][::-1]
    figure = Figure(figsize=(7, 0.3 * len(shown) + 0.9), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for height, row in enumerate(shown):
        axes.plot([row.low, row.high], [height, height], color="tab:gray", linewidth=1)
        axes.plot(row.value, height, "o", color="tab:blue", fillstyle="full" if row.runs >= 5 else "none")
    axes.axvline(TARGET, color="tab:red", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(shown)), [row.case.partition(": ")[2] for row in shown], fontsize=7)
    axes.set_xlabel("pos/neg F1", fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    with rc_context({"svg.hashsalt": "quality"}):  # equal figures, equal file
        figure.savefig(PICTURE, metadata={"Date": None})
