"""Desired number of tasks: the scaling policies of ECS, decided from what was seen. Pure.

The simulation and the control loop of the validation call the same functions. Like Application Auto Scaling, several
policies together give the largest number that any of them wants.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from infra.capacity.trace import Trace

Metric = Literal["requests", "in_flight"]
DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class LoadSample:
    """Measurements of an interval that ends at `at_s`.

    `ready` tasks took `requests_per_s` (shed ones included); `in_flight` is the mean number of requests inside, all
    tasks together.
    """

    at_s: float
    ready: int
    requests_per_s: float
    in_flight: float


class Policy(Protocol):
    """Policy that returns the number of tasks it wants."""

    def wanted(self, seen: Sequence[LoadSample], now_s: float, tasks: int) -> int | None:
        """Tasks wanted now, out of `tasks` that are there or starting; None keeps them, 0 leaves it to the others."""


def _periods(
    seen: Sequence[LoadSample], now_s: float, metric: Metric, *, period_s: float, delay_s: float, count: int
) -> list[tuple[float, float]]:
    """(total, a task) of the last `count` whole periods that are published by now, oldest first."""
    last = math.floor((now_s - delay_s) / period_s + 1e-9)
    found: list[tuple[float, float]] = []
    for period in range(last - count, last):
        inside = []
        for sample in reversed(seen):
            if sample.at_s <= period * period_s + 1e-9:
                break
            if sample.at_s <= (period + 1) * period_s + 1e-9:
                inside.append(sample)
        if not inside:
            return []
        value = sum(s.requests_per_s if metric == "requests" else s.in_flight for s in inside) / len(inside)
        ready = sum(s.ready for s in inside) / len(inside)
        found.append((value, value / max(ready, 1.0)))
    return found


@dataclass(frozen=True, kw_only=True)
class TargetTracking:
    """Keep a metric per task near a target, as ECS does: out fast, in slowly.

    CloudWatch's alarms for it look at 3 periods of a minute to go out and 15 to go in; a metric that the tasks publish
    themselves can have periods of 10 s.

    Args:
        metric: requests per second and task, or requests in flight per task.
        target: value a task to keep.
        period_s: length of a period.
        delay_s: how late a period is published.
        out_periods: periods in a row above the target before it goes out.
        in_periods: periods in a row below 90 % of the target before it goes in.
    """

    metric: Metric
    target: float
    period_s: float = 60.0
    delay_s: float = 10.0
    out_periods: int = 3
    in_periods: int = 15

    def wanted(self, seen: Sequence[LoadSample], now_s: float, tasks: int) -> int | None:
        """Tasks that bring the metric to its target."""
        periods = _periods(
            seen, now_s, self.metric, period_s=self.period_s, delay_s=self.delay_s, count=self.in_periods
        )
        if not periods:
            periods = _periods(
                seen, now_s, self.metric, period_s=self.period_s, delay_s=self.delay_s, count=self.out_periods
            )
            if not periods:
                return None
        latest = periods[-self.out_periods :]
        if all(each > self.target for _, each in latest):
            return max(tasks, math.ceil(latest[-1][0] / self.target - 1e-9))
        if len(periods) == self.in_periods and all(each < 0.9 * self.target for _, each in periods):
            return min(tasks, math.ceil(max(total for total, _ in periods) / self.target - 1e-9))
        return None


@dataclass(frozen=True, kw_only=True)
class StepScaling:
    """Add tasks by how far a metric per task is above a threshold: one alarm of a short period.

    Args:
        metric: what the alarm looks at, a task.
        steps: (value a task from which it holds, share of the tasks to add), rising; at least one task is added.
        period_s: length of the alarm's period; 10 s is the shortest that CloudWatch has.
        delay_s: how late a period is published.
        in_below: value a task below which a tenth of the tasks goes; 0 leaves going in to other policies.
        in_periods: periods in a row below it before that happens.
    """

    metric: Metric
    steps: tuple[tuple[float, float], ...]
    period_s: float = 10.0
    delay_s: float = 5.0
    in_below: float = 0.0
    in_periods: int = 30

    def wanted(self, seen: Sequence[LoadSample], now_s: float, tasks: int) -> int | None:
        """Return the tasks that there are, and those that the highest step reached adds."""
        periods = _periods(seen, now_s, self.metric, period_s=self.period_s, delay_s=self.delay_s, count=1)
        nothing = None if self.in_below else 0
        if not periods:
            return nothing
        reached = [add for value, add in self.steps if periods[-1][1] > value]
        if reached:
            return tasks + max(1, math.ceil(reached[-1] * tasks))
        longer = _periods(seen, now_s, self.metric, period_s=self.period_s, delay_s=self.delay_s, count=self.in_periods)
        if longer and all(each < self.in_below for _, each in longer):
            return tasks - max(1, tasks // 10)
        return nothing


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """A floor at times of the day: (from, until, tasks) in seconds since midnight, the trace's begin."""

    floors: tuple[tuple[float, float, int], ...]

    def wanted(self, _seen: Sequence[LoadSample], now_s: float, _tasks: int) -> int | None:
        """Return the floor now, if one holds."""
        holding = [tasks for start, until, tasks in self.floors if start <= now_s % DAY_S < until]
        return max(holding, default=0)


@dataclass(frozen=True, kw_only=True)
class Predictive:
    """Follow a forecast, so many seconds ahead. The forecast is a trace: an earlier day's, for one.

    Args:
        forecast: what is expected.
        target: requests per second and task to plan for.
        ahead_s: seconds before the load at which the tasks are requested.
    """

    forecast: Trace
    target: float
    ahead_s: float = 300.0

    def wanted(self, _seen: Sequence[LoadSample], now_s: float, _tasks: int) -> int | None:
        """Tasks for the highest rate that is expected from now to then."""
        return math.ceil(self.forecast.highest(now_s, now_s + self.ahead_s) / self.target - 1e-9)


@dataclass(frozen=True, kw_only=True)
class ScalingPlan:
    """Policies with bounds and cooldowns.

    Args:
        name: for tables.
        policies: none keeps the floor.
        floor: tasks that always run: the warm floor. An ALB holds no request back, so 0 is not one.
        ceiling: tasks at most.
        out_cooldown_s: least time between two steps out.
        in_cooldown_s: least time after any step before one in.
    """

    name: str
    policies: tuple[Policy, ...] = ()
    floor: int = 1
    ceiling: int = 100
    out_cooldown_s: float = 0.0
    in_cooldown_s: float = 300.0

    def __post_init__(self) -> None:
        if not 1 <= self.floor <= self.ceiling:
            raise ValueError(f"plan {self.name} needs 1 <= floor <= ceiling, got {self.floor} and {self.ceiling}")

    def decide(
        self, seen: Sequence[LoadSample], now_s: float, tasks: int, *, last_out_s: float = -math.inf,
        last_change_s: float = -math.inf,
    ) -> int:  # fmt: skip
        """Tasks that should run from now on, out of `tasks` that are there or starting.

        The largest number that a policy wants counts, so it goes in only as far as every policy agrees.
        """
        opinions = [policy.wanted(seen, now_s, tasks) for policy in self.policies]
        wish = max((tasks if opinion is None else opinion for opinion in opinions), default=self.floor)
        bounded = max(self.floor, min(self.ceiling, wish))
        cooled = now_s - (last_out_s if bounded > tasks else last_change_s)
        return bounded if cooled >= (self.out_cooldown_s if bounded > tasks else self.in_cooldown_s) else tasks
