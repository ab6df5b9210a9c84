"""A verdict's numbers as Prometheus metrics, in the text format that node_exporter's textfile collector reads.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Sequence
from typing import Final

from absa.sinks import metric_label
from monitoring.verdicts import Verdict

_LEVELS: Final = {"FRESH": 0, "WATCH": 1, "STALE": 2}

Series = tuple[dict[str, str], float]


def exposition(history: Sequence[Verdict]) -> str:
    """Return the last verdict's numbers, and counts over the whole history given, oldest first."""
    lines: list[str] = []
    if history:
        lines += _last(history[-1])
    for action in ("none", "retrain", "ask_labels", "skipped"):
        count = sum(verdict.action == action for verdict in history)
        lines += _metric(
            "evergreen_window_actions", "Windows by what was done about them", [({"action": action}, count)],
            described=action == "none",
        )  # fmt: skip
    attempts = [attempt.state for verdict in history for attempt in verdict.attempts]
    series: list[Series] = [
        ({"state": state}, float(attempts.count(state))) for state in ("started", "completed", "failed")
    ]
    return "\n".join([*lines, *_metric("evergreen_retraining_attempts", "Attempts by their state", series)]) + "\n"


def _last(verdict: Verdict) -> list[str]:
    version = {"version": verdict.version or ""}
    lines = [
        *_metric("evergreen_verdict_level", "0 FRESH, 1 WATCH, 2 STALE", [(version, _LEVELS[verdict.verdict])]),
        *_metric("evergreen_verdict_window_end_seconds", "Its window's end", [({}, verdict.window.end.timestamp())]),
    ]
    by_version = list(verdict.by_version.items())
    for name, help_text, field in (
        ("evergreen_window_predictions", "Predictions in the window", "rows"),
        ("evergreen_window_labels", "Labelled predictions in the window", "labelled"),
        ("evergreen_pos_neg_f1", "Measured pos/neg F1", "pos_neg_f1"),
        ("evergreen_pos_neg_f1_estimated", "pos/neg F1 estimated without labels", "estimated_pos_neg_f1"),
        ("evergreen_flip_rate", "Positive answered as negative or the reverse", "flip_rate"),
    ):
        lines += _metric(
            name, help_text, [({"version": v}, value) for v, figures in by_version
                              if (value := getattr(figures, field)) is not None],
        )  # fmt: skip
    for name, help_text, field in (
        ("evergreen_part_f1", "Measured F1 of a class or segment", "f1"),
        ("evergreen_part_f1_estimated", "F1 of a class or segment estimated without labels", "estimated_f1"),
        ("evergreen_part_estimate_trusted", "Whether labels bear the estimate out", "trusted"),
    ):
        lines += _metric(
            name, help_text, [({"version": v, "part": part}, float(value)) for v, figures in by_version
                              for part, found in figures.parts.items() if (value := getattr(found, field)) is not None],
        )  # fmt: skip
    reasons = verdict.reasons
    for name, help_text, field in (
        ("evergreen_reason_statistic", "What a reason of the verdict measured", "statistic"),
        ("evergreen_reason_p_value", "Its p-value, corrected over all tests of the window", "p_value"),
        ("evergreen_reason_wrong_answers_a_day", "What it costs", "wrong_answers_a_day"),
    ):
        series: dict[str, float] = {}
        for reason in reasons:
            value = getattr(reason, field)
            if value is not None:
                series.setdefault(reason.kind, value)
        lines += _metric(name, help_text, [({"kind": kind}, value) for kind, value in series.items()])
    return lines


def _metric(name: str, help_text: str, series: Iterable[Series], *, described: bool = True) -> list[str]:
    samples = [f"{name}{_labels(labels)} {float(value):.10g}" for labels, value in series]
    if not samples or not described:
        return samples
    return [f"# HELP {name} {help_text}", f"# TYPE {name} gauge", *samples]


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{metric_label(value)}"' for key, value in labels.items()) + "}"
