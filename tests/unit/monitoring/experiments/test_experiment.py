"""Tests of the A/B statistics, guardrails and decisions."""

from dataclasses import replace

import numpy as np
import pytest

from absa.policies import ExperimentPolicy
from monitoring.experiments.ab_statistics import (
    NO_OUTCOMES,
    Allocation,
    ArmHealth,
    ExperimentEvidence,
    Outcomes,
    difference,
    judge_experiment,
    sample_ratio_p_value,
)

POLICY = ExperimentPolicy(min_exposure=200)
EMPTY = ExperimentEvidence(experiment="e", champion="1", challenger="2")
WELL = ArmHealth(requests=1000, errors=2, p99_ms=25.0, p99_low_ms=10.0, mean_confidence=0.85, top_class=0.5)


def outcomes(seed: int, count: int, champion: float, challenger: float, *, share: float = 0.5) -> Outcomes:
    rng = np.random.default_rng(seed)
    mine = rng.random(count) < share
    right = (rng.random(count) < np.where(mine, challenger, champion)).astype(float)
    return Outcomes(challenger=mine, revision=np.ones(count, dtype=np.int64), unit=np.arange(count), right=right)


def test_a_better_challenger_is_promoted() -> None:
    decision = judge_experiment(replace(EMPTY, outcomes=outcomes(0, 2000, 0.70, 0.85)), POLICY)
    assert decision.decision == "PROMOTE"
    assert decision.low > 0
    assert "better than 1" in decision.sentence


def test_a_worse_challenger_goes_back() -> None:
    decision = judge_experiment(replace(EMPTY, outcomes=outcomes(0, 2000, 0.85, 0.70)), POLICY)
    assert (decision.decision, decision.guard) == ("ROLL_BACK", "labels")


def test_one_unit_of_an_arm_decides_nothing() -> None:
    seen = outcomes(0, 2000, 0.70, 0.85)
    for mine in (seen.challenger, ~seen.challenger):
        single = replace(seen, unit=np.where(mine, -1, seen.unit))
        assert judge_experiment(replace(EMPTY, outcomes=single), POLICY).decision == "CONTINUE"


def test_equal_versions_continue_until_time_is_up() -> None:
    equal = replace(EMPTY, outcomes=outcomes(0, 2000, 0.8, 0.8))
    assert judge_experiment(equal, POLICY).decision == "CONTINUE"
    late = replace(equal, elapsed_s=POLICY.max_duration_s)
    assert judge_experiment(late, POLICY).decision == "STOP_FOR_FUTILITY"


def test_gain_surely_too_small_stops_experiment() -> None:
    equal = replace(EMPTY, outcomes=outcomes(1, 20_000, 0.8, 0.8))
    assert judge_experiment(equal, replace(POLICY, worthwhile_gain=0.05)).decision == "STOP_FOR_FUTILITY"


def test_no_promotion_before_the_minimum_exposure() -> None:
    few = replace(EMPTY, outcomes=outcomes(0, 300, 0.5, 1.0))
    decision = judge_experiment(few, POLICY)
    assert decision.decision == "CONTINUE"
    assert "more outcomes" in decision.sentence


def test_without_outcomes_nothing_is_known() -> None:
    decision = judge_experiment(EMPTY, POLICY)
    assert (decision.decision, decision.low, decision.high) == ("CONTINUE", -1.0, 1.0)
    assert difference(NO_OUTCOMES).standard_error == float("inf")


def test_peeking_at_equal_versions_rarely_decides() -> None:
    wrong = 0
    for seed in range(100):
        seen = outcomes(seed, 3000, 0.78, 0.78)
        for at in range(200, 3001, 200):
            part = Outcomes(
                challenger=seen.challenger[:at], revision=seen.revision[:at], unit=seen.unit[:at], right=seen.right[:at]
            )
            if judge_experiment(replace(EMPTY, outcomes=part), POLICY).decision != "CONTINUE":
                wrong += 1
                break
    assert wrong <= 5


