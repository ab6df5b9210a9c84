"""Plan of an anytime training: due packages and the moving end."""

import pytest

from absa.training.anytime import LEAST_TRAINING_S, PACKAGING_SHARE, PackagePlan


class Clock:
    """Time that a test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def make_plan(clock: Clock, *, budget_s: float, packaging_s: float = 10.0, after_s: float = 10.0) -> PackagePlan:
    plan = PackagePlan(run_ends_at=clock.now + budget_s, packaging_s=packaging_s, after_s=after_s, clock=clock)
    plan.begin()
    return plan


def test_training_ends_before_the_estimated_reserve() -> None:
    clock = Clock()
    assert make_plan(clock, budget_s=100.0).remaining_s() == pytest.approx(80.0)


def test_first_package_is_due_early() -> None:
    plan = make_plan(Clock(), budget_s=900.0)
    assert not plan.is_due(19.0)
    assert plan.is_due(20.0)
    short = make_plan(Clock(), budget_s=60.0)
    assert not short.is_due(7.9)
    assert short.is_due(8.0)


def test_measured_packaging_replaces_the_estimate() -> None:
    clock = Clock()
    plan = make_plan(clock, budget_s=200.0, packaging_s=50.0)
    plan.built(2.0, trained_s=20.0)
    assert plan.packaging_s < 5.0
    plan.built(60.0, trained_s=80.0)
    assert plan.packaging_s > 60.0


def test_after_s_moves_the_end() -> None:
    plan = make_plan(Clock(), budget_s=200.0)
    before = plan.ends_at
    plan.after_s += 30.0
    assert plan.ends_at == pytest.approx(before - 30.0)


def test_training_inside_its_reserve_gets_seconds() -> None:
    clock = Clock()
    plan = make_plan(clock, budget_s=5.0)
    assert plan.remaining_s() == pytest.approx(LEAST_TRAINING_S)
    assert plan.is_due(0.5)
    plan.built(1.0, trained_s=0.5)
    assert plan.remaining_s() < 0


@pytest.mark.parametrize("package_s", [0.5, 5.0, 30.0])
def test_later_packages_take_a_small_share(package_s: float) -> None:
    clock = Clock()
    plan = make_plan(clock, budget_s=3_600.0)
    trained_s, spent_s, numbers = 0.0, [], []
    while plan.remaining_s() > 0:
        clock.now += 1.0
        trained_s += 1.0
        if plan.is_due(trained_s):
            clock.now += package_s
            plan.built(package_s, trained_s)
            spent_s.append(package_s)
            numbers.append(trained_s)
    assert numbers[0] == 20.0
    assert 2 <= len(numbers) <= 6
    assert sum(spent_s[1:]) <= PACKAGING_SHARE * trained_s


def test_no_package_right_before_the_last_one() -> None:
    clock = Clock()
    plan = make_plan(clock, budget_s=400.0)
    plan.built(2.0, trained_s=20.0)
    clock.now = plan.ends_at - 3.0
    assert not plan.is_due(300.0)


def test_refused_package_is_tried_again() -> None:
    clock = Clock()
    plan = make_plan(clock, budget_s=900.0)
    plan.built(10.0, trained_s=20.0, quick=True, valid=False)
    assert not plan.has_package
    assert not plan.is_due(29.0)
    assert plan.is_due(30.0)
    plan.built(10.0, trained_s=30.0, quick=True)
    assert plan.has_package


def test_first_step_may_take_the_whole_run() -> None:
    clock = Clock()
    plan = PackagePlan(run_ends_at=clock.now + 60.0, packaging_s=70.0, after_s=0.0, overrun_s=15.0, clock=clock)
    assert plan.first_step_by == clock.now + 75.0
    assert plan.rows_wait_s() == pytest.approx(75.0)
    plan.built(1.0, trained_s=1.0)
    assert plan.first_step_by == plan.ends_at


def test_last_package_must_fit_before_the_overrun_ends() -> None:
    clock = Clock()
    plan = make_plan(clock, budget_s=100.0, after_s=20.0)
    plan.built(20.0, trained_s=10.0)
    clock.now += 59.0
    assert plan.last_fits()
    clock.now += 2.0
    assert not plan.last_fits()
