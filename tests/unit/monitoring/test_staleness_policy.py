"""The staleness policy's table of cases."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from absa.policies import StalenessPolicy
from absa.records.verdict import Reason
from monitoring.drift.detect import DriftFinding, DriftReport
from monitoring.drift.sequential import SlowLoss
from monitoring.performance import BackTest, Estimate, Loss
from monitoring.staleness import StalenessEvidence, judge_staleness

POLICY = StalenessPolicy(cooldown_s=600.0, min_new_labels=100)


def figure(f1: float, rows: int = 300) -> Estimate:
    return Estimate(f1=f1, low=f1 - 0.04, high=f1 + 0.04, standard_error=0.02, rows=rows)


def lost(points: float, p_value: float, *, rows: int = 300) -> Loss:
    loss = points / 100
    return Loss(
        baseline=figure(0.8, 500),
        now=figure(0.8 - loss, rows),
        tolerated=0.03,
        loss=loss,
        low=loss - 0.05,
        high=loss + 0.05,
        p_value=p_value,
    )


def drift(effect: float, *, drifted: bool = True, kind: str = "segment_mix") -> DriftReport:
    finding = DriftFinding(
        kind=kind,
        statistic=9.0,
        threshold=3.0,
        p_value=0.0001,
        p_adjusted=0.001 if drifted else 0.5,
        effect=effect,
        drifted=drifted,
        sentence="The traffic changed.",
    )
    return DriftReport(findings=(finding,), reference_rows=1000, current_rows=500)


CALM = StalenessEvidence(
    version="7",
    rows=500,
    labelled=300,
    reference_rows=1000,
    drift=drift(0.01, drifted=False),
    measured=lost(0, 0.9),
    estimated=lost(0, 0.9),
    back_test=BackTest(trusted=True, gap=0.0, sentence="The estimate agrees with 300 labels."),
    new_labels=300,
    rows_per_day=1000.0,
)
SLOW = SlowLoss(evidence=500.0, alarm=True)
JOINED = Reason(kind="mix:joined", sentence="33% of the predictions are for units that joined.")
MIXED, OTHER = frozenset({"segment_mix"}), frozenset({"aspect_mix"})
NO_HISTORY = replace(CALM, matching="Saturdays at 10:00 UTC", comparing_from=datetime(2026, 12, 6, 10, tzinfo=UTC))
STALE = replace(CALM, measured=lost(15, 0.0001))
NOT_TRUSTED = BackTest(trusted=False, gap=0.2, sentence="The estimate is contradicted by 300 labels.")


@pytest.mark.parametrize(
    ("case", "evidence", "verdict", "action"),
    [
        ("calm", CALM, "FRESH", "none"),
        ("no traffic", replace(CALM, rows=0, labelled=0), "WATCH", "none"),
        ("as few rows as on other nights", replace(CALM, rows=60, usual_rows=80.0), "FRESH", "none"),
        ("far fewer rows than on other nights", replace(CALM, rows=30, usual_rows=80.0), "WATCH", "none"),
        ("a tiny window with a disaster in it", replace(STALE, rows=40), "WATCH", "none"),
        ("labels show a loss", STALE, "STALE", "retrain"),
        ("a large loss on a handful of labels", replace(CALM, measured=lost(15, 0.0001, rows=20)), "FRESH", "none"),
        ("a loss that chance may make", replace(CALM, measured=lost(6, 0.2)), "FRESH", "none"),
        (
            "estimated loss, no labels",
            replace(CALM, measured=None, back_test=None, estimated=lost(12, 0.001)),
            "STALE",
            "retrain",
        ),
        (
            "estimated loss that labels refute",
            replace(CALM, estimated=lost(12, 0.001)),
            "WATCH",
            "none",
        ),
        (
            "estimated loss, estimate not to be trusted",
            replace(CALM, measured=lost(8, 0.2), estimated=lost(12, 0.001), back_test=NOT_TRUSTED),
            "WATCH",
            "none",
        ),
        ("strong drift, no labels", replace(CALM, measured=None, drift=drift(0.5)), "STALE", "retrain"),
        (
            "strong drift that labels show to be harmless",
            replace(CALM, drift=drift(0.5), measured=lost(-3, 0.9)),
            "WATCH",
            "none",
        ),
        ("weak drift", replace(CALM, drift=drift(0.05)), "WATCH", "none"),
        ("no reference and no labels", replace(CALM, reference_rows=0, drift=None, measured=None), "FRESH", "none"),
        (
            "no reference, labels fine",
            replace(CALM, reference_rows=0, drift=None, measured=lost(-2, 0.9)),
            "FRESH",
            "none",
        ),
        ("no reference, labels bad", replace(STALE, reference_rows=0, drift=None), "STALE", "retrain"),
        (
            "small reference, strong drift",
            replace(CALM, measured=None, reference_rows=60, drift=drift(0.5)),
            "FRESH",
            "none",
        ),
        (
            "strong drift beside other hours alone",
            replace(NO_HISTORY, measured=None, drift=drift(0.5)),
            "FRESH",
            "none",
        ),
        ("measured loss without matching hours", replace(NO_HISTORY, measured=lost(15, 0.0001)), "STALE", "retrain"),
        ("slow loss without matching hours", replace(NO_HISTORY, slow_loss=SLOW), "STALE", "retrain"),
        ("a large customer joined", replace(CALM, notes=(JOINED,)), "FRESH", "none"),
        ("strong drift by the mix", replace(CALM, measured=None, drift=drift(0.5), by_mix=MIXED), "FRESH", "none"),
        (
            "strong drift beside the mix",
            replace(CALM, measured=None, drift=drift(0.5), by_mix=OTHER),
            "STALE",
            "retrain",
        ),
        ("a loss beside a large customer", replace(STALE, notes=(JOINED,)), "STALE", "retrain"),
        ("a loss that adds up over windows", replace(CALM, slow_loss=SLOW), "STALE", "retrain"),
        ("stale, too few new labels", replace(STALE, new_labels=30), "STALE", "ask_labels"),
        ("stale, cooling down", replace(STALE, since_retraining_s=60.0), "STALE", "skipped"),
        ("stale, cooled down", replace(STALE, since_retraining_s=601.0), "STALE", "retrain"),
        ("stale, retraining runs", replace(STALE, retraining_runs=True), "STALE", "skipped"),
        ("stale, three attempts failed", replace(STALE, attempts=3), "STALE", "skipped"),
        ("stale, retrained already", replace(STALE, completed=True), "STALE", "none"),
    ],
)
def test_case(case: str, evidence: StalenessEvidence, verdict: str, action: str) -> None:
    decision = judge_staleness(evidence, POLICY)
    assert (decision.verdict, decision.action) == (verdict, action), case
    assert decision.reasons
    assert all(reason.sentence.endswith(".") for reason in decision.reasons)
    assert decision.action_reason


def test_old_version_is_stale_by_age() -> None:
    policy = replace(POLICY, max_age_s=86_400.0)
    decision = judge_staleness(replace(CALM, age_s=100_000.0), policy)
    assert decision.verdict == "STALE"
    assert decision.reasons[0].kind == "age"


def test_retraining_that_does_not_pay_is_skipped() -> None:
    policy = replace(POLICY, answers_worth_a_training=2_000.0)
    decision = judge_staleness(STALE, policy)  # 0.15 of 1,000 a day over a week are 1,050 answers
    assert decision.action == "skipped"
    assert "does not pay" in decision.action_reason
    assert judge_staleness(replace(STALE, rows_per_day=3_000.0), policy).action == "retrain"


def test_reasons_come_by_what_they_cost() -> None:
    decision = judge_staleness(replace(STALE, drift=drift(0.05)), POLICY)
    assert [reason.kind for reason in decision.reasons] == ["measured_loss", "drift:segment_mix"]


def test_asking_for_labels_says_how_many() -> None:
    assert "Label 70 more rows" in judge_staleness(replace(STALE, new_labels=30), POLICY).action_reason


def test_hours_without_history_say_when_comparing_starts() -> None:
    reasons = judge_staleness(replace(NO_HISTORY, drift=drift(0.5)), POLICY).reasons
    assert [reason.kind for reason in reasons] == ["fresh", "no_history", "no_history:segment_mix"]
    assert "no rows of Saturdays at 10:00 UTC yet" in reasons[1].sentence
    assert "comparing starts on 2026-12-06 at 10:00 UTC" in reasons[1].sentence


def test_first_window_says_that_it_cannot_compare() -> None:
    reasons = judge_staleness(replace(CALM, reference_rows=0, drift=None, measured=None), POLICY).reasons
    assert [reason.kind for reason in reasons] == ["fresh", "reference_too_small"]
    assert "drift needs 100" in reasons[1].sentence


def test_drift_by_the_mix_is_a_note() -> None:
    reasons = judge_staleness(replace(CALM, drift=drift(0.5), by_mix=MIXED), POLICY).reasons
    assert [reason.kind for reason in reasons] == ["fresh", "mix:segment_mix"]
    assert reasons[1].sentence.endswith("with each unit weighted as before, the change is gone.")


def test_notes_come_after_what_alarms() -> None:
    decision = judge_staleness(replace(STALE, notes=(JOINED,)), POLICY)
    assert [reason.kind for reason in decision.reasons] == ["measured_loss", "mix:joined"]
    assert judge_staleness(replace(CALM, rows=3, notes=(JOINED,)), POLICY).reasons[-1] == JOINED
