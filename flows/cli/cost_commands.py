"""`evergreen capacity` and `evergreen cost`: translate words into calls of the pure models in infra."""

import json
import math
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from absa.errors import PermanentError, UnavailableError
from absa.records.cost import Cost
from absa.records.layout import COST_CURRENT
from flows.cli.output.command_progress import CommandProgress
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import CapacityFacts, CostFacts
from flows.platform import arguments
from flows.platform.services import absence, is_there, open_home
from flows.platform.terminal import say

if TYPE_CHECKING:
    from infra.capacity.trace import Trace

_RESULTS: Final = Path(__file__).parents[2] / "benchmarks" / "results"
_MODEL: Final = "MiniLM-L6 int8"
_LARGEST_DECLARED: Final = 100.0
Results = Annotated[Path, typer.Option(help="Folder with the benchmarks' results.", show_default="the shipped ones")]


def capacity(
    trace: Annotated[str, typer.Option(help="CSV with at_s,requests_per_s; or burst, daily, flash, night.")] = "burst",
    model: Annotated[str, typer.Option(help="Model whose measured throughput is used.")] = _MODEL,
    rate: Annotated[
        float | None,
        typer.Option(callback=arguments.TASK_RATE, help="Requests/s of a task, instead of the measured rate."),
    ] = None,
    workers: Annotated[
        int, typer.Option(callback=arguments.WORKERS, help="With --rate: workers (vCPU) of a task.")
    ] = 2,
    overhead_ms: Annotated[
        float,
        typer.Option(
            callback=arguments.MILLISECONDS_OR_NONE, help="With --rate: milliseconds per request that use no worker."
        ),
    ] = 0.0,
    queue_ms: Annotated[
        float, typer.Option(callback=arguments.MILLISECONDS, help="EVERGREEN_QUEUE_MS of the router, in milliseconds.")
    ] = 100.0,
    start_s: Annotated[
        float,
        typer.Option(callback=arguments.START_S, help="Seconds to provision a task, before it loads its model."),
    ] = 30.0,
    floor: Annotated[
        int, typer.Option(callback=arguments.TASKS, help="Smallest number of tasks in the plan with a minimum.")
    ] = 4,
    seed: Annotated[int, typer.Option(callback=arguments.SEED, help="Seed of the simulated arrivals.")] = 0,
    plot: Annotated[
        Path | None, typer.Option(callback=arguments.new_picture, help="File for a picture, .svg or .png.")
    ] = None,
    results: Results = _RESULTS,
) -> CommandResult[CapacityFacts]:
    """Simulate a load trace under scaling policies: latency, refused share, tasks and cost of each."""
    from infra.capacity.capacity_report import draw, plan_facts, table
    from infra.capacity.compare_policies import compare, plans_for
    from infra.capacity.router_task import StartUp, TaskModel, measured_task
    from infra.cost.figures import read_results
    from infra.cost.prices import read_prices, task_hour

    try:
        load = _trace(trace)
        if rate is None:
            task = measured_task(read_results(results).get("serving"), model, queue_s=queue_ms / 1e3)
        else:
            task = TaskModel(
                name="declared", workers=workers, service_s=workers / rate, overhead_s=overhead_ms / 1e3,
                queue_s=queue_ms / 1e3,
            )  # fmt: skip
        usd = task_hour(read_prices(), vcpus=task.workers, memory_gb=2 * task.workers, arch="arm64")
        start_up = StartUp(provision_s=start_s)
        plans = plans_for(load, task, floor=floor)
        with CommandProgress(None, "capacity") as progress:
            outcomes = compare(
                load, task, plans, start_up=start_up, usd_per_task_hour=usd, seed=seed,
                on_plan=partial(_show_plan, progress, len(plans), time.monotonic()),
            )  # fmt: skip
        if plot is not None:
            draw(load, outcomes, plot)
    except (ValueError, ZeroDivisionError) as error:
        raise PermanentError(str(error)) from None
    basis = "measured" if task.measured else "declared, not measured"
    return CommandResult(
        facts={
            "trace": load.name,
            "requests": load.requests,
            "peak_per_s": load.peak,
            "task_per_s": task.capacity,
            "measured": task.measured,
            "usd_per_task_hour": usd,
            "policies": [plan_facts(each) for each in outcomes],
            "plot": None if plot is None else str(plot),
        },
        lines=(
            f"{load.name}: {load.requests:,.0f} requests, peak {load.peak:,.0f}/s; a task ({task.name}, {basis}) "
            f"serves {task.capacity:,.0f}/s; a new one takes {start_up.total_s:g} s (assumed), US$ {usd:.4f} an hour "
            "(Fargate ARM)",
            *table(outcomes),
            *([] if plot is None else [f"picture: {plot}"]),
        ),
        meaning="shed is the share of requests that are refused with 429; p99 is the latency of the slowest hundredth",
        following="evergreen cost chooses the cheapest set-up for a latency and an F1",
    )


