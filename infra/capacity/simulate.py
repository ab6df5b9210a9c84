"""Discrete-event simulation of a service under a load trace: queues, shedding, starting tasks, scaling.

Requests go to the ready tasks in turn, then to a random worker of the task. Each worker has a queue and refuses
requests that would wait too long. Every request is simulated. If a queue refuses none in an interval, Lindley's
recursion gives its waiting times in one cumulative maximum. Otherwise the queue is simulated request by request, with
equal results.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from infra.capacity.router_task import StartUp, TaskModel
from infra.capacity.scaling_policy import LoadSample, ScalingPlan
from infra.capacity.trace import LoadSeries, Trace

_BINS = np.geomspace(1e-5, 1e3, 2_000)  # seconds; neighbours differ by 0.9 %
_LONG_S = 4 * 3_600.0  # longer traces are sampled every ten seconds


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Interval of a run that ends at `at_s`. Rates are per second; `tasks` are paid for, `ready` ones serve."""

    at_s: float
    offered: float
    shed: float
    tasks: int
    ready: int


@dataclass(kw_only=True)
class SimulatedTrace:
    """Result of a simulated trace. Latencies are those of served requests."""

    plan: str
    trace: str
    requests: int = 0
    shed: int = 0
    task_s: float = 0.0
    peak_tasks: int = 0
    moments: list[Moment] = field(default_factory=list)
    histogram: LoadSeries = field(default_factory=lambda: np.zeros(len(_BINS) + 1))

    @property
    def shed_share(self) -> float:
        """Share of the requests that were answered 429."""
        return self.shed / self.requests if self.requests else 0.0

    @property
    def task_hours(self) -> float:
        """Paid hours of tasks, including tasks that start or drain."""
        return self.task_s / 3_600

    def latency_ms(self, share: float) -> float:
        """Return a quantile of the latency of served requests, within 1 %; NaN if none was served."""
        total = self.histogram.sum()
        if not total:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self.histogram), share * total))
        return float(_BINS[min(max(place, 0), len(_BINS) - 1)] * 1_000)


@dataclass(eq=False)
class _Task:
    """Task, with the time at which each of its workers is free."""

    asked_s: float
    ready_s: float
    free_s: list[float]


def simulate_trace(
    trace: Trace, task: TaskModel, plan: ScalingPlan, *, start_up: StartUp, seed: int = 0, sample_s: float | None = None
) -> SimulatedTrace:
    """Simulate a trace. At its start the floor of tasks is ready.

    Args:
        trace: the load.
        task: model of one task.
        plan: decides the number of tasks.
        start_up: time until a new task is ready.
        seed: seed of arrivals, service times and the choice of workers.
        sample_s: seconds between decisions of the plan; unset: 1, or 10 for traces of more than four hours.
    """
    rng = np.random.default_rng(seed)
    step_s = sample_s or (10.0 if trace.seconds > _LONG_S else 1.0)
    run = SimulatedTrace(plan=plan.name, trace=trace.name)
    tasks = [_new(task, asked_s=0.0, ready_s=0.0) for _ in range(plan.floor)]
    seen: list[LoadSample] = []
    last_out_s = last_change_s = -math.inf
    turn = 0
    now_s = 0.0
    while now_s < trace.seconds - 1e-9:
        until_s = min(now_s + step_s, trace.seconds)
        arrivals = trace.arrivals(now_s, until_s, rng)
        changes = sorted({t.ready_s for t in tasks if now_s < t.ready_s < until_s})
        inside_s = 0.0
        shed = 0
        begin = 0
        for end_s in [*changes, until_s]:  # the ready tasks are the same between two of these
            ready = [t for t in tasks if t.ready_s < end_s]
            end = int(np.searchsorted(arrivals, end_s))
            took_s, refused = _serve(ready, arrivals[begin:end], task, run, rng, turn)
            turn += end - begin
            begin = end
            inside_s += took_s
            shed += refused
        run.requests += len(arrivals)
        run.shed += shed
        run.task_s += len(tasks) * (until_s - now_s)
        run.peak_tasks = max(run.peak_tasks, len(tasks))
        span_s = until_s - now_s
        ready_count = sum(t.ready_s <= until_s for t in tasks)
        run.moments.append(
            Moment(
                at_s=until_s, offered=len(arrivals) / span_s, shed=shed / span_s, tasks=len(tasks), ready=ready_count
            )
        )
        seen.append(
            LoadSample(
                at_s=until_s, ready=ready_count, requests_per_s=len(arrivals) / span_s, in_flight=inside_s / span_s
            )
        )
        now_s = until_s
        decided = plan.decide(seen, now_s, len(tasks), last_out_s=last_out_s, last_change_s=last_change_s)
        if decided > len(tasks):
            last_out_s = last_change_s = now_s
            tasks += [_new(task, asked_s=now_s, ready_s=now_s + start_up.total_s) for _ in range(decided - len(tasks))]
        elif decided < len(tasks):
            last_change_s = now_s
            tasks.sort(key=lambda t: t.asked_s)
            for gone in tasks[decided:]:  # the newest are removed first; their waiting requests are served and paid for
                run.task_s += max(0.0, max(gone.free_s) - now_s)
            tasks = tasks[:decided]
    return run


