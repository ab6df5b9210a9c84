"""Plan of a promotion: the steps with their times, and the step that runs."""

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from absa.adapters.lake_stores import FolderLake
from absa.ledger.lifecycle import challenged, crowned, ramped, shadowed
from absa.ledger.record import LedgerRecord
from absa.ledger.state import State
from absa.ledger.store import Ledger
from absa.policies import ExperimentPolicy
from flows.promotion.promotion_plan import duration, plan_lines, running_step

START = datetime(2026, 11, 30, 12, tzinfo=UTC)


def record(folder: Path, state: State) -> LedgerRecord:
    ledger = Ledger(FolderLake(folder / secrets.token_hex(4)), clock=lambda: START)
    versions = {"1": "a", "2": "b"}
    return ledger.append(expected=0, actor="a", action="traffic", reason="r", state=state, versions=versions)


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


def test_running_step_has_next_date(tmp_path: Path) -> None:
    policy = ExperimentPolicy(shadow_s=60.0, step_s=120.0, ramp=(0.1, 0.5))
    shadow = shadowed(challenged(crowned("1"), "2"), ())
    step = running_step(record(tmp_path, shadow), START, policy)
    assert step is not None
    assert (step.step, step.following, step.next_at) == ("shadow", "A/B at 10 %", START + timedelta(seconds=60))
    assert step.ends_at == START + timedelta(days=14)
    for share, following, next_at in ((0.1, "A/B at 50 %", START + timedelta(seconds=120)), (0.5, "a decision", None)):
        step = running_step(record(tmp_path, ramped(shadow, share)), START, policy)
        assert step is not None
        assert step.following.startswith(following)
        assert step.next_at == next_at


def test_no_step_without_experiment(tmp_path: Path) -> None:
    assert running_step(record(tmp_path, crowned("1")), START, ExperimentPolicy()) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.5, "0.5 seconds"), (1, "1 second"), (90, "1.5 minutes"), (3600, "1 hour"), (86_400 * 14, "14 days")],
)
def test_duration_has_a_fitting_unit(seconds: float, said: str) -> None:
    assert duration(seconds) == said