def test_answers_of_one_unit_hang_together() -> None:
    """Ten answers a unit, all right or all wrong: ten times the rows, no more knowledge."""
    one = outcomes(0, 400, 0.8, 0.8)
    ten = Outcomes(**{name: np.repeat(values, 10) for name, values in vars(one).items()})
    assert difference(ten).standard_error == pytest.approx(difference(one).standard_error, rel=0.02)


def test_a_ramp_does_not_fake_a_difference() -> None:
    """Monday is easy and mostly the champion's, Tuesday is hard and half the challenger's."""
    rng = np.random.default_rng(0)
    monday, tuesday = rng.random(4000) < 0.05, rng.random(4000) < 0.5
    arm = np.r_[monday, tuesday]
    right = (rng.random(8000) < np.r_[np.full(4000, 0.9), np.full(4000, 0.6)]).astype(float)
    stratified = Outcomes(challenger=arm, revision=np.repeat([1, 2], 4000), unit=np.arange(8000), right=right)
    pooled = replace(stratified, revision=np.ones(8000, dtype=np.int64))
    assert difference(pooled).high < 0
    found = difference(stratified)
    assert found.low < 0 < found.high


def test_always_right_arm_is_still_uncertain() -> None:
    perfect = Outcomes(
        challenger=np.arange(20) % 2 == 0, revision=np.ones(20, dtype=np.int64), unit=np.arange(20), right=np.ones(20)
    )
    found = difference(perfect)
    assert found.low < -0.1
    assert found.high > 0.1


def test_wrong_split_rolls_back_whatever_labels_show() -> None:
    evidence = replace(
        EMPTY,
        outcomes=outcomes(0, 2000, 0.7, 0.9),
        allocation=[Allocation(revision=1, share=0.5, champion_units=6000, challenger_units=5000)],
    )
    decision = judge_experiment(evidence, POLICY)
    assert (decision.decision, decision.guard) == ("ROLL_BACK", "sample_ratio")


def test_planned_split_raises_no_alarm() -> None:
    parts = [
        Allocation(revision=1, share=0.01, champion_units=990, challenger_units=10),
        Allocation(revision=2, share=0.25, champion_units=752, challenger_units=248),
        Allocation(revision=3, share=0.0, champion_units=10, challenger_units=0),
    ]
    assert sample_ratio_p_value(parts) > 0.2
    assert sample_ratio_p_value([]) == 1.0


@pytest.mark.parametrize(
    ("guard", "health"),
    [
        ("errors", replace(WELL, errors=120)),
        ("p99", replace(WELL, p99_ms=250.0, p99_low_ms=250.0)),
        ("confidence", replace(WELL, mean_confidence=0.5)),
        ("confidence", replace(WELL, top_class=0.99)),
    ],
)
def test_a_broken_guardrail_rolls_back(guard: str, health: ArmHealth) -> None:
    decision = judge_experiment(replace(EMPTY, champion_health=WELL, challenger_health=health), POLICY)
    assert (decision.decision, decision.guard) == ("ROLL_BACK", guard)


def test_healthy_arms_and_few_requests_break_no_guardrail() -> None:
    healthy = replace(EMPTY, champion_health=WELL, challenger_health=replace(WELL, errors=4, p99_low_ms=25.0))
    assert judge_experiment(healthy, POLICY).decision == "CONTINUE"
    young = replace(EMPTY, champion_health=WELL, challenger_health=ArmHealth(requests=20, errors=10))
    assert judge_experiment(young, POLICY).decision == "CONTINUE"


def test_more_challengers_need_more_evidence() -> None:
    seen = outcomes(0, 2000, 0.7, 0.85)
    alone = judge_experiment(replace(EMPTY, outcomes=seen), POLICY)
    of_four = judge_experiment(replace(EMPTY, outcomes=seen), replace(POLICY, comparisons=4))
    assert of_four.low < alone.low
