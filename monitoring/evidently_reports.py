"""Reports of windows in Evidently: one per window in a project, with the policy's verdict on top.

Evidently draws and stores reports. It does not decide: its default drift tests alarm on small windows and miss drift in
large ones. Importing Evidently takes seconds, so it happens on the first report. A window that is empty, tiny, of one
class or all null gets a report that states this.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from absa.errors import UnavailableError
from absa.proxies import require_route
from absa.records.schema import iso
from absa.records.verdict import NO_MATCH, PartFigures, Verdict
from absa.records.windows import WindowData
from absa.sinks import markdown, plotly_label
from absa.task import ABSA, TaskSpec

MAX_REPORT_ROWS: Final = 20_000
DESCRIPTORS: Final = ("words", "characters", "share of signs and digits")
"""Properties of texts that are drawn. Texts themselves are not drawn."""
_FIGURES: Final = {"measured": "f1", "estimated": "estimated_f1"}
_LEVELS: Final = {"FRESH": 0, "WATCH": 1, "STALE": 2}
_MIN_DRAWN: Final = 2


class EvidentlyReporter:
    """Reports into an Evidently workspace: a folder, or a running server by its http(s) address.

    Args:
        workspace: the folder (made if absent) or address.
        task: names the project, which is created with its panels if it does not exist.
        ui_url: address of the workspace's UI; `report` then returns an address in it.
    """

    def __init__(self, workspace: str | Path, *, task: TaskSpec = ABSA, ui_url: str | None = None) -> None:
        self._address = str(workspace)
        self._task = task
        self._remote = self._address.startswith(("http://", "https://"))
        self._ui_url = (ui_url or (self._address if self._remote else None) or "").rstrip("/")
        self._workspace: Any = None
        self._project: Any = None

    def report(
        self, data: WindowData, reference: pl.DataFrame | None, verdict: Verdict, *, replaces: str | None = None
    ) -> str | None:
        """Write the window's report; it replaces an earlier one with the address `replaces`.

        Returns:
            The report's address in the UI, or the snapshot's path without a UI.

        Raises:
            UnavailableError: the workspace cannot be written or is unavailable.
        """
        os.environ.setdefault("DO_NOT_TRACK", "1")
        try:
            self._open()
            snapshot = build_report(data, reference, verdict, self._task)
            if replaces is not None and not self._remote:
                self._delete(replaces.rstrip("/").rpartition("/")[2].removesuffix(".json"))
            written = self._workspace.add_run(self._project.id, snapshot, include_data=False, name=snapshot.get_name())
        except OSError as error:  # errors of the library requests are OSErrors too
            raise UnavailableError(f"Evidently's workspace {self._address} is unavailable: {error}") from error
        if self._ui_url:
            return f"{self._ui_url}/projects/{self._project.id}/reports/{written.id}"
        return str(Path(self._address).absolute() / str(self._project.id) / "snapshots" / f"{written.id}.json")

    def _open(self) -> None:
        if self._project is not None:
            return
        from evidently.ui.workspace import RemoteWorkspace, Workspace

        if self._remote:
            require_route(self._address, os.environ)
        self._workspace = RemoteWorkspace(self._address) if self._remote else Workspace.create(self._address)
        known = self._workspace.search_project(self._task.name)
        self._project = known[0] if known else _new_project(self._workspace, self._task)

    def _delete(self, run: str) -> None:
        if run in {str(known) for known in self._workspace.list_runs(self._project.id)}:
            self._workspace.delete_run(self._project.id, run)


def _new_project(workspace: Any, task: TaskSpec) -> Any:
    """Return a project with panels over time: quality, traffic and verdicts."""
    from evidently.sdk.models import PanelMetric
    from evidently.sdk.panels import bar_plot_panel, line_plot_panel

    def mean_of(column: str) -> Any:
        return PanelMetric(legend=column, metric="MeanValue", metric_labels={"column": column})

    project = workspace.create_project(task.name, description="Served traffic, one report per window.")
    project.dashboard.add_panel(
        line_plot_panel(
            title=f"{task.metric_name} per window",
            description="measured on labels, and estimated from calibrated scores",
            values=[mean_of(f"{kind} {task.metric_name}") for kind in _FIGURES],
        )
    )
    project.dashboard.add_panel(
        line_plot_panel(
            title="Predicted classes and confidence",
            values=[mean_of(f"{name} share") for name in task.labels] + [mean_of("confidence")],
            size="half",
        )
    )
    project.dashboard.add_panel(
        bar_plot_panel(title="Verdict (0 fresh, 1 watch, 2 stale)", values=[mean_of("verdict level")], size="half")
    )
    project.dashboard.add_panel(
        bar_plot_panel(title="Predictions and labels", values=[mean_of("predictions"), mean_of("labels")], size="half")
    )
    project.dashboard.add_panel(line_plot_panel(title="Words in a text", values=[mean_of("words")], size="half"))
    project.save()
    return project


def _compared_with(verdict: Verdict) -> list[str]:
    used = verdict.reference
    if used is None:
        return []
    if used.matching == NO_MATCH:
        return [f"Compared with {used.rows} reference rows of other hours."]
    return [f"Compared with {used.rows} reference rows of {used.windows} windows: {used.matching}."]


def verdict_text(verdict: Verdict, data: WindowData, task: TaskSpec = ABSA) -> str:
    """Return the verdict as Markdown for the top of the report. It names segments, never a customer's text."""
    lines = [
        f"**{verdict.verdict}** for version {verdict.version}, {iso(verdict.window.start)} to "
        f"{iso(verdict.window.end)}. Read: {data.how}.",
        *_compared_with(verdict),
        "",
        *(f"- {markdown(reason.sentence)}" for reason in verdict.reasons),
        "",
        f"Action: **{verdict.action}**. {markdown(verdict.action_reason)}",
        "",
    ]
    for version, figures in verdict.by_version.items():
        measured = "no labels yet" if figures.f1 is None else f"measured {task.metric_name} {figures.f1:.3f}"
        promised = figures.estimated_f1
        estimated = "" if promised is None else f", estimated without labels {promised:.3f}"
        lines.append(
            f"- version {version}: {figures.rows} predictions, {figures.labelled} labelled, {measured}{estimated}"
        )
        lines += [f"  - {markdown(name)}: {_part_text(part)}" for name, part in figures.parts.items()]
    return "\n".join(lines)