def _show_plan(progress: CommandProgress, plans: int, began: float, done: int, name: str) -> None:
    left = f", about {(time.monotonic() - began) / done * (plans - done):.0f} s left" if done else ""
    progress.now(f"plan {done + 1} of {plans}: {name}{left}", done / plans)


def cost(
    profile: Annotated[str, typer.Option(help="Load of a day: file or name of a trace.")] = "daily",
    peak: Annotated[
        float | None,
        typer.Option(callback=arguments.RATE, help="Scale the load of the day to this peak, requests/s."),
    ] = None,
    p99_ms: Annotated[
        float, typer.Option(callback=arguments.MILLISECONDS, help="Largest p99 at the planned load, in milliseconds.")
    ] = 100.0,
    min_f1: Annotated[
        float, typer.Option(callback=arguments.SHARE, help="F1 that the model must have; 0 requires none.")
    ] = 0.0,
    f1: Annotated[list[str] | None, typer.Option(help="Declare a model's F1: 'MiniLM-L6 int8=0.80'.")] = None,
    speed: Annotated[
        list[str] | None,
        typer.Option(help="Speed of an instance family per vCPU, relative to the measured machine: 'c8g=0.9'."),
    ] = None,
    spot: Annotated[bool, typer.Option("--spot", help="Permit spot instances for live serving.")] = False,
    hits: Annotated[
        float, typer.Option(callback=arguments.SHARE, help="Share of requests that the cache answers.")
    ] = 0.0,
    load: Annotated[
        float, typer.Option(callback=arguments.LOAD, help="Planned load of a task, as a share of its capacity.")
    ] = 0.6,
    trainings: Annotated[float, typer.Option(callback=arguments.TRAININGS, help="Trainings per month.")] = 4.0,
    prices: Annotated[
        Path | None, typer.Option(help="Price table; unset: HOME/prices.csv, else the shipped one.")
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Get today's prices from AWS first.")] = False,
    results: Results = _RESULTS,
) -> CommandResult[CostFacts]:
    """Compute the cost of a million predictions, a training and a month, and choose the cheapest sufficient setup."""
    from absa.records.schema import iso, utc_now
    from infra.cost.choose import Floors, NoSetupError, cheapest, savings
    from infra.cost.cost_report import basis, bill, ladder, record, training, worth
    from infra.cost.figures import figures_of, read_results
    from infra.cost.month import Quantities, month
    from infra.cost.prices import read_prices
    from infra.cost.setup import setups, unmeasured

    services = open_home(required=refresh and prices is None)
    kept = prices or services.settings.root / "prices.csv"
    if refresh:
        _refresh(kept)
    try:
        table = read_prices(kept if prices or kept.exists() else None)
        figures = figures_of(read_results(results), declared_f1=_numbers(f1 or [], "--f1"))
        day = _trace(profile)
        day = day if peak is None else day.scaled(load=peak / day.peak)
        speeds, quantities = _numbers(speed or [], "--speed"), Quantities(trainings=trainings)
        planned = setups(figures, table, hit_share=hits, load=load, speeds=speeds)
        lines = [*basis(figures, table), *ladder(setups(figures, table, hit_share=hits, speeds=speeds))]
        lines += training(table, quantities)
        try:
            chosen = cheapest(planned, Floors(p99_ms=p99_ms, f1=min_f1, spot=spot), table, quantities, day)
        except NoSetupError:
            idle_month = bill(month(unmeasured(table), table, quantities))
            _say(lines, ["\nan idle month without a choice, on the template's machines, US$"], idle_month)
            raise
        base, found = savings(figures, planned, table, quantities, day)
        idle, busy = month(chosen, table, quantities), month(chosen, table, quantities, day)
    except ValueError as error:
        raise PermanentError(str(error)) from None
    lines += [
        f"\nchosen: {chosen.model.name} on {chosen.host.label}, p99 {chosen.p99_ms:.1f} ms at {load:.0%} load",
        f"  {chosen.arithmetic}",
        "\nan idle month, US$",
        *bill(idle),
        f"\na month of {day.name}, peak {day.peak:,.0f}/s, {busy.requests:,.0f} requests, US$",
        *bill(busy),
        "",
        *worth(base, found),
    ]
    written = Cost(at=iso(utc_now()), **record(chosen, figures, table, busy, idle, quantities, profile=day.name))
    kept_at = services.lake.url(COST_CURRENT) if is_there(services.settings) else None
    if kept_at is not None:
        services.lake.write(COST_CURRENT, json.dumps(written.to_json(), indent=1).encode())
    lines.append(f"\nwritten: {kept_at}" if kept_at else f"\nnot kept: {absence(services.settings)}")
    return CommandResult(
        facts={"cost": written.to_json(), "kept": kept_at},
        lines=tuple(each for line in lines for each in line.split("\n")),
        meaning="A projection from measured throughput and listed prices, not a bill"
        + ("; the console and `evergreen batch` use its cost of a prediction" if kept_at else ""),
        following="evergreen cost --refresh gets today's prices from AWS; evergreen capacity simulates a burst",
    )


def _say(*parts: Iterable[str]) -> None:
    for part in parts:
        for line in part:
            for each in line.split("\n"):
                say(each)


def _trace(name: str) -> "Trace":
    """Return a shipped trace by name, or a file.

    Raises:
        ValueError: the name or file is not a trace.
    """
    from infra.capacity.trace import read_trace, shipped_traces

    shipped = shipped_traces()
    return shipped[name] if name in shipped else read_trace(Path(name))


def _refresh(path: Path) -> None:
    """Request prices from AWS and write the table.

    Raises:
        UnavailableError: AWS cannot be reached or refuses.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from infra.cost.prices import read_prices, write_prices
    from infra.cost.refresh import ask_aws

    try:
        fresh, kept = ask_aws(read_prices(path if path.exists() else None))
    except (BotoCoreError, ClientError) as error:
        raise UnavailableError(f"the prices were not refreshed, the previous table is kept: {error}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_prices(fresh, path)
    for line in (*kept, f"written: {path}"):
        say(line, err=True)


def _numbers(words: list[str], option: str) -> dict[str, float]:
    """Return the numbers of NAME=NUMBER pairs by name.

    Raises:
        ValueError: a word is not such a pair, or its number is not from 0 to 100.
    """
    found = {}
    for word in words:
        name, _, text = word.rpartition("=")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not name or not 0 <= number <= _LARGEST_DECLARED:
            raise ValueError(f"{option}: expected NAME=NUMBER with a number from 0 to 100, got {word!r}")
        found[name] = number
    return found


def add_cost_commands(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: evergreen capacity --trace burst --rate 1000 --plot burst.svg")(capacity)
    app.command(epilog="Example: evergreen cost --profile daily --p99-ms 50 --min-f1 0.78 --spot")(cost)
