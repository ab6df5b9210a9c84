"""A promise in live traffic: coverage, the share that was right, and the alarm when it is broken."""

import numpy as np
import polars as pl
import pytest

from absa.policies import StalenessPolicy
from absa.records.verdict import VersionFigures
from absa.task import ABSA
from monitoring.drift.sequential import RightAnswers, SlowLoss
from monitoring.kept_promise import KeptPromise, kept_promise, recorded_answers
from monitoring.staleness import StalenessEvidence, judge_staleness

POLICY = StalenessPolicy()
EVIDENCE = StalenessEvidence(
    version="1", rows=1_000, labelled=400, reference_rows=1_000, drift=None, measured=None, estimated=None,
    back_test=None, new_labels=500,
)  # fmt: skip


def window(right: float, *, rows: int = 1_000, seed: int = 0) -> pl.DataFrame:
    """Answers of which 70 % are certain; customers say of 40 % whether they were right."""
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random(rows) < right, 0, 2)
    said = np.where(rng.random(rows) < 0.4, truth, None)
    n = [None] * rows
    return pl.DataFrame(
        {
            "request_id": [f"{i}" for i in range(rows)], "label": [0] * rows, "scores": [[0.9, 0.05, 0.05]] * rows,
            "text": [f"text {i}" for i in range(rows)], "aspect": ["text"] * rows, "segment": n, "unit_hash": n,
            "unit_given": [False] * rows, "feedback_label": said.tolist(), "sampling_probability": n,
            "at": [0] * rows, "feedback_at": n, "certain": (rng.random(rows) < 0.7).tolist(),
        },
        schema_overrides={
            "at": pl.Datetime("us", "UTC"), "feedback_at": pl.Datetime("us", "UTC"), "segment": pl.String,
            "unit_hash": pl.String, "sampling_probability": pl.Float64, "feedback_label": pl.Int64,
        },
    )  # fmt: skip


def test_kept_promise_has_coverage_and_no_alarm() -> None:
    found = kept_promise(window(0.97), 0.95, POLICY, ABSA)
    assert found is not None
    assert found.coverage == pytest.approx(0.7, abs=0.05)
    assert found.right / found.labelled > 0.94
    assert not found.test.alarm


def test_broken_promise_alarms_over_windows() -> None:
    """Three points below the promise: not in one window, surely over the windows before."""
    assert not kept_promise(window(0.92), 0.95, POLICY, ABSA).test.alarm  # type: ignore[union-attr]
    earlier = [RightAnswers(right=258, labelled=280)] * 6
    assert kept_promise(window(0.92), 0.95, POLICY, ABSA, earlier=earlier).test.alarm  # type: ignore[union-attr]


def test_wrong_answers_reported_more_often_break_nothing() -> None:
    """Kept at 97 %, but wrong answers are reported four times as often."""
    earlier = [RightAnswers(right=249, labelled=280)] * 6
    found = kept_promise(window(0.89), 0.95, POLICY, ABSA, earlier=earlier, report_ratio=4.0)
    assert found is not None
    assert not found.test.alarm


@pytest.mark.parametrize("promise", [None, 0.95])
def test_answers_without_a_promise_are_not_judged(promise: float | None) -> None:
    rows = window(0.9).with_columns(certain=pl.lit(None, pl.Boolean))
    assert kept_promise(rows, promise, POLICY, ABSA) is None


def test_record_of_another_promise_is_not_added() -> None:
    figures = VersionFigures(
        rows=9, labelled=9, f1=None, estimated_f1=None, promise=0.95, certain_right=8, certain_labelled=9
    )
    assert figures.kept_share == pytest.approx(8 / 9)
    assert recorded_answers(figures, 0.95) == RightAnswers(right=8, labelled=9)
    assert recorded_answers(figures, 0.9) is None
    assert recorded_answers(None, 0.95) is None


@pytest.mark.parametrize(("alarm", "verdict"), [(True, "STALE"), (False, "FRESH")])
def test_broken_promise_makes_a_version_stale(alarm: bool, verdict: str) -> None:
    kept = KeptPromise(
        promise=0.95, answers=1_000, certain=700, right=252, labelled=280, test=SlowLoss(evidence=500.0, alarm=alarm)
    )
    decision = judge_staleness(StalenessEvidence(**{**vars(EVIDENCE), "promise": kept}), POLICY)
    assert decision.verdict == verdict
    if alarm:
        assert decision.reasons[0].kind == "broken_promise"
        assert "95% promised" in decision.reasons[0].sentence
        assert "252 of 280 labelled ones (70% of the answers are certain)" in decision.reasons[0].sentence