def _part_text(part: PartFigures) -> str:
    if part.estimated_f1 is None:
        return f"{part.rows} predictions"
    said = f"estimated F1 {part.estimated_f1:.3f} ({part.estimated_low:.3f} to {part.estimated_high:.3f})"
    if part.f1 is not None:
        said += f", measured {part.f1:.3f} ({part.low:.3f} to {part.high:.3f}) on {part.labelled} labels"
    return said + ("; labels contradict the estimate: do not trust it" if part.trusted is False else "")


def build_report(data: WindowData, reference: pl.DataFrame | None, verdict: Verdict, task: TaskSpec = ABSA) -> Any:
    """Return Evidently's snapshot of a window. Parts that cannot be drawn are left out, so no window makes it fail.

    Columns that are all null, and quality with only one labelled class, crash Evidently's own metrics, so they are not
    passed to it.
    """
    from evidently.core.report import Snapshot
    from evidently.legacy.renderers.html_widgets import text_widget

    rows = data.rows if verdict.version is None else data.rows.filter(pl.col("model_version") == verdict.version)
    current = _drawn(rows, task)
    before = None if reference is None else _drawn(reference, task)
    figures = _run_figures(data, verdict, current, task)
    parts = [part for part in (_run_drift(current, before), _run_quality(current, before)) if part is not None]
    notes = [] if parts else ["The window has too few predictions of this version to draw."]
    model = figures.to_snapshot_model()
    model.widgets = [
        text_widget(title="Verdict", text="\n\n".join([verdict_text(verdict, data, task), *notes])),
        *(widget for part in parts for widget in part.to_snapshot_model().widgets),
    ]
    for part in parts:
        other = part.to_snapshot_model()
        model.metric_results |= other.metric_results
        model.top_level_metrics = [*model.top_level_metrics, *other.top_level_metrics]
    return Snapshot.load_model(model)


def _drawn(rows: pl.DataFrame, task: TaskSpec) -> pl.DataFrame:
    """Return the columns that Evidently draws, without texts: reports hold no customer's words."""
    rows = rows if rows.height <= MAX_REPORT_ROWS else rows.sample(MAX_REPORT_ROWS, seed=0)
    names = dict(enumerate(task.labels))
    characters = pl.col("text").str.len_chars()
    return rows.select(
        pl.col("label").replace_strict(names, default=None, return_dtype=pl.String).alias("predicted"),
        pl.col("feedback_label").replace_strict(names, default=None, return_dtype=pl.String).alias("truth"),
        pl.col("scores").cast(pl.List(pl.Float64)).list.max().alias("confidence"),
        pl.col("text").str.split(" ").list.len().cast(pl.Float64).alias("words"),
        characters.cast(pl.Float64).alias("characters"),
        (pl.col("text").str.count_matches(r"[^\pL\s]") / characters).fill_nan(None).alias("share of signs and digits"),
        pl.col("latency_ms").cast(pl.Float64),
        pl.col("segment").cast(pl.String).map_elements(plotly_label, return_dtype=pl.String),
    )


