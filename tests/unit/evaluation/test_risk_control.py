"""Least scores of certain answers: the promise is kept, with confidence, and nothing is promised on few rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from absa.evaluation.risk_control import Promises, control_risk
from absa.inference.certainty import is_certain, percent_of, read_least_scores
from benchmarks.monitoring.promise import IN_DOMAIN, Traffic, draw, kept


def test_promise_is_kept_in_domain() -> None:
    """Of 40 versions, one in ten may break a promise of 90 %; 9 are beyond chance."""
    rng = np.random.default_rng(0)
    found = [kept(rng, IN_DOMAIN, 2_000)[0.9] for _ in range(40)]
    assert sum(precision < 0.885 for _, precision in found) < 9
    assert np.median([coverage for coverage, _ in found]) > 0.3


def test_version_that_is_too_sure_breaks_promise() -> None:
    rng = np.random.default_rng(0)
    coverage, precision = kept(rng, Traffic(surer=2.0), 2_000)[0.9]
    assert coverage > 0.5
    assert precision < 0.9


def test_nothing_is_promised_on_few_rows() -> None:
    scores, labels = draw(np.random.default_rng(0), IN_DOMAIN, 60)
    found = control_risk(scores, labels, percents=[95])
    assert found == Promises(rows=60, confidence=0.9, least_scores={"95": [None, None, None]})


def test_higher_promise_needs_higher_scores() -> None:
    scores, labels = draw(np.random.default_rng(1), IN_DOMAIN, 8_000)
    found = control_risk(scores, labels).least_scores
    assert all(low <= high for low, high in zip(found["80"], found["90"], strict=True))  # type: ignore[operator]


def test_label_that_is_always_wrong_is_never_certain() -> None:
    scores = np.tile([0.9, 0.05, 0.05], (1_000, 1))
    assert control_risk(scores, np.ones(1_000, dtype=np.int64), percents=[70]).least_scores["70"] == [None] * 3


def test_least_scores_come_from_the_report(tmp_path: Path) -> None:
    report = {"evidence": {"promises": {"least_scores": {"95": [0.9, None, 0.8]}}}}
    (tmp_path / "gate.json").write_text(json.dumps(report))
    least = read_least_scores(tmp_path, 0.945)
    assert least == (0.9, None, 0.8)
    assert [is_certain([s, 1 - s, 0.0], 0, least) for s in (0.95, 0.85)] == [True, False]
    assert is_certain([0.0, 1.0, 0.0], 1, least) is False
    assert is_certain([0.0, 1.0, 0.0], 1, None) is None


@pytest.mark.parametrize("report", ["", '{"verdict": "PROMOTE"}', '{"evidence": {"promises": null}}'])
def test_report_without_promises_promises_nothing(tmp_path: Path, report: str) -> None:
    (tmp_path / "gate.json").write_text(report)
    assert read_least_scores(tmp_path, 0.95) is None
    assert read_least_scores(tmp_path, None) is None


def test_promise_is_rounded_up() -> None:
    assert [percent_of(promise) for promise in (0.95, 0.951, 0.7)] == [95, 96, 70]
