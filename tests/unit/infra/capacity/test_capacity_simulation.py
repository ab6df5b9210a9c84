"""The simulation: queues as theory has them, requests kept count of, tasks that serve only once they are there."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from infra.capacity.router_task import StartUp, TaskModel
from infra.capacity.scaling_policy import ScalingPlan, TargetTracking
from infra.capacity.simulate import queue, simulate_trace
from infra.capacity.trace import Trace

NO_WAIT = StartUp(provision_s=0, ready_s=0, health_s=0)


def steady(rate: float, seconds: float) -> Trace:
    return Trace(name="steady", at_s=(0.0, seconds), rate_per_s=(rate, rate))


def stepped(arrivals: list[float], services: list[float], free_s: float, queue_s: float) -> tuple[list[float], float]:
    """The queue one request at a time; rejects examples in which rounding decides whether a request may wait."""
    served = []
    for at, service in zip(arrivals, services, strict=True):
        start = max(at, free_s)
        assume(start == at or not math.isclose(start - at, queue_s, rel_tol=1e-9, abs_tol=1e-9))
        if start - at <= queue_s:
            free_s = start + service
            served.append(free_s - at)
    return served, free_s


@settings(max_examples=200)
@given(
    requests=st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 2)), min_size=1, max_size=40),
    free_s=st.floats(0, 5),
    queue_s=st.floats(0, 3),
)
def test_queue_in_one_pass_equals_single_requests(
    requests: list[tuple[float, float]], free_s: float, queue_s: float
) -> None:
    arrivals = sorted(at for at, _ in requests)
    services = [service for _, service in requests]
    expected, expected_free = stepped(arrivals, services, free_s, queue_s)
    found, found_free = queue(np.array(arrivals), np.array(services), free_s, queue_s)
    assert found == pytest.approx(expected)
    assert found_free == pytest.approx(expected_free)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_waiting_matches_m_d_1_queue(load: float) -> None:
    task = TaskModel(name="one", workers=1, service_s=0.01, queue_s=math.inf)
    run = simulate_trace(steady(load * 100, 4_000), task, ScalingPlan(name="one"), start_up=NO_WAIT)
    waiting_ms = [run.latency_ms(share) - 10 for share in np.linspace(0.0005, 0.9995, 1_000)]
    expected_ms = 10 * load / (2 * (1 - load))  # Pollaczek and Khinchine, fixed service
    assert np.mean(waiting_ms) == pytest.approx(expected_ms, rel=0.06, abs=0.1)


def test_overloaded_task_sheds_and_bounds_waiting() -> None:
    task = TaskModel(name="one", workers=2, service_s=0.01, queue_s=0.1)
    run = simulate_trace(steady(600, 60), task, ScalingPlan(name="one"), start_up=NO_WAIT)
    assert run.shed_share == pytest.approx(2 / 3, abs=0.01)
    assert run.latency_ms(1.0) <= 111.5
    assert run.histogram.sum() + run.shed == run.requests


def test_requested_task_serves_after_start_up_only() -> None:
    task = TaskModel(name="one", workers=1, service_s=0.01, queue_s=0.05)
    plan = ScalingPlan(
        name="fast",
        policies=(TargetTracking(metric="requests", target=50, period_s=2, delay_s=0, out_periods=1, in_periods=9),),
    )
    slow = simulate_trace(steady(300, 40), task, plan, start_up=StartUp(provision_s=20, ready_s=0, health_s=0))
    at_once = simulate_trace(steady(300, 40), task, plan, start_up=NO_WAIT)
    assert max(m.ready for m in slow.moments if m.at_s < 22) == 1
    assert slow.moments[5].tasks >= 6  # paid for while they start
    assert slow.moments[-1].ready >= 6
    assert slow.moments[-1].shed == 0
    assert slow.shed_share > 5 * at_once.shed_share


def test_the_same_seed_gives_the_same_run() -> None:
    task = TaskModel(name="one", workers=2, service_s=0.01, service_spread=0.5)
    runs = [
        simulate_trace(steady(150, 10), task, ScalingPlan(name="one"), start_up=NO_WAIT, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert runs[0].latency_ms(0.99) == runs[1].latency_ms(0.99)
    assert runs[0].requests != runs[2].requests


def test_a_spread_of_service_times_lengthens_the_tail() -> None:
    fixed = TaskModel(name="one", workers=1, service_s=0.01)
    spread = TaskModel(name="one", workers=1, service_s=0.01, service_spread=1.0)
    tails = [
        simulate_trace(steady(50, 60), each, ScalingPlan(name="one"), start_up=NO_WAIT).latency_ms(0.99)
        for each in (fixed, spread)
    ]
    assert tails[1] > 1.5 * tails[0]


def test_refusals_take_their_time_from_what_is_served() -> None:
    arrivals, services = np.arange(0, 10, 0.01), np.full(1000, 0.02)
    free, _ = queue(arrivals, services, 0.0, 0.1)
    dear, _ = queue(arrivals, services, 0.0, 0.1, 0.005)
    assert len(free) == pytest.approx(500, abs=8)
    assert len(dear) == pytest.approx(10 / (0.02 + 2 * 0.005), abs=8)  # two of three are refused
