"""Pictures of a run as PNG: confusion matrix, learning curve, reliability diagram. Uses no global plotting state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from absa.evaluation.metrics import Metrics
from absa.sinks import matplotlib_label
from absa.task import ABSA, TaskSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE_INCHES: Final = (5.4, 4.4)
_LABEL_INCHES: Final = 0.9  # per label of a confusion matrix with many labels
_MOST_COUNTED: Final = 12  # number of labels above which a confusion matrix shows no numbers
_DPI: Final = 120
_COLOUR: Final = "#2f6f4f"
_SECOND: Final = "#c2762d"


def save_confusion_matrix(metrics: Metrics, path: Path, task: TaskSpec = ABSA) -> Path:
    """Draw the confusion matrix with numbers of rows and with shares of the true label."""
    counted = task.n_labels <= _MOST_COUNTED
    least_inches = (_LABEL_INCHES if counted else _LABEL_INCHES / 4) * task.n_labels
    figure, axes = _figure((max(_SIZE_INCHES[0], least_inches + 2.0), max(_SIZE_INCHES[1], least_inches + 1.0)))
    shares = [[count / max(sum(row), 1) for count in row] for row in metrics.confusion]
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    for true, row in enumerate(metrics.confusion):
        for predicted, count in enumerate(row if counted else ()):
            share = shares[true][predicted]
            text = f"{count}\n{share:.0%}"
            axes.text(predicted, true, text, ha="center", va="center", color="white" if share > 0.55 else "black")
    names = [matplotlib_label(label) for label in task.labels]
    axes.set_xticks(range(len(names)), names, rotation=0 if task.is_default else 45)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"{metrics.rows:,} test rows, {task.metric_name} {metrics.f1:.3f}, accuracy {metrics.accuracy:.3f}")
    return _save(figure, path)


def save_learning_curve(history: Sequence[Mapping[str, Any]], path: Path, task: TaskSpec = ABSA) -> Path:
    """Draw training loss and validation F1 over steps.

    Args:
        history: progress events of a training in order, with step and loss, some of them with validation_f1.
        path: path of the PNG.
        task: gives the name of the metric.
    """
    losses = [(int(each["step"]), float(each["loss"])) for each in history if each.get("loss") is not None]
    validation = [
        (int(each["step"]), float(each["validation_f1"])) for each in history if each.get("validation_f1") is not None
    ]
    figure, axes = _figure()
    axes.plot([step for step, _ in losses], [loss for _, loss in losses], color=_COLOUR, label="training loss")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0)
    handles, names = axes.get_legend_handles_labels()
    if validation:
        second = axes.twinx()
        second.plot(
            [step for step, _ in validation],
            [score for _, score in validation],
            color=_SECOND,
            marker="o",
            label=f"validation {task.metric_name}",
        )
        second.set_ylim(0, 1)
        second.set_ylabel(f"validation {task.metric_name}")
        more_handles, more_names = second.get_legend_handles_labels()
        handles, names = handles + more_handles, names + more_names
    axes.legend(handles, names, loc="center right", frameon=False)
    axes.set_title("Learning curve")
    return _save(figure, path)


def _figure(inches: tuple[float, float] = _SIZE_INCHES) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=_DPI, layout="constrained")
    return figure, figure.subplots()


def _save(figure: "Figure", path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).print_png(str(path))
    return path
