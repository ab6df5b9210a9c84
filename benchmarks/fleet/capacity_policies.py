"""Scaling plans compared on the shipped traces by simulation: `python -m benchmarks capacity_policies`.

All figures are projections: measured throughput of a task where `benchmarks/results/serving.json` has it (a declared
one otherwise, and the first row says so), assumed start-up times, list prices.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.figures import Row, write_result
from infra.capacity.capacity_report import draw, table
from infra.capacity.compare_policies import compare, plans_for
from infra.capacity.router_task import MissingFigureError, StartUp, TaskModel, measured_task
from infra.capacity.trace import shipped_traces
from infra.cost.prices import read_prices, task_hour

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PICTURES = ROOT / "docs" / "pictures"
MODEL = "MiniLM-L6 int8"
DECLARED = TaskModel(name="declared: 1,000 requests/s on 2 vCPU", workers=2, service_s=2 / 1_000, overhead_s=0.003)
FLOOR = 4


def the_task() -> TaskModel:
    """The measured task, or the declared one."""
    path = RESULTS / "serving.json"
    try:
        return measured_task(json.loads(path.read_text()) if path.exists() else None, MODEL)
    except MissingFigureError as error:
        print(error)
        return DECLARED


def main() -> int:
    """Simulate every plan on every trace, print the tables, write rows and pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--traces", nargs="*", default=sorted(shipped_traces()))
    parser.add_argument("--out", type=Path, default=RESULTS / "capacity_policies.json")
    parser.add_argument("--pictures", type=Path, default=PICTURES)
    options = parser.parse_args()
    task, start_up, traces = the_task(), StartUp(), shipped_traces()
    usd = task_hour(read_prices(), vcpus=task.workers, memory_gb=4, arch="arm64")
    basis = "measured" if task.measured else "declared"

    def row(case: str, metric: str, value: float, unit: str) -> Row:
        figure = round(float(value), 5)
        return Row(case=case, metric=metric, value=figure, low=figure, high=figure, runs=1, unit=unit, projected=True)

    rows = [
        row(f"task, {basis}: {task.name}", "requests_per_s", task.capacity, "1/s"),
        row("task, Fargate ARM", "usd_per_task_hour", usd, "US$"),
        row("start-up, assumed", "seconds", start_up.total_s, "s"),
    ]
    for name in options.traces:
        outcomes = compare(
            traces[name], task, plans_for(traces[name], task, floor=FLOOR), start_up=start_up, usd_per_task_hour=usd
        )
        print(f"\n{name}\n" + "\n".join(table(outcomes)), flush=True)
        for outcome in outcomes:
            run, case = outcome.run, f"{name}: {outcome.plan.name}"
            rows += [
                row(case, "shed_share", run.shed_share, "share"),
                row(case, "p50", run.latency_ms(0.5), "ms"),
                row(case, "p99", run.latency_ms(0.99), "ms"),
                row(case, "peak_tasks", run.peak_tasks, "tasks"),
                row(case, "task_hours", run.task_hours, "h"),
                row(case, "cost", outcome.usd or 0.0, "US$"),
            ]
        options.pictures.mkdir(parents=True, exist_ok=True)
        draw(traces[name], outcomes, options.pictures / f"capacity_{name}.svg")
    write_result(
        options.out, name="capacity_policies", command="make benchmark-capacity_policies", seed=0, rows=rows,
        versions={"numpy": np.__version__},
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
