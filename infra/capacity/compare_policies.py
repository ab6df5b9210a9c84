"""Scaling policies that are compared for a task and a trace, and the result of each."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from infra.capacity.router_task import StartUp, TaskModel
from infra.capacity.scaling_policy import Policy, Predictive, ScalingPlan, Scheduled, StepScaling, TargetTracking
from infra.capacity.simulate import SimulatedTrace, simulate_trace
from infra.capacity.trace import Trace

TARGET_LOAD: Final = 0.6  # share of a task's capacity that tracking keeps; the rest lasts until a new task is ready
_HOUR_S: Final = 3_600.0
_EARLY_S: Final = 600.0


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """Result of one plan. `usd` is None without a price per task-hour."""

    plan: ScalingPlan
    run: SimulatedTrace
    usd: float | None

    @property
    def usd_per_million(self) -> float | None:
        """US dollars per million served requests; tasks only."""
        served = self.run.requests - self.run.shed
        return None if self.usd is None or not served else self.usd / served * 1e6


def hourly(trace: Trace) -> Trace:
    """Return the hourly means of a trace, as a perfect forecast. Shorter bursts disappear in the mean.

    ECS's predictive scaling forecasts each hour from up to two weeks of data.
    """
    starts = [k * _HOUR_S for k in range(math.ceil(trace.seconds / _HOUR_S))]
    at_s: list[float] = []
    rates: list[float] = []
    for start in starts:
        end = min(start + _HOUR_S, trace.seconds)
        grid = [start + (k + 0.5) * (end - start) / 360 for k in range(360)]
        mean = sum(float(trace.rate(at)) for at in grid) / len(grid)
        at_s += [start + (1e-3 if start else 0.0), end]
        rates += [mean, mean]
    return Trace(name=f"{trace.name}, hourly means", at_s=tuple(at_s), rate_per_s=tuple(rates))


def schedule(trace: Trace, target: float) -> Scheduled:
    """Return the schedule for a known day: tasks for each hour's peak, ten minutes early."""
    floors = []
    for hour in range(math.ceil(trace.seconds / _HOUR_S)):
        start = hour * _HOUR_S
        tasks = math.ceil(trace.highest(start, min(start + _HOUR_S, trace.seconds)) / target)
        floors.append((max(0.0, start - _EARLY_S), start + _HOUR_S, tasks))
    return Scheduled(floors=tuple(floors))


def plans_for(trace: Trace, task: TaskModel, *, floor: int = 2) -> tuple[ScalingPlan, ...]:
    """Return the compared plans, from the cheapest to the most expensive.

    Args:
        trace: gives the ceiling, the schedule and the forecast.
        task: gives the targets.
        floor: warm floor of the plans that have one.
    """
    target = TARGET_LOAD * task.capacity
    needed = math.ceil(trace.peak / target)
    ceiling = max(2 * needed, floor)
    # M/D/1 queue at the target load: at 0.6 a request waits 0.75 service times
    busy_s = task.service_s * (1 + TARGET_LOAD / (2 * (1 - TARGET_LOAD))) + task.overhead_s
    minute = TargetTracking(metric="requests", target=target)
    fast = TargetTracking(metric="requests", target=target, period_s=10, delay_s=5, out_periods=1, in_periods=30)
    in_flight = TargetTracking(
        metric="in_flight", target=target * busy_s, period_s=10, delay_s=5, out_periods=1, in_periods=30
    )
    steps = StepScaling(
        metric="requests",
        steps=((0.75 * task.capacity, 0.5), (task.capacity, 1.0), (2 * task.capacity, 3.0)),
        in_below=0.3 * task.capacity,
    )

    def plan(name: str, *policies: Policy, least: int = 1) -> ScalingPlan:
        return ScalingPlan(name=name, policies=policies, floor=least, ceiling=ceiling)

    return (
        plan("one task, no scaling"),
        plan("tracking on requests, minute alarms", minute),
        plan("tracking on requests, 10 s metric", fast),
        plan("tracking on in flight, 10 s metric", in_flight),
        plan("steps, 10 s metric", steps),
        plan(f"steps and tracking 10 s, floor of {floor}", _out_only(steps), fast, least=floor),
        plan("as deployed: steps 10 s, tracking by minutes, floor of 2", _out_only(steps), minute, least=2),
        plan("schedule and tracking 10 s", schedule(trace, target), fast),
        plan("forecast and tracking 10 s", Predictive(forecast=hourly(trace), target=target), fast),
        plan("always enough for the peak", least=needed),
    )


def _out_only(steps: StepScaling) -> StepScaling:
    return StepScaling(metric=steps.metric, steps=steps.steps, period_s=steps.period_s, delay_s=steps.delay_s)


def compare(
    trace: Trace, task: TaskModel, plans: Iterable[ScalingPlan], *, start_up: StartUp,
    usd_per_task_hour: float | None = None, seed: int = 0, on_plan: Callable[[int, str], None] = lambda *_: None,
) -> list[PlanResult]:  # fmt: skip
    """Simulate a trace with each plan, all with the same seed of arrivals.

    `on_plan` gets the number of completed plans and the name of the next one.
    """
    outcomes: list[PlanResult] = []
    for plan in plans:
        on_plan(len(outcomes), plan.name)
        run = simulate_trace(trace, task, plan, start_up=start_up, seed=seed)
        usd = None if usd_per_task_hour is None else run.task_hours * usd_per_task_hour
        outcomes.append(PlanResult(plan=plan, run=run, usd=usd))
    return outcomes
