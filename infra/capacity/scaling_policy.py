"""Desired number of tasks: the scaling policies of ECS, as decisions from samples of the load. Pure.

The simulation and the control loop of the validation call the same functions. As in Application Auto Scaling, the
largest number that any policy requests is used.
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

    `ready` tasks received `requests_per_s`, shed ones included. `in_flight` is the mean number of unfinished requests
    of all tasks.
    """

    at_s: float
    ready: int
    requests_per_s: float
    in_flight: float


class Policy(Protocol):
    """Policy that returns its desired number of tasks."""

    def wanted(self, seen: Sequence[LoadSample], now_s: float, tasks: int) -> int | None:
        """Return the desired number of tasks; `tasks` run or start. None: keep them; 0: let other policies decide."""


def _periods(
    seen: Sequence[LoadSample], now_s: float, metric: Metric, *, period_s: float, delay_s: float, count: int
) -> list[tuple[float, float]]:
    """Return (total, per task) of the last `count` whole periods published by now, oldest first."""
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
    """Keep a metric per task near a target, like ECS: scale out fast, scale in slowly.

    Its CloudWatch alarms need 3 periods of a minute to scale out and 15 to scale in. A metric that the tasks publish
    themselves can have periods of 10 s.

    Args:
        metric: requests per second and task, or requests in flight per task.
        target: value per task to keep.
        period_s: length of a period.
        delay_s: seconds until a period is published.
        out_periods: consecutive periods above the target before it scales out.
        in_periods: consecutive periods below 90 % of the target before it scales in.
    """

    metric: Metric
    target: float
    period_s: float = 60.0
    delay_s: float = 10.0
    out_periods: int = 3
    in_periods: int = 15

    def wanted(self, seen: Sequence[LoadSample], now_s: float, tasks: int) -> int | None:
        """Return the number of tasks that brings the metric to its target."""
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
    """Add tasks in steps, by the value of a metric per task: one alarm with a short period.

    Args:
        metric: metric of the alarm, per task.
        steps: (value per task above which the step applies, share of the tasks to add), rising; at least one task is
            added.
        period_s: length of the alarm's period; the shortest of CloudWatch is 10 s.
        delay_s: seconds until a period is published.
        in_below: value per task below which a tenth of the tasks is removed; 0: other policies scale in.
        in_periods: consecutive periods below it before tasks are removed.
    """

    metric: Metric
    steps: tuple[tuple[float, float], ...]
    period_s: float = 10.0
    delay_s: float = 5.0
    in_below: float = 0.0
    in_periods: int = 30

    def wanted(self, seen: Sequence[LoadSample], now_s: float, tasks: int) -> int | None:
        """Return the present tasks plus those that the highest reached step adds."""
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
    """Floors by time of day: (from, until, tasks), in seconds since midnight, when the trace starts."""

    floors: tuple[tuple[float, float, int], ...]

    def wanted(self, _seen: Sequence[LoadSample], now_s: float, _tasks: int) -> int | None:
        """Return the floor of the present time; 0 without one."""
        holding = [tasks for start, until, tasks in self.floors if start <= now_s % DAY_S < until]
        return max(holding, default=0)


@dataclass(frozen=True, kw_only=True)
class Predictive:
    """Follow a forecast in advance. The forecast is a trace, for example of an earlier day.

    Args:
        forecast: expected load.
        target: requests per second and task to plan for.
        ahead_s: seconds before the load at which tasks are requested.
    """

    forecast: Trace
    target: float
    ahead_s: float = 300.0

    def wanted(self, _seen: Sequence[LoadSample], now_s: float, _tasks: int) -> int | None:
        """Return the tasks for the highest rate that is forecast for the next `ahead_s` seconds."""
        return math.ceil(self.forecast.highest(now_s, now_s + self.ahead_s) / self.target - 1e-9)


@dataclass(frozen=True, kw_only=True)
class ScalingPlan:
    """Policies with bounds and cooldowns.

    Args:
        name: name of the plan in tables.
        policies: scaling policies; without one, the floor is kept.
        floor: tasks that always run (warm floor), at least 1, because an ALB queues no requests.
        ceiling: largest number of tasks.
        out_cooldown_s: shortest time between two steps out.
        in_cooldown_s: shortest time between any step and a step in.
    """

    name: str
    policies: tuple[Policy, ...] = ()
    floor: int = 1
    ceiling: int = 100
    out_cooldown_s: float = 0.0
    in_cooldown_s: float = 300.0

    def __post_init__(self) -> None:
        if not 1 <= self.floor <= self.ceiling:
            raise ValueError(f"plan {self.name}: expected 1 <= floor <= ceiling, got {self.floor} and {self.ceiling}")

    def decide(
        self, seen: Sequence[LoadSample], now_s: float, tasks: int, *, last_out_s: float = -math.inf,
        last_change_s: float = -math.inf,
    ) -> int:  # fmt: skip
        """Return the number of tasks that should run from now on; `tasks` run or start.

        The largest number that any policy requests is used, so tasks are removed only as far as every policy allows.
        """
        opinions = [policy.wanted(seen, now_s, tasks) for policy in self.policies]
        wish = max((tasks if opinion is None else opinion for opinion in opinions), default=self.floor)
        bounded = max(self.floor, min(self.ceiling, wish))
        cooled = now_s - (last_out_s if bounded > tasks else last_change_s)
        return bounded if cooled >= (self.out_cooldown_s if bounded > tasks else self.in_cooldown_s) else tasks
