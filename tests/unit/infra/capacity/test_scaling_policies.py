"""Scaling policies: what they want out of what was seen."""

import pytest

from infra.capacity.compare_policies import hourly, plans_for
from infra.capacity.router_task import TaskModel
from infra.capacity.scaling_policy import LoadSample, Predictive, ScalingPlan, Scheduled, StepScaling, TargetTracking
from infra.capacity.trace import Trace

TRACKING = TargetTracking(metric="requests", target=100, period_s=60, delay_s=0, out_periods=3, in_periods=5)


def seen(*rates: float, ready: int = 2, step_s: float = 60.0, in_flight: float = 0.0) -> list[LoadSample]:
    """A sample a period."""
    return [
        LoadSample(at_s=(k + 1) * step_s, ready=ready, requests_per_s=rate, in_flight=in_flight)
        for k, rate in enumerate(rates)
    ]


@pytest.mark.parametrize(
    ("rates", "wanted"),
    [
        ((500, 500), None),  # two of three minutes
        ((500, 500, 500), 5),
        ((500, 150, 500), None),  # one minute was below the target
        ((500, 500, 900), 9),  # the latest minute says how many
        ((190, 190, 190, 190, 190), None),  # within 10 % of the target: nothing to do
        ((90, 90, 90, 90, 120), 2),  # all below, the highest decides
        ((20, 20, 20, 20, 20), 1),
        ((20, 20, 20, 20), None),  # four of five
    ],
)
def test_target_tracking_scales_out_before_in(rates: tuple[float, ...], wanted: int | None) -> None:
    assert TRACKING.wanted(seen(*rates), 60.0 * len(rates), 2) == wanted


def test_a_period_counts_only_once_it_is_published() -> None:
    late = TargetTracking(metric="requests", target=100, period_s=60, delay_s=10, out_periods=3, in_periods=5)
    assert late.wanted(seen(500, 500, 500), 185, 2) is None
    assert late.wanted(seen(500, 500, 500), 190, 2) == 5


def test_tracking_in_flight_follows_requests_inside() -> None:
    policy = TargetTracking(metric="in_flight", target=4, period_s=60, delay_s=0, out_periods=1, in_periods=5)
    assert policy.wanted(seen(10, in_flight=20), 60, 2) == 5


@pytest.mark.parametrize(("rate", "tasks"), [(100, 4), (260, 6), (600, 8), (2_000, 16)])
def test_steps_add_by_how_far_it_is_above(rate: float, tasks: int) -> None:
    steps = StepScaling(metric="requests", steps=((60, 0.5), (120, 1.0), (300, 3.0)), period_s=10, delay_s=0)
    wanted = steps.wanted(seen(rate, ready=4, step_s=10), 10, 4)
    assert (wanted or 4) == tasks


def test_steps_go_in_a_tenth_at_a_time() -> None:
    steps = StepScaling(metric="requests", steps=((60, 0.5),), period_s=10, delay_s=0, in_below=20, in_periods=3)
    quiet = seen(5, 5, 5, ready=20, step_s=10)
    assert steps.wanted(quiet, 30, 20) == 18
    assert steps.wanted(quiet[:2], 20, 20) is None


def test_schedule_holds_at_its_hours_daily() -> None:
    schedule = Scheduled(floors=((3_600, 7_200, 7),))
    assert [schedule.wanted([], at, 1) for at in (0, 3_600, 7_200, 86_400 + 4_000)] == [0, 7, 0, 7]


def test_forecast_requests_tasks_before_load() -> None:
    forecast = Trace(name="day", at_s=(0, 1_000, 1_001, 2_000), rate_per_s=(100, 100, 900, 900))
    policy = Predictive(forecast=forecast, target=100, ahead_s=300)
    assert [policy.wanted([], at, 1) for at in (0, 650, 710)] == [1, 1, 9]


def test_plan_takes_largest_wish_within_bounds() -> None:
    plan = ScalingPlan(name="both", policies=(TRACKING, Scheduled(floors=((0, 86_400, 4),))), floor=2, ceiling=6)
    assert plan.decide([], 0, 2) == 4
    assert plan.decide(seen(500, 500, 900), 180, 2) == 6


def test_plan_scales_in_after_agreement_and_cooldown() -> None:
    plan = ScalingPlan(name="both", policies=(TRACKING, Scheduled(floors=((0, 86_400, 4),))), in_cooldown_s=300)
    quiet = seen(20, 20, 20, 20, 20, ready=9)
    assert plan.decide(quiet, 300, 9, last_change_s=100) == 9
    assert plan.decide(quiet, 300, 9, last_change_s=0) == 4
    assert plan.decide(quiet[:2], 120, 9) == 9  # tracking has no opinion, so what is there stays


def test_steps_out_wait_for_their_cooldown() -> None:
    plan = ScalingPlan(name="one", policies=(TRACKING,), out_cooldown_s=60)
    assert plan.decide(seen(500, 500, 500), 180, 2, last_out_s=150) == 2
    assert plan.decide(seen(500, 500, 500), 180, 2, last_out_s=120) == 5


def test_a_plan_without_a_warm_floor_is_refused() -> None:
    with pytest.raises(ValueError, match="floor"):
        ScalingPlan(name="none", floor=0)


def test_hourly_forecast_keeps_mean_and_loses_burst() -> None:
    burst = Trace(name="b", at_s=(0, 3_000, 3_001, 3_599, 3_600, 7_200), rate_per_s=(0, 0, 600, 600, 0, 0))
    forecast = hourly(burst)
    assert forecast.requests == pytest.approx(burst.requests, rel=0.02)
    assert forecast.peak < 150


def test_compared_plan_reaches_peak_or_is_named_unscaled() -> None:
    task = TaskModel(name="t", workers=2, service_s=0.002)
    trace = Trace(name="t", at_s=(0, 100), rate_per_s=(10_000, 10_000))
    for plan in plans_for(trace, task, floor=3):
        assert plan.ceiling * task.capacity >= 10_000 or "no scaling" in plan.name
        assert plan.policies or "no scaling" in plan.name or "always" in plan.name
