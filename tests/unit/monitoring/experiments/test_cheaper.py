"""A cheaper challenger that is not worse: the second reason to promote, in an A/B test and in shadow."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from absa.policies import ExperimentPolicy
from benchmarks.promotion.experiments import cheaper, cheaper_in_shadow
from monitoring.experiments.ab_statistics import (
    ArmHealth,
    ExperimentEvidence,
    Outcomes,
    judge_experiment,
)
from monitoring.experiments.shadow import AskedDisagreements, ShadowReport, judge_shadow

POLICY = ExperimentPolicy(non_inferiority_margin=0.05)


def outcomes(seed: int, count: int, *, loss: float = 0.0) -> Outcomes:
    rng = np.random.default_rng(seed)
    mine = rng.random(count) < 0.5
    right = (rng.random(count) < np.where(mine, 0.8 - loss, 0.8)).astype(float)
    return Outcomes(challenger=mine, revision=np.ones(count, dtype=np.int64), unit=np.arange(count), right=right)


def shadow(gains: np.ndarray) -> ShadowReport:
    """Shadow of 10,000 pairs, 1,200 of which differ, with requested labels of some."""
    health = ArmHealth(requests=10_000)
    asked = AskedDisagreements(
        gains=gains, units=np.arange(len(gains)), disagreeing=1_200, pairs=10_000, evaluated=1.0
    )  # fmt: skip
    return ShadowReport(
        experiment="e", champion="1", challenger="2", pairs=10_000, agreement=0.88, flips=0, confusion=((1,),),
        gains=np.zeros(0), units=np.zeros(0, dtype=np.int64), asked=asked,
        champion_health=health, challenger_health=health, champion_ms=None, challenger_ms=None,
    )  # fmt: skip


EQUAL = ExperimentEvidence(
    experiment="e", champion="1", challenger="2", outcomes=outcomes(0, 8_000), saving=0.44
)  # fmt: skip


def test_equal_cheaper_challenger_is_promoted_for_its_price() -> None:
    found = judge_experiment(EQUAL, POLICY)
    assert (found.decision, found.grounds, found.saving) == ("PROMOTE", "not worse and cheaper", 0.44)
    assert "not worse than 1 by 5 points or more, and 44% cheaper per prediction" in found.sentence


@pytest.mark.parametrize("saving", [None, -0.3, 0.1])
def test_equal_challenger_without_saving_goes_on(saving: float | None) -> None:
    assert judge_experiment(replace(EQUAL, saving=saving), POLICY).decision == "CONTINUE"


def test_better_and_cheaper_challenger_is_promoted_as_better() -> None:
    better = replace(EQUAL, outcomes=outcomes(1, 8_000, loss=-0.1))
    assert judge_experiment(better, POLICY).grounds == "better"


def test_cheaper_challenger_losing_over_the_margin_goes_back() -> None:
    found = judge_experiment(replace(EQUAL, outcomes=outcomes(2, 8_000, loss=0.12)), POLICY)
    assert (found.decision, found.grounds, found.guard) == ("ROLL_BACK", None, "labels")


@pytest.mark.parametrize("count", [700, 8_000])  # surely worse on few rows, and not ruled out on many
def test_cheaper_challenger_losing_in_a_slice_goes_on(count: int) -> None:
    slices = {"segment mobile": outcomes(3, count, loss=0.04 if count > 1_000 else 0.3), "segment web": EQUAL.outcomes}
    assert judge_experiment(replace(EQUAL, slices=slices), POLICY).decision == "CONTINUE"


def test_slice_with_too_few_rows_hinders_no_promotion() -> None:
    found = judge_experiment(replace(EQUAL, slices={"segment new": outcomes(4, 200)}), POLICY)
    assert found.decision == "PROMOTE"


@pytest.mark.parametrize("case", [cheaper, cheaper_in_shadow])
def test_loss_of_the_margin_is_rarely_promoted(case: Callable[..., list]) -> None:
    """Both are looked at all the time. 200 experiments: 5 % are 10, and 18 are beyond chance."""
    worse, equal, _ = case(np.random.default_rng(0), 200)
    assert worse.value * 200 < 18
    assert equal.value > 0.8


def test_better_challenger_is_promoted_by_requested_labels() -> None:
    found = judge_shadow(shadow(np.repeat([1.0, -1.0], [190, 110])), ExperimentPolicy())
    assert (found.decision, found.grounds) == ("PROMOTE", "better")
    assert "Version 2 is better than 1: +3.2 points" in found.sentence


@pytest.mark.parametrize("change", [{"pairs": 399}, {"asked": None}])
def test_few_pairs_or_labels_promote_nothing(change: dict[str, object]) -> None:
    few = {"asked": replace(shadow(np.ones(99)).asked)} if "asked" in change else change
    assert judge_shadow(replace(shadow(np.ones(120)), **few), ExperimentPolicy()).decision == "CONTINUE"  # type: ignore[arg-type]


def test_worse_cheaper_shadow_names_the_labels_that_count() -> None:
    """Other labels than requested ones of disagreements count neither in the decision nor in its sentence."""
    report = replace(shadow(np.repeat([1.0, -1.0], [20, 240])), gains=np.ones(500), units=np.arange(500))
    found = judge_shadow(report, ExperimentPolicy(), saving=0.44)
    assert (found.decision, found.guard, found.exposure_challenger) == ("ROLL_BACK", "labels", 260)
    assert "it is worse than 1: -" in found.sentence
    assert "260 labels of 1200 disagreements in 10000 requests" in found.sentence
    few_units = replace(report, asked=replace(report.asked, units=np.arange(260) % 19))
    assert judge_shadow(few_units, ExperimentPolicy(), saving=0.44).decision == "CONTINUE"


def test_equal_shadow_is_rarely_promoted_as_better() -> None:
    """Looked at every 25 of 600 labels. Of 200 experiments half of 1 % is one; four are beyond chance."""
    rng = np.random.default_rng(0)
    promoted = 0
    for _ in range(200):
        gains = rng.choice([-1.0, 1.0], 600)
        looks = (judge_shadow(shadow(gains[:count]), ExperimentPolicy()) for count in range(100, 601, 25))
        promoted += any(each.decision == "PROMOTE" for each in looks)
    assert promoted < 4


def test_labels_of_disagreements_speak_for_the_traffic() -> None:
    """Of 10,000 requests 1,000 differ; the challenger alone is right in 60 % of them, on 80 % evaluated labels."""
    gains = np.repeat([1.0, -1.0], [300, 200])
    asked = AskedDisagreements(gains=gains, units=np.arange(500), disagreeing=1_000, pairs=10_000, evaluated=0.8)
    found = asked.in_traffic(alpha=0.05, effect_scale=0.03)
    assert found.estimate == pytest.approx(0.1 * 0.2 / 0.8)
    assert found.low < 0.025 < found.high
