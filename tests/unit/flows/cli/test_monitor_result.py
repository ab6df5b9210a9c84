"""Result of a monitoring as the user reads it."""

from typing import Any

import pytest

from flows.cli.live_commands import monitor_result

FOUND: dict[str, Any] = {
    "window": "20261130T120000.000000Z_20261130T130000.000000Z", "version": "3", "verdict": "STALE",
    "action": "retrain", "reasons": ["F1 fell."], "report": "http://127.0.0.1:8001/x", "flow_run": None,
}  # fmt: skip


def test_verdict_has_reasons_and_report() -> None:
    result = monitor_result(FOUND)
    assert result.lines == ("STALE; action: retrain", "  F1 fell.", "  report: http://127.0.0.1:8001/x")
    assert (result.facts["start"], result.facts["version"]) == ("2026-11-30T12:00:00.000000Z", "3")
    assert monitor_result(FOUND, served=False).lines[-1].endswith("which Evidently shows once `evergreen up` runs")


@pytest.mark.parametrize(
    ("change", "training", "following"),
    [
        ({}, None, "evergreen retrain"),
        ({"verdict": "FRESH"}, None, "nothing to do"),
        ({"verdict": "WATCH"}, None, "evergreen labels export"),
        ({"flow_run": "run-2"}, None, "evergreen status shows the retraining"),
        ({"flow_run": "run-2"}, {"action": "skipped", "reason": "few labels"}, "evergreen labels export"),
    ],
)
def test_verdict_names_next_step(change: dict[str, Any], training: Any, following: str) -> None:
    result = monitor_result(FOUND | change, training=training)
    assert result.following.startswith(following)
    assert ("the retraining ran here:" in result.lines) == (training is not None)
