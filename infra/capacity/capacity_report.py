"""Comparison of scaling plans as a Markdown table and as a picture."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infra.capacity.compare_policies import PlanResult
from infra.capacity.trace import Trace


def table(outcomes: Sequence[PlanResult]) -> Iterator[str]:
    """Yield the lines of a Markdown table, one plan each."""
    yield "| plan | p50 ms | p99 ms | shed | tasks, peak | task-hours | US$ | US$ per million |"
    yield "|---|---|---|---|---|---|---|---|"
    for outcome in outcomes:
        run = outcome.run
        usd = "" if outcome.usd is None else f"{outcome.usd:.3f}"
        each = "" if outcome.usd_per_million is None else f"{outcome.usd_per_million:.4f}"
        yield (
            f"| {outcome.plan.name} | {run.latency_ms(0.5):.1f} | {run.latency_ms(0.99):.1f} | {run.shed_share:.2%} "
            f"| {run.peak_tasks} | {run.task_hours:.2f} | {usd} | {each} |"
        )


def plan_facts(outcome: PlanResult) -> dict[str, Any]:
    """Return the result of a plan for JSON output."""
    run = outcome.run
    return {
        "plan": outcome.plan.name, "p50_ms": run.latency_ms(0.5), "p99_ms": run.latency_ms(0.99),
        "shed_share": run.shed_share, "peak_tasks": run.peak_tasks, "task_hours": run.task_hours,
        "usd": outcome.usd, "usd_per_million": outcome.usd_per_million,
    }  # fmt: skip


def draw(trace: Trace, outcomes: Sequence[PlanResult], path: Path) -> None:
    """Draw load and shed requests above tasks, over time. The file name decides between SVG and PNG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    long = trace.seconds > 7_200
    unit, name = (3_600.0, "hours") if long else (60.0, "minutes")
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    load, tasks = figure.subplots(2, 1, sharex=True)
    load.plot([at / unit for at in trace.at_s], trace.rate_per_s, color="black", linewidth=1, label="offered")
    for number, outcome in enumerate(outcomes):
        moments = outcome.run.moments[:: max(1, len(outcome.run.moments) // 1_500)]
        at = [moment.at_s / unit for moment in moments]
        load.plot(at, [moment.shed for moment in moments], color=f"C{number}", linewidth=1)
        tasks.step(at, [moment.tasks for moment in moments], color=f"C{number}", linewidth=1, label=outcome.plan.name)
    load.set_ylabel("requests a second\n(black: offered, colours: shed)")
    tasks.set_ylabel("tasks running or starting")
    tasks.set_xlabel(name)
    load.set_title(f"{trace.name}: {trace.requests:,.0f} requests")
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    with rc_context({"svg.hashsalt": "evergreen"}):  # equal pictures give equal files
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
