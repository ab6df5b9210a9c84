"""Plan of a promotion: the steps with their times, and the step that runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from absa.configuration import read_configuration
from absa.ledger.lifecycle import challenged, crowned, ramped, shadowed
from absa.ledger.record import LedgerRecord
from absa.ledger.state import State
from absa.policies import ExperimentPolicy
from flows.promotion.promotion_plan import duration, plan_lines, running_step
from flows.promotion.running_experiment import RunningExperiment, running
from monitoring.experiments.ab_statistics import ExperimentEvidence, judge_experiment
from monitoring.experiments.outlook import outlook

START = datetime(2026, 11, 30, 12, tzinfo=UTC)


SHADOW = shadowed(challenged(crowned("1"), "2"), ())


def experiment(*steps: tuple[float, State]) -> RunningExperiment:
    """Return the experiment of states that became active so many seconds after START."""
    records = [
        LedgerRecord(number=n, at=START + timedelta(seconds=at_s), actor="a", action="traffic", reason="r", state=state)
        for n, (at_s, state) in enumerate(steps, start=1)
    ]
    run = running(records)
    assert run is not None
    return run


def test_plan_names_steps_shares_and_times() -> None:
    first, *steps, total, _ = plan_lines(ExperimentPolicy(), challengers=1, approval=True)
    assert first == "  1. shadow: scores the champion's traffic unseen, 30 minutes"
    assert steps == [
        "  2. A/B: answers 1 % of the units, at least 30 minutes",
        "  3. A/B: answers 5 % of the units, at least 30 minutes",
        "  4. A/B: answers 25 % of the units, at least 30 minutes",
        "  5. A/B: answers 50 % of the units, until the labels decide",
        "  6. approval in Prefect, within 7 days",
    ]
    assert total.startswith("  takes 2 hours to the last step, at most 14 days; a decision needs 400")


@pytest.mark.parametrize(
    ("labels_a_day", "said"),
    [
        (1_700.0, "with 1,700 labels a day the A/B test can decide after 13.3 hours, and sees a difference of 2.1 "),
        (17.0, "with 17 labels a day the A/B test cannot decide in time; about 295 requested labels"),
    ],
)
def test_plan_says_what_labels_can_decide(labels_a_day: float, said: str) -> None:
    *_, last = plan_lines(ExperimentPolicy(), challengers=1, approval=False, labels_a_day=labels_a_day)
    assert last.strip().startswith(said)


def test_shares_of_several_challengers_are_equal_at_most() -> None:
    lines = list(plan_lines(ExperimentPolicy(), challengers=3, approval=False))
    assert [line.split(" % ")[0].rpartition(" ")[2] for line in lines[1:-2]] == ["1", "5", "25"]


def test_running_step_has_next_date() -> None:
    policy = ExperimentPolicy(shadow_s=60.0, step_s=120.0, ramp=(0.1, 0.5))
    step = running_step(experiment((0, SHADOW)), policy)
    assert (step.step, step.following, step.next_at) == ("shadow", "A/B at 10 %", START + timedelta(seconds=60))
    for share, following, next_at in ((0.1, "A/B at 50 %", START + timedelta(seconds=120)), (0.5, "a decision", None)):
        step = running_step(experiment((0, ramped(SHADOW, share))), policy)
        assert step.following.startswith(following)
        assert step.next_at == next_at


@pytest.mark.parametrize("profile", ["default", "small", "production"])
def test_longest_time_starts_with_ab_test(profile: str) -> None:
    """The date in the status, the estimate before the start and the judgement mean the same end."""
    policy: ExperimentPolicy = read_configuration(None, profile=profile).sections["experiment"]
    ab_s, longest_s = policy.shadow_s, policy.shadow_s + policy.max_duration_s
    tests = ((ab_s, ramped(SHADOW, 0.1)), (ab_s + policy.step_s, ramped(SHADOW, 0.5)))
    for run in (experiment((0, SHADOW)), experiment((0, SHADOW), *tests)):
        assert running_step(run, policy).ends_at == START + timedelta(seconds=longest_s)
    evidence = ExperimentEvidence(experiment="e", champion="1", challenger="2", elapsed_s=longest_s - ab_s)
    assert judge_experiment(evidence, policy).decision == "STOP_FOR_FUTILITY"
    sooner = replace(evidence, elapsed_s=evidence.elapsed_s - 1)
    assert judge_experiment(sooner, policy).decision == "CONTINUE"
    *_, total, _ = plan_lines(policy, challengers=1, approval=False)
    assert f"at most {duration(longest_s)};" in total
    last_step_s = policy.max_duration_s - policy.step_s * (len(policy.ramp) - 1)
    enough = 86_400 * policy.min_exposure / policy.ramp[-1] / last_step_s
    assert outlook(policy, 1.001 * enough).in_time
    assert not outlook(policy, 0.999 * enough).in_time


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.5, "0.5 seconds"), (1, "1 second"), (90, "1.5 minutes"), (3600, "1 hour"), (86_400 * 14, "14 days")],
)
def test_duration_has_a_fitting_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said
