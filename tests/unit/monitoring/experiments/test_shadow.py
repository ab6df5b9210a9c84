"""Champion and challenger on the same requests."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from absa.ledger.routing import Arm, TrafficPlan
from absa.policies import ExperimentPolicy
from absa.records.lake import Lake
from absa.records.layout import feedback_prefix, outcome_prefix, prediction_prefix
from absa.records.rows import LATENCY_BOUNDS_MS
from absa.records.tables import FEEDBACK, OUTCOMES, PREDICTIONS, write_parquet
from absa.records.windows import MAX_ROWS
from monitoring.experiments.shadow import (
    ShadowReport,
    compare_shadow,
    judge_shadow,
    labels_to_decide,
    mcnemar,
    paired_difference,
)
from tests.unit.monitoring.conftest import START

PLAN = TrafficPlan(
    mode="shadow",
    experiment="v1-vs-v2",
    salt="s",
    arms=(Arm(name="champion", version="1", share=1.0), Arm(name="challenger", version="2", share=0.0)),
)


def write(lake: Lake, champion: np.ndarray, challenger: np.ndarray, truth: np.ndarray, *, sure: float = 0.8) -> None:
    """Pairs of answers: `truth` is -1 where nobody said."""
    rows, said = [], []
    for i, (old, new, true) in enumerate(zip(champion, challenger, truth, strict=True)):
        at = START + timedelta(milliseconds=10 * i)
        for label, version, arm, shadow in ((old, "1", "champion", False), (new, "2", "challenger", True)):
            confidence = sure if shadow else 0.8
            scores = [(1 - confidence) / 2] * 3
            scores[label] = confidence
            rows.append(
                {
                    "schema_version": 1, "request_id": f"{i:06d}", "at": at, "unit_hash": f"u{i}", "unit_given": True,
                    "segment": None, "text": "t", "aspect": "t", "label": int(label), "scores": scores,
                    "model_version": version, "arm": arm, "experiment": "v1-vs-v2", "revision": 2, "shadow": shadow,
                    "cached": False, "latency_ms": 4.0 + 2 * shadow, "replica": "r",
                }
            )  # fmt: skip
        if true >= 0:
            said.append(
                {
                    "schema_version": 1, "request_id": f"{i:06d}", "label": int(true), "at": at, "source": "survey",
                    "sampling_probability": None,
                }
            )  # fmt: skip
    write_parquet(lake, f"{prediction_prefix(START)}r.parquet", pa.Table.from_pylist(rows, schema=PREDICTIONS))
    write_parquet(lake, f"{feedback_prefix(START)}r.parquet", pa.Table.from_pylist(said, schema=FEEDBACK))


def compare(lake: Lake, max_rows: int = MAX_ROWS) -> ShadowReport:
    until = START + timedelta(hours=1)
    return compare_shadow(lake, PLAN, "2", since=START, until=until, trusted_sources=["survey"], max_rows=max_rows)


def fail(lake: Lake, champion: int, challenger: int) -> None:
    """So many requests of each arm end in an error."""
    rows = [
        {
            "schema_version": 1, "minute": START, "version": version, "arm": arm, "ok": 0, "error": errors, "shed": 0,
            "timeout": 0, "latency_histogram": [0] * (len(LATENCY_BOUNDS_MS) + 1), "replica": "r",
        }
        for version, arm, errors in (("1", "champion", champion), ("2", "challenger", challenger))
    ]  # fmt: skip
    write_parquet(lake, f"{outcome_prefix(START)}r.parquet", pa.Table.from_pylist(rows, schema=OUTCOMES))


def test_pairs_are_counted_by_what_each_said(lake: Lake) -> None:
    write(lake, np.array([0, 0, 1, 2, 2]), np.array([0, 2, 1, 2, 0]), np.array([0, 0, -1, 1, 2]))
    found = compare(lake)
    assert (found.pairs, found.agreement, found.flips, found.disagreements) == (5, 0.6, 2, 2)
    assert found.confusion == ((1, 0, 1), (0, 1, 0), (1, 0, 1))
    assert (found.labelled, found.only_champion, found.only_challenger) == (3, 2, 0)  # a neutral truth counts nothing
    assert (found.champion_ms, found.challenger_ms) == (4.0, 6.0)


def test_worse_shadow_reverts_before_serving(lake: Lake) -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 2], 600)
    worse = np.where(rng.random(600) < 0.25, 2 - truth, truth)
    write(lake, truth, worse, truth)
    decision = judge_shadow(compare(lake), ExperimentPolicy())
    assert (decision.decision, decision.guard) == ("ROLL_BACK", "labels")
    assert "Version 2 is rolled back from shadow: it is worse than 1: -" in decision.sentence
    assert "; 600 labelled requests)" in decision.sentence


def lost(lake: Lake, champion: int, labels: int, *, units: int) -> ShadowReport:
    """Labels of which the champion alone is right on some, and both are right on the rest."""
    gains = np.where(np.arange(labels) < champion, -1.0, 0.0)
    return replace(compare(lake), gains=gains, units=np.arange(labels) % units)


@pytest.mark.parametrize(("units", "decision"), [(19, "CONTINUE"), (20, "ROLL_BACK")])
def test_worse_shadow_needs_units(lake: Lake, units: int, decision: str) -> None:
    report = lost(lake, 150, 600, units=units)
    assert judge_shadow(report, ExperimentPolicy(min_units=20)).decision == decision


def test_shadow_divides_alpha_among_challengers(lake: Lake) -> None:
    """The least loss that rolls back a single challenger does not roll back one of five: each has a fifth of alpha."""
    alone, one_of_five = ExperimentPolicy(), ExperimentPolicy(comparisons=5)
    least = next(
        report
        for count in range(1, 600)
        if judge_shadow(report := lost(lake, count, 600, units=600), alone).decision == "ROLL_BACK"
    )
    assert judge_shadow(least, one_of_five).decision == "CONTINUE"
    assert judge_shadow(lost(lake, 300, 600, units=600), one_of_five).decision == "ROLL_BACK"


def test_shadow_with_collapsed_confidence_reverts_without_labels(lake: Lake) -> None:
    same = np.random.default_rng(0).choice([0, 1, 2], 300)
    write(lake, same, same, np.full(300, -1), sure=0.4)
    assert judge_shadow(compare(lake), ExperimentPolicy()).guard == "confidence"


def test_failures_are_share_of_all_requests(lake: Lake) -> None:
    """0.1 and 1.2 % of the requests fail: not surely a point more, but surely if held against the sample."""
    same = np.random.default_rng(0).choice([0, 1, 2], 5_000)
    write(lake, same, same, np.full(5_000, -1))
    fail(lake, 5, 60)
    found = compare(lake, max_rows=250)
    assert found.pairs == 250
    assert (found.champion_health.requests, found.challenger_health.requests) == (5_005, 5_060)
    assert judge_shadow(found, ExperimentPolicy()).decision == "CONTINUE"


def test_few_pairs_say_nothing_of_confidence(lake: Lake) -> None:
    same = np.random.default_rng(0).choice([0, 1, 2], 300)
    write(lake, same, same, np.full(300, -1), sure=0.4)
    assert judge_shadow(compare(lake, max_rows=20), ExperimentPolicy()).guard is None


def test_an_equal_shadow_goes_on(lake: Lake) -> None:
    same = np.random.default_rng(0).choice([0, 1, 2], 300)
    write(lake, same, same, same)
    assert judge_shadow(compare(lake), ExperimentPolicy()).decision == "CONTINUE"


def test_nothing_is_known_of_no_pairs(lake: Lake) -> None:
    found = compare(lake)
    assert (found.pairs, found.labelled, found.p_value) == (0, 0, 1.0)
    gain = found.on_labels(ExperimentPolicy())
    assert (gain.low, gain.high) == (-1.0, 1.0)


def test_version_outside_plan_is_refused(lake: Lake) -> None:
    with pytest.raises(ValueError, match="not 7"):
        compare_shadow(lake, PLAN, "7", since=START)


def test_mcnemar_gives_the_exact_two_sided_value() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 9) == pytest.approx(0.021484375)
    assert mcnemar(9, 1) == mcnemar(1, 9)


def test_disagreement_labels_decide_with_fewer_than_arms() -> None:
    shadow, both = labels_to_decide(0.12, 0.03)
    assert shadow < 0.1 * both
    assert labels_to_decide(0.12, 0.06)[0] < shadow
    with pytest.raises(ValueError, match="other than 0, got 0"):
        labels_to_decide(0.1, 0.0)


def test_a_few_labels_prove_nothing() -> None:
    found = paired_difference(np.full(5, -1.0), np.arange(5))
    assert found.high > -0.2
