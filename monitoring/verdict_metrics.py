"""Numbers of a verdict as Prometheus metrics, for node_exporter's textfile collector."""

from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from absa.records.verdict import Verdict
from absa.sinks import metric_label

_LEVELS: Final = {"FRESH": 0, "WATCH": 1, "STALE": 2}
_BY_VERSION: Final = (
    ("evergreen_window_predictions", "Predictions in the window", "rows"),
    ("evergreen_window_labels", "Labelled predictions in the window", "labelled"),
    ("evergreen_f1", "Measured mean F1 of the evaluated labels", "f1"),
    ("evergreen_f1_estimated", "Mean F1 of the evaluated labels estimated without labels", "estimated_f1"),
    ("evergreen_pos_neg_f1", "Measured pos/neg F1, of the default task", "pos_neg_f1"),
    ("evergreen_pos_neg_f1_estimated", "pos/neg F1 estimated without labels", "estimated_pos_neg_f1"),
    ("evergreen_promise", "Promised share of right answers among certain ones", "promise"),
    ("evergreen_coverage", "Share of answers that are certain under the promise", "coverage"),
    ("evergreen_promise_kept", "Share of right answers among the labelled certain ones", "kept_share"),
    ("evergreen_flip_rate", "Share of rows with an evaluated label that got another evaluated one", "flip_rate"),
)
_BY_PART: Final = (
    ("evergreen_part_f1", "Measured F1 of a class or segment", "f1"),
    ("evergreen_part_f1_estimated", "F1 of a class or segment estimated without labels", "estimated_f1"),
    ("evergreen_part_estimate_trusted", "1 if labels agree with the estimate", "trusted"),
)
_BY_REASON: Final = (
    ("evergreen_reason_statistic", "Measured statistic of a reason of the verdict", "statistic"),
    ("evergreen_reason_p_value", "p-value of a reason, corrected over all tests of the window", "p_value"),
    ("evergreen_reason_wrong_answers_a_day", "Wrong answers per day that a reason costs", "wrong_answers_a_day"),
)

_ACTIONS: Final = ("none", "retrain", "ask_labels", "skipped")
_STATES: Final = ("started", "completed", "failed")

Labelled = tuple[tuple[str, ...], float | None]


def exposition(history: Sequence[Verdict]) -> str:
    """Return the last verdict's numbers, and counts over the whole history given, oldest first."""
    registry = CollectorRegistry()
    if history:
        _add_last(registry, history[-1])
    actions = [verdict.action for verdict in history]
    attempts = [attempt.state for verdict in history for attempt in verdict.attempts]
    _count(registry, "evergreen_window_actions", "Windows by the action taken", "action", _ACTIONS, actions)
    _count(registry, "evergreen_retraining_attempts", "Retraining attempts by state", "state", _STATES, attempts)
    return generate_latest(registry).decode()


def _add_last(registry: CollectorRegistry, verdict: Verdict) -> None:
    level = [((verdict.version or "",), float(_LEVELS[verdict.verdict]))]
    _add(registry, "evergreen_verdict_level", "Last verdict: 0 FRESH, 1 WATCH, 2 STALE", ("version",), level)
    end = [((), verdict.window.end.timestamp())]
    _add(registry, "evergreen_verdict_window_end_seconds", "End of the last window, s since 1970", (), end)
    for name, help_text, field in _BY_VERSION:
        figures = (((version,), getattr(each, field)) for version, each in verdict.by_version.items())
        _add(registry, name, help_text, ("version",), figures)
    for name, help_text, field in _BY_PART:
        parts = (
            ((version, part), getattr(found, field))
            for version, each in verdict.by_version.items()
            for part, found in each.parts.items()
        )
        _add(registry, name, help_text, ("version", "part"), parts)
    for name, help_text, field in _BY_REASON:
        # The first reason of a kind counts: Gauge.set keeps the last.
        reasons = (((reason.kind,), getattr(reason, field)) for reason in reversed(verdict.reasons))
        _add(registry, name, help_text, ("kind",), reasons)


def _count(
    registry: CollectorRegistry, name: str, help_text: str, label: str, values: Sequence[str], found: Sequence[str]
) -> None:
    _add(registry, name, help_text, (label,), [((value,), found.count(value)) for value in values])


def _add(
    registry: CollectorRegistry, name: str, help_text: str, labels: tuple[str, ...], series: Iterable[Labelled]
) -> None:
    """Add a gauge with its known values; omit a gauge without values, which may belong to another task."""
    known = [(values, value) for values, value in series if value is not None]
    if not known:
        return
    gauge = Gauge(name, help_text, labels, registry=registry)
    for values, value in known:
        (gauge.labels(*map(metric_label, values)) if labels else gauge).set(value)
