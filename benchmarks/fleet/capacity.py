"""Is the capacity simulation right: `python -m benchmarks capacity` runs what it simulates.

Replicas with a declared fixed service time behind HAProxy on loopback, started and stopped by the plans that the
simulation is given, under the same traces (`capacity.json`); with `--part router` the real router, alone, at two loads
above its saturation (`capacity_router.json`).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from benchmarks.figures import Row, write_result
from benchmarks.fleet.scaled_service import scaled_service
from benchmarks.router.load import OpenLoop, replay
from infra.capacity.router_task import StartUp, TaskModel
from infra.capacity.scaling_policy import ScalingPlan, StepScaling, TargetTracking
from infra.capacity.simulate import SimulatedTrace, simulate_trace
from infra.capacity.trace import Trace

RESULTS = Path(__file__).parents[1] / "results"
TASK = TaskModel(name="declared 20 ms", workers=1, service_s=0.02, queue_s=0.2)
START_UP = StartUp(provision_s=3, ready_s=0, health_s=0)
MAX_SHED_DIFFERENCE, MAX_P99_DIFFERENCE = 0.02, 0.20
_BURST = Trace(
    name="0 to 6 tasks' worth in 3 s", at_s=(0, 3, 6, 20, 23, 31), rate_per_s=(10, 10, 300, 300, 40, 40)
)  # fmt: skip
_WAVE = Trace(name="a wave", at_s=(0, 15, 30, 38), rate_per_s=(30, 160, 30, 30))


def _tracking(metric: str, target: float) -> TargetTracking:
    return TargetTracking(
        metric="requests" if metric == "requests" else "in_flight",
        target=target, period_s=2, delay_s=0, out_periods=1, in_periods=3,
    )  # fmt: skip


_STEPS = StepScaling(
    metric="requests", steps=((40.0, 0.5), (60.0, 1.0)), period_s=2, delay_s=0, in_below=15, in_periods=4
)
CASES = (
    (_BURST, ScalingPlan(name="tracking on requests", policies=(_tracking("requests", 30),), floor=2, ceiling=14)),
    (_BURST, ScalingPlan(name="tracking on in flight", policies=(_tracking("in_flight", 2),), floor=2, ceiling=14)),
    (_BURST, ScalingPlan(name="steps, floor of 4", policies=(_STEPS,), floor=4, ceiling=14, out_cooldown_s=3)),
    (_WAVE, ScalingPlan(name="tracking on requests", policies=(_tracking("requests", 30),), floor=2, ceiling=14)),
)


def run_once(trace: Trace, plan: ScalingPlan, seed: int) -> tuple[OpenLoop, float, int]:
    """One real run. Returns the answers, the task-seconds and the most tasks at once."""
    rng = np.random.default_rng(seed)
    step = 1.0
    times = np.concatenate([trace.arrivals(at, at + step, rng) for at in np.arange(0, trace.seconds, step)])
    with scaled_service(task=TASK, plan=plan, start_up=START_UP) as service:
        service.begin()
        answers = replay("127.0.0.1", service.port, [("text", "text")], times.tolist(), seconds=trace.seconds)
        return answers, service.task_s, service.peak


def _compared(case: str, real: Sequence[tuple[float, float]], simulated: Sequence[SimulatedTrace]) -> list[Row]:
    """Rows of shed share and p99, real beside simulated, run by run."""
    rows = []
    for metric, unit, reals, sims in (
        ("shed_share", "share", [shed for shed, _ in real], [run.shed_share for run in simulated]),
        ("p99", "ms", [p99 for _, p99 in real], [run.latency_ms(0.99) for run in simulated]),
    ):
        for name, values in (("real", reals), ("simulated", sims)):
            rows.append(_row(case, f"{metric}_{name}", values, unit, projected=name == "simulated"))
        if unit == "share":
            apart = [abs(a - b) for a, b in zip(reals, sims, strict=True)]
            target, most = "<= 0.02", MAX_SHED_DIFFERENCE
        else:
            apart = [abs(a - b) / a for a, b in zip(reals, sims, strict=True)]
            target, most = "<= 0.2 of the real one", MAX_P99_DIFFERENCE
        row = _row(case, f"{metric}_difference", apart, "share")
        rows.append(Row(**{**vars(row), "target": target, "met": row.value <= most}))
    return rows


def _row(case: str, metric: str, values: Sequence[float], unit: str, *, projected: bool = False) -> Row:
    return Row(
        case=case, metric=metric, value=round(statistics.median(values), 5), low=round(min(values), 5),
        high=round(max(values), 5), runs=len(values), unit=unit, projected=projected,
    )  # fmt: skip


def validate(runs: int, *, length: float = 1.0, cases: int = len(CASES)) -> list[Row]:
    """Every case, so many times. `length` below 1 shortens the traces."""
    rows = []
    for trace, plan in CASES[:cases]:
        case = f"{trace.name}: {plan.name}"
        shorter = trace.scaled(time=length)
        real, simulated, hours = [], [], []
        for seed in range(runs):
            answers, task_s, peak = run_once(shorter, plan, seed)
            served = answers.count(200)
            if served + answers.count(429) != answers.sent:
                raise RuntimeError(f"{answers.sent - served - answers.count(429)} requests were not answered")
            real.append((answers.count(429) / answers.sent, answers.percentile_ms(0.99)))
            simulated.append(simulate_trace(shorter, TASK, plan, start_up=START_UP, seed=seed, sample_s=1.0))
            hours.append((task_s, simulated[-1].task_s))
            print(f"{case}, run {seed}: {real[-1]} real, {simulated[-1].shed_share:.4f} "
                  f"{simulated[-1].latency_ms(0.99):.0f} ms simulated, {peak} tasks", flush=True)  # fmt: skip
        rows += _compared(case, real, simulated)
        rows.append(_row(case, "task_seconds_real", [each for each, _ in hours], "s"))
        rows.append(_row(case, "task_seconds_simulated", [each for _, each in hours], "s", projected=True))
    return rows


def router(runs: int, seconds: float, packages: Path, queue_ms: float = 100.0) -> list[Row]:
    """The real router at two loads above its saturation, and what the simulation says of a task with its figures.

    The task's figures come from runs at other loads: service from saturation, a refusal from a router that refuses
    everything, the bound of the wait from a load just above saturation. The load generator runs on the same cores, so
    what it takes of them at a load is taken from the workers.
    """
    from benchmarks.router.load import open_loop, saturate, write_bodies
    from benchmarks.router.serving import MODELS, PORT, SAMPLE, build, read_rows
    from benchmarks.router.serving import router as start_router

    pairs = read_rows(SAMPLE)
    package = build(MODELS[0], packages / "capacity", pairs)
    cores = os.cpu_count() or 2

    def run(load: float, bound_ms: float, seed: int = 0) -> tuple[OpenLoop, float, float]:
        """Answers, and CPU-seconds a request of the generator and of the workers."""
        with start_router(package, cores, EVERGREEN_QUEUE_MS=str(bound_ms)) as parent:
            open_loop("127.0.0.1", PORT, pairs, rate=200, seconds=2)
            own, theirs = time.process_time(), _cpu_s(parent)
            answers = open_loop("127.0.0.1", PORT, pairs, rate=load, seconds=seconds, seed=seed)
            used = time.process_time() - own, _cpu_s(parent) - theirs
        return answers, used[0] / answers.sent, used[1] / answers.sent

    with tempfile.TemporaryDirectory() as name, start_router(package, cores, EVERGREEN_QUEUE_MS="5000"):
        bodies = Path(name) / "bodies"
        write_bodies(bodies, pairs)
        roughly = [saturate(f"http://127.0.0.1:{PORT}", bodies, seconds=3).rate for _ in range(2)][1]
    patient, generator_s, asked_s = run(1.15 * roughly, 8_000)
    rate = patient.count(200) / max(seconds, patient.last_answer_s)
    served_s = asked_s * patient.sent / patient.count(200)
    refusing, _, asked_s = run(4 * rate, 0.001)  # a row that finds the queue empty is served all the same
    refused_s = max(0.0, asked_s * refusing.sent - served_s * refusing.count(200)) / max(1, refusing.count(429))
    rows = [
        _row(f"router, {MODELS[0].name}", "saturation", [rate], "1/s"),
        _row(f"router, {MODELS[0].name}", "worker_cpu_per_refusal", [refused_s * 1e6], "us"),
        _row("load generator", "cpu_per_request", [generator_s * 1e6], "us"),
    ]

    def task_at(load: float, queue_s: float) -> TaskModel:
        left = cores / max(0.1, cores - load * generator_s)
        return TaskModel(
            name="router", workers=cores, service_s=served_s * left, refuse_s=refused_s * left, queue_s=queue_s
        )

    above, _, _ = run(1.2 * rate, queue_ms)
    waits_s = max(0.0, above.percentile_ms(0.99) / 1e3 - task_at(1.2 * rate, 0.0).service_s)
    rows.append(_row(f"router at 1.2 x saturation, bound of {queue_ms:g} ms", "p99", [waits_s * 1e3], "ms"))
    for load in (1.5, 3.0):
        offered = load * rate
        trace = Trace(name="steady", at_s=(0, seconds), rate_per_s=(offered, offered))
        task, real, simulated = task_at(offered, waits_s), [], []
        for seed in range(runs):
            answers, _, _ = run(offered, queue_ms, seed)
            real.append((1 - answers.count(200) / answers.sent, answers.percentile_ms(0.99)))
            simulated.append(simulate_trace(trace, task, ScalingPlan(name="one task"), start_up=START_UP, seed=seed))
            print(f"router at {load:g} x saturation, run {seed}: {real[-1]} real, {simulated[-1].shed_share:.4f} "
                  f"{simulated[-1].latency_ms(0.99):.0f} ms simulated", flush=True)  # fmt: skip
        rows += _compared(f"router at {load:g} x saturation", real, simulated)
    return rows


def _cpu_s(parent: psutil.Process) -> float:
    return float(sum(sum(each.cpu_times()[:2]) for each in (parent, *parent.children())))


def main() -> int:
    """Run the validation and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("replicas", "router"), default="replicas")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--length", type=float, default=1.0, help="length of the traces; less is a trial")
    parser.add_argument("--router-s", type=float, default=20.0, help="seconds a load")
    parser.add_argument("--packages", type=Path, default=Path(".evergreen/benchmark-packages"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    versions = {"numpy": np.__version__}
    if options.part == "router":
        name, rows = "capacity_router", router(options.runs, options.router_s, options.packages)
    else:
        name, rows = "capacity", validate(options.runs, length=options.length)
        shown = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=False).stdout.split()
        versions["haproxy"] = shown[2] if len(shown) > 2 else "unknown"
    write_result(
        options.out or RESULTS / f"{name}.json", name=name, seed=0, rows=rows, versions=versions,
        command=f"make benchmark-capacity ARGS='--part {options.part}'",
    )  # fmt: skip
    return 0 if all(row.met is not False for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
