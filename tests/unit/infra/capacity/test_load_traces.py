"""Load traces: read strictly, and turned into arrivals."""

from pathlib import Path

import numpy as np
import pytest

from infra.capacity.capacity_report import draw, table
from infra.capacity.compare_policies import compare, plans_for
from infra.capacity.router_task import MissingFigureError, StartUp, TaskModel, measured_task
from infra.capacity.trace import Trace, read_trace, shipped_traces


def test_the_shapes_that_matter_are_shipped() -> None:
    traces = shipped_traces()
    assert set(traces) == {"burst", "daily", "flash", "night"}
    burst = traces["burst"]
    assert burst.rate(60) == 0
    assert burst.rate(70) == 10_000
    assert traces["daily"].seconds == 86_400


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("at_s,rate\n0,1\n", "line 2"),
        ("at_s,requests_per_s\n0,1\n5,many\n", "line 3"),
        ("at_s,requests_per_s\n0,1\n", "two points"),
        ("at_s,requests_per_s\n0,1\n5,1\n4,1\n", "rise"),
        ("at_s,requests_per_s\n3,1\n5,1\n", "start at 0"),
        ("at_s,requests_per_s\n0,1\n5,-1\n", "0 or more"),
        ("at_s,requests_per_s\n0,1\n5,nan\n", "finite"),
    ],
)
def test_unusable_trace_is_refused_with_reason(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "load.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=said):
        read_trace(path)


def test_arrivals_follow_the_rate_and_are_sorted() -> None:
    trace = Trace(name="ramp", at_s=(0, 100), rate_per_s=(0, 1_000))
    rng = np.random.default_rng(0)
    arrivals = np.concatenate([trace.arrivals(at, at + 1, rng) for at in range(100)])
    assert len(arrivals) == pytest.approx(trace.requests, rel=0.02)
    assert (np.diff(arrivals) >= 0).all()
    assert (arrivals < 50).mean() == pytest.approx(0.25, abs=0.02)


def test_a_scaled_trace_keeps_its_shape() -> None:
    trace = shipped_traces()["flash"].scaled(time=0.5, load=2)
    assert trace.peak == 10_000
    assert trace.seconds == 1_800


SERVING = {
    "machine": {"cores": 2},
    "rows": [
        {"case": "L6, saturation", "metric": "requests_per_s", "value": 1_000},
        {"case": "L6, open loop at 50 % of saturation", "metric": "p50", "value": 5.0},
        {"case": "L2, saturation", "metric": "requests_per_s", "value": 8_000},
        {"case": "L6, saturation", "metric": "requests_per_s", "value": 600, "peer": "a plain server"},
    ],
}


def test_measured_task_has_measured_throughput_and_median() -> None:
    task = measured_task(SERVING, "L6")
    assert task.capacity == pytest.approx(1_000)
    assert task.measured
    assert task.overhead_s + 1.2 * task.service_s == pytest.approx(0.005)
    assert measured_task(SERVING, "L2").overhead_s == 0


@pytest.mark.parametrize("serving", [None, SERVING])
def test_unmeasured_figure_is_named(serving: dict[str, object] | None) -> None:
    with pytest.raises(MissingFigureError, match=r"L12.*benchmark-serving"):
        measured_task(serving, "L12")


def test_a_comparison_becomes_a_table_and_a_picture(tmp_path: Path) -> None:
    trace = shipped_traces()["burst"].scaled(time=0.1, load=0.05)
    task = TaskModel(name="t", workers=1, service_s=0.01)
    outcomes = compare(trace, task, plans_for(trace, task), start_up=StartUp(), usd_per_task_hour=0.04)
    lines = [*table(outcomes)]
    assert len(lines) == 2 + len(outcomes)
    assert all(line.count("|") == 9 for line in lines)
    enough = outcomes[-1]
    assert enough.run.shed_share == 0
    assert enough.usd == pytest.approx(enough.run.task_hours * 0.04)
    for name in ("a.svg", "b.svg"):
        draw(trace, outcomes, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