def _new(task: TaskModel, *, asked_s: float, ready_s: float) -> _Task:
    return _Task(asked_s=asked_s, ready_s=ready_s, free_s=[ready_s] * task.workers)


def _serve(
    ready: Sequence[_Task],
    arrivals: LoadSeries,
    task: TaskModel,
    run: SimulatedTrace,
    rng: np.random.Generator,
    turn: int,
) -> tuple[float, int]:
    """Send arrivals through the ready tasks. Return the seconds that they spent inside, and the number shed."""
    count = len(arrivals)
    if not count:
        return 0.0, 0
    services = np.full(count, task.service_s)
    if task.service_spread:
        shape = task.service_spread**-2
        services = rng.gamma(shape, task.service_s / shape, count)
    lane = (turn + np.arange(count)) % len(ready) * task.workers
    if task.workers > 1:
        lane = lane + rng.integers(0, task.workers, count)
    order = np.argsort(lane, kind="stable")
    bounds = np.searchsorted(lane[order], np.arange(len(ready) * task.workers + 1))
    inside_s, shed = 0.0, 0
    for number, (first, last) in enumerate(pairwise(bounds)):
        if first == last:
            continue
        one = ready[number // task.workers]
        chosen = order[first:last]
        worker = number % task.workers
        sojourn, one.free_s[worker] = queue(
            arrivals[chosen], services[chosen], one.free_s[worker], task.queue_s, task.refuse_s
        )
        latency = sojourn + task.overhead_s
        shed += (last - first) - len(latency)
        inside_s += float(latency.sum())
        run.histogram += np.bincount(np.searchsorted(_BINS, latency), minlength=len(_BINS) + 1)
    return inside_s, int(shed)


def queue(
    arrivals: LoadSeries, services: LoadSeries, free_s: float, queue_s: float, refuse_s: float = 0.0
) -> tuple[LoadSeries, float]:
    """Simulate one server, first come first served, that refuses requests which would wait longer than `queue_s`.

    Args:
        arrivals: times, sorted.
        services: seconds of each request.
        free_s: time at which the server has finished earlier requests.
        queue_s: longest wait.
        refuse_s: seconds of the server per refusal.

    Returns:
        Seconds from arrival to completion of the served requests, in order, and the time at which the server is free.
    """
    done = np.cumsum(services)
    starts = np.maximum(np.maximum.accumulate(arrivals - (done - services)), free_s) + (done - services)
    if (starts - arrivals).max() <= queue_s:
        return starts + services - arrivals, float(starts[-1] + services[-1])
    served = []
    for at, service in zip(arrivals.tolist(), services.tolist(), strict=True):
        start = max(at, free_s)
        if start - at <= queue_s:
            free_s = start + service
            served.append(free_s - at)
        else:
            free_s += refuse_s
    return np.array(served), free_s