def _run_figures(data: WindowData, verdict: Verdict, current: pl.DataFrame, task: TaskSpec) -> Any:
    """Return one row of figures for the panels over time; unknown figures are left out."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import MeanValue

    mine = verdict.by_version.get(verdict.version or "")
    figures: dict[str, float | None] = {
        "verdict level": float(_LEVELS[verdict.verdict]),
        "predictions": float(data.total if mine is None else mine.rows),
        "labels": float(0 if mine is None else mine.labelled),
    }
    for kind, name in _FIGURES.items():
        figures[f"{kind} {task.metric_name}"] = None if mine is None else getattr(mine, name)
    if current.height:
        for name in task.labels:
            figures[f"{name} share"] = float((current["predicted"] == name).fill_null(value=False).mean() or 0.0)  # type: ignore[arg-type]
        for column in ("confidence", "words"):
            if current[column].null_count() < current.height:
                figures[column] = float(np.nanmean(current[column].drop_nulls().to_numpy()))
    known = {name: value for name, value in figures.items() if value is not None and np.isfinite(value)}
    frame = _pandas(pl.DataFrame({name: [value] for name, value in known.items()}))
    dataset = Dataset.from_pandas(frame, data_definition=DataDefinition(numerical_columns=list(known)))
    return Report([MeanValue(column=name) for name in known]).run(
        dataset,
        None,
        timestamp=verdict.window.end.replace(tzinfo=None),
        name=f"{verdict.window.start:%Y-%m-%d %H:%M:%S} {verdict.verdict}",
        tags=[verdict.verdict, f"version {verdict.version}"],
        metadata={"window": verdict.window.key, "verdict": verdict.verdict, "action": verdict.action},
    )


def _run_drift(current: pl.DataFrame, before: pl.DataFrame | None) -> Any:
    """Return the distributions of window and reference; None if there is too little to draw."""
    from evidently import DataDefinition, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import ValueStats

    def present(frame: pl.DataFrame, column: str) -> bool:
        return frame.height - frame[column].null_count() >= _MIN_DRAWN

    def kept(columns: Sequence[str]) -> list[str]:
        return [c for c in columns if present(current, c) and (before is None or present(before, c))]

    if before is not None and before.height < _MIN_DRAWN:
        before = None
    numbers = kept(("confidence", *DESCRIPTORS, "latency_ms"))
    categories = kept(("predicted", "segment"))
    columns = [*categories, *numbers]
    if not columns:
        return None
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    now, then = _dataset(current.select(columns), definition), None
    metrics: list[Any] = []
    if before is not None:
        then = _dataset(before.select(columns), definition)
        metrics = [
            ValueDrift(column=c, method="psi") for c in columns if current[c].n_unique() + before[c].n_unique() > 2
        ]
    metrics += [ValueStats(column=c) for c in columns]
    return Report(metrics).run(now, then)


def _run_quality(current: pl.DataFrame, before: pl.DataFrame | None) -> Any:
    """Return the classification quality of labelled rows; None if fewer than two classes are labelled.

    Evidently takes rows with two labels as binary, and then needs one of them as the positive one.
    """
    from evidently import BinaryClassification, DataDefinition, MulticlassClassification, Report
    from evidently.metrics import F1ByLabel
    from evidently.presets import ClassificationQuality

    def labelled(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.select("truth", "predicted").drop_nulls()

    def drawable(frame: pl.DataFrame) -> bool:
        return frame.height >= _MIN_DRAWN and frame["truth"].n_unique() > 1

    def occurring(frame: pl.DataFrame) -> set[str]:
        return {*frame["truth"], *frame["predicted"]}

    now = labelled(current)
    if not drawable(now):
        return None
    found = occurring(now)
    two = len(found) == 2

    def comparable(frame: pl.DataFrame) -> bool:
        same_kind = occurring(frame) == found or not (two or len(occurring(frame)) == 2)
        return drawable(frame) and set(frame["truth"]) >= set(now["truth"]) and same_kind

    columns = {"target": "truth", "prediction_labels": "predicted"}
    kind = BinaryClassification(**columns, pos_label=max(found)) if two else MulticlassClassification(**columns)
    definition = DataDefinition(categorical_columns=["truth", "predicted"], classification=[kind])
    then = None if before is None else labelled(before)
    reference = _dataset(then, definition) if then is not None and comparable(then) else None
    return Report([ClassificationQuality(), F1ByLabel()]).run(_dataset(now, definition), reference)


def _dataset(frame: pl.DataFrame, definition: Any) -> Any:
    from evidently import Dataset

    return Dataset.from_pandas(_pandas(frame), data_definition=definition)


def _pandas(frame: pl.DataFrame) -> Any:
    import pandas as pd

    return pd.DataFrame({column: frame[column].to_list() for column in frame.columns})
