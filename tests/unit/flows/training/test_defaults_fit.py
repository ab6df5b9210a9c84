"""Defaults beside each other, for teams with 50, 500 and 50,000 labels a month."""

from dataclasses import dataclass

import pytest

from absa.configuration import read_configuration
from absa.data.recent_split import expected_test_rows, labels_for_gate, labels_needed, smallest_gain
from absa.policies import ExperimentPolicy, GatePolicy, StalenessPolicy
from absa.profiles import PROFILES
from monitoring.experiments.outlook import Outlook, outlook

DAY_S = 86_400.0
APART = 0.12  # share of requests that two versions answer differently


@dataclass(frozen=True)
class Team:
    """Labels a month and requests a day."""

    labels: float
    requests: float

    @property
    def labels_a_day(self) -> float:
        return self.labels / 30


TEAMS = {"tiny": Team(50, 300), "small": Team(500, 1_000), "large": Team(50_000, 100_000)}


@dataclass(frozen=True)
class Cycle:
    """One turn of the loop: labels that start a retraining, its gate, its promotion."""

    wait_days: float
    labels: int
    tested: int
    sees_gain: float
    experiment: Outlook
    disagreements: float
    needed_rows: int


def cycle(profile: str, team: Team) -> Cycle:
    sections = read_configuration(None, profile=profile).sections
    gate: GatePolicy = sections["gate"]
    staleness: StalenessPolicy = sections["staleness"]
    experiment: ExperimentPolicy = sections["experiment"]
    needed = labels_needed(staleness, gate)
    wait_days = max(needed / team.labels_a_day, staleness.cooldown_s / DAY_S)
    labels = round(max(needed, wait_days * team.labels_a_day))
    tested = expected_test_rows(labels, gate.min_recent_rows)
    return Cycle(
        wait_days=wait_days,
        labels=labels,
        tested=tested,
        sees_gain=smallest_gain(tested),
        experiment=outlook(experiment, team.labels_a_day),
        disagreements=APART * team.requests * experiment.shadow_s / DAY_S,
        needed_rows=gate.min_recent_rows,
    )


@pytest.mark.parametrize("profile", ["default", "small", "production", "demo", "test"])
@pytest.mark.parametrize("team", TEAMS)
def test_gate_of_due_retraining_can_decide(profile: str, team: str) -> None:
    """With one retraining in twenty less by chance, which the training run itself then finds before it trains."""
    turn = cycle(profile, TEAMS[team])
    assert turn.labels >= labels_for_gate(turn.needed_rows)
    assert turn.tested >= turn.needed_rows


@pytest.mark.parametrize(
    ("profile", "team", "wait_days", "sees_points"),
    [
        ("small", "tiny", 71, 12.6),  # 118 labels, half of which are tested
        ("small", "small", 7.1, 12.6),
        ("default", "tiny", 135, 9.2),
        ("default", "small", 13.5, 9.2),
        ("default", "large", 0.25, 6.7),
    ],
)
def test_retraining_starts_and_sees_a_gain(profile: str, team: str, wait_days: float, sees_points: float) -> None:
    turn = cycle(profile, TEAMS[team])
    assert turn.wait_days == pytest.approx(wait_days, rel=0.02)
    assert 100 * turn.sees_gain == pytest.approx(sees_points, abs=0.1)


def test_month_of_labels_sees_less_with_fewer() -> None:
    seen = [smallest_gain(expected_test_rows(round(each.labels), 100)) for each in TEAMS.values()]
    assert [round(100 * gain, 1) for gain in seen] == [19.4, 6.1, 1.4]


@pytest.mark.parametrize("team", ["tiny", "small"])
def test_few_customers_labels_leave_decision_to_requested_ones(team: str) -> None:
    """In profile small enough requests differ in shadow, and about 300 of them, labelled on request, decide."""
    turn = cycle("small", TEAMS[team])
    assert turn.experiment.asked_labels <= min(300, turn.disagreements)
    assert not cycle("default", TEAMS[team]).experiment.in_time


def test_many_customers_labels_decide_within_days() -> None:
    found = cycle("default", TEAMS["large"]).experiment
    assert found.in_time
    assert found.decides_s < DAY_S
    assert 100 * found.sees_gain < 2.2


@pytest.mark.parametrize("profile", PROFILES)
def test_experiment_can_end_before_its_longest_time(profile: str) -> None:
    experiment: ExperimentPolicy = read_configuration(None, profile=profile).sections["experiment"]
    least_s = experiment.shadow_s + experiment.step_s * (len(experiment.ramp) - 1)
    assert 2 * least_s <= experiment.max_duration_s
