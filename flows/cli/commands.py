"""The `evergreen` command line: translates words into calls, and errors into one sentence and an exit code."""

import io
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from absa.errors import EvergreenError, PermanentError, UnavailableError
from absa.proxies import keep_local_direct, require_route
from absa.records.schema import Window, utc_now
from flows.cli import cost_commands, traffic_commands
from flows.cli.batch_commands import batch_app
from flows.platform import arguments
from flows.platform.services import Services, absence, build_services, is_there, open_home
from flows.platform.settings import Settings
from flows.platform.terminal import say

_ANSWER_LIMIT_S = 60.0  # for a server of this home that runs, on a busy machine

app = typer.Typer(
    name="evergreen",
    help="Keeps a deployed text classifier fresh: train in a budget, prove, serve, watch, retrain.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(batch_app, name="batch")
app.add_typer(traffic_commands.labels, name="labels")
app.command("insights", epilog="Example: evergreen insights --window 7d --csv insights.csv")(
    traffic_commands.insights_command
)
app.command(
    "replay", epilog="Example: evergreen replay --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z --version 3"
)(
    traffic_commands.replay_command
)  # fmt: skip
cost_commands.add_cost_commands(app)


@app.command(epilog="Example: evergreen doctor")
def doctor() -> None:
    """Check Python, packages, memory, disk and ports."""
    from flows.platform.doctor import examine

    findings = examine(Settings.load())
    for finding in findings:
        say(f"{'ok ' if finding.ok else 'NO '} {finding.sentence}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: evergreen up")
def up() -> None:
    """Start Prefect, MLflow, Evidently, the router and the deployments, and say where they are."""
    from flows.platform.processes import bring_up, replace_taken_ports

    for sentence in replace_taken_ports(Settings.load()):
        say(sentence)
    services = build_services()
    for part in bring_up(services.settings, services.environment):
        say(f"{part.name:<12} {part.page or 'runs'}")
    for sentence in (*services.copy_packages(), *services.project()):
        say(sentence)


@app.command(epilog="Example: evergreen down")
def down() -> None:
    """Stop what `up` started. Data, models and the ledger stay."""
    from flows.platform.processes import take_down

    settings = Settings.load()
    stopped = take_down(settings)
    kept = f"everything in {settings.root} stays" if is_there(settings) else absence(settings)
    say(f"stopped: {', '.join(stopped) or 'nothing ran'}; {kept}")


@app.command(epilog="Example: evergreen status")
def status() -> None:
    """Say what is champion since when, how traffic is split, the last verdicts, and where each page is."""
    from flows.cli.status import status_lines

    for line in status_lines(open_home(announced=False)):
        say(line)


@app.command("ingest", epilog="Example: evergreen ingest feedback.csv")
def ingest_command(
    files: Annotated[list[str], typer.Argument(help="CSV, JSONL or Parquet with text, aspect, label.")],
    max_bad_share: Annotated[
        float, typer.Option(callback=arguments.SHARE, help="Share of bad rows above which nothing is ingested.")
    ] = 0.1,
) -> None:
    """Validate, deduplicate and split labelled rows into a snapshot in the lake."""
    from absa.data.account import Account
    from absa.data.files.source_files import find_sources
    from absa.data.ingest import ingest as ingest_files
    from absa.data.label_codes import read_label_codes
    from absa.data.snapshot import latest_manifest

    for file in files:
        find_sources(file)  # before a home is made
    services = build_services()
    parent = latest_manifest(services.lake)
    accounts: list[Account] = []
    manifest = ingest_files(
        services.lake,
        files,
        parent=parent.digest if parent else None,
        max_bad_share=max_bad_share,
        labels=read_label_codes(services.settings.config, services.settings.root),
        on_account=accounts.append,
    )
    say(f"snapshot {manifest.digest[:12]}: {manifest.total_rows} rows")
    for side in ("train", "validation", "test"):
        negative, neutral, positive = (manifest.rows[side].get(str(label), 0) for label in range(3))
        say(f"  {side:<11} {negative} negative, {neutral} neutral, {positive} positive")
    for account in accounts:
        for sentence in account.sentences:
            say(f"  {sentence}")


@app.command("train", epilog="Example: evergreen train feedback.csv --budget 300")
def train_command(
    files: Annotated[list[Path] | None, typer.Argument(help="Labelled files to ingest first.")] = None,
    budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Budget of the whole run in seconds.")
    ] = None,
    reason: Annotated[str, typer.Option(callback=arguments.given_text, help="Origin of the request.")] = "manual",
    base: Annotated[
        str | None,
        typer.Option(
            callback=arguments.given_text,
            help="Start from this: what `evergreen pretrain` printed, a folder, or a hub's name.",
        ),
    ] = None,
) -> None:
    """Train a version inside a budget here and now, judge and register it."""
    from flows.cli.base_commands import named_base

    for file in files or []:
        if not file.is_file():
            raise PermanentError(f"{file} is not a file: name a CSV, JSONL or Parquet file")
    _require_servers(open_home(required=False, announced=False), "prefect", "mlflow")
    services = build_services()
    start = named_base(services, base) if base else None
    from flows.training.run_progress import shown

    with shown(services.home.folder("jobs"), sys.stderr):
        from flows.training.training_flow import continuous_training

        outcome = continuous_training(
            sources=[str(file.absolute()) for file in files or []],
            budget_s=services.settings.budget_s if budget is None else budget,
            reason=reason,
            base=start,
        )
    say(f"version {outcome['version']}: {outcome['verdict']}, pos/neg F1 {outcome['pos_neg_f1']:.3f} on the test side")
    for sentence in outcome["reasons"]:
        say(f"  {sentence}")
    over_s = outcome["used_s"] - outcome["budget_s"]
    overrun = f", {over_s:.0f} s more than the budget" if over_s > 0 else ""
    say(f"  {outcome['used_s']:.0f} of {outcome['budget_s']:.0f} s used{overrun}")
    say(f"  the version is now: {outcome['action']}")


@app.command("pretrain", epilog="Example: evergreen pretrain other-labels/ --epochs 2")
def pretrain_command(
    path: Annotated[str, typer.Argument(help="Labelled files of any domain: a file or a folder.")],
    epochs: Annotated[float, typer.Option(callback=arguments.EPOCHS, help="Passes over the rows.")] = 2.0,
    budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="End after so many seconds, whatever --epochs.")
    ] = None,
) -> None:
    """Make a base from labelled files, kept by what it is made of; `train --base` starts from it."""
    from absa.data.files.source_files import find_sources
    from flows.cli.base_commands import make_base

    find_sources(path)  # before a home is made
    for line in make_base(build_services(), path, epochs=epochs, budget_s=budget, on_progress=say):
        say(line)


@app.command("export", epilog="Example: evergreen export --into absa/models/champion")
def export_command(
    version: Annotated[str | None, typer.Argument(help="Registry version; unset: the champion.")] = None,
    into: Annotated[Path, typer.Option(help="Folder that is made or replaced.")] = Path("absa/models/champion"),
) -> None:
    """Put a version's package into a folder, where `absa/src/evaluation.py` finds it."""
    from flows.cli.version_export import export_version

    say(f"version {export_version(open_home(), version, into)} is in {into}")


@app.command(epilog="Example: evergreen retrain --reason new-labels")
def retrain(
    reason: Annotated[str, typer.Option(callback=arguments.given_text, help="Origin of the request.")] = "manual",
    budget: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Budget of the whole run in seconds.")
    ] = None,
) -> None:
    """Start the continuous-training deployment: the newest snapshot and all trusted feedback since."""
    from flows.platform.prefect_runs import TRAINING

    services = open_home()
    _require_servers(services, "prefect")
    budget_s = services.settings.budget_s if budget is None else budget
    parameters: dict[str, Any] = {"reason": reason, "budget_s": budget_s}
    run_id = services.deployments.start(TRAINING, parameters)
    say(f"started: {services.home.url('prefect')}/runs/flow-run/{run_id}")


@app.command("promote", epilog="Example: evergreen promote 3 --now --reason 'launch on Monday'")
def promote_command(
    versions: Annotated[list[str] | None, typer.Argument(help="Registry versions; unset: the challenger.")] = None,
    now: Annotated[
        bool, typer.Option("--now", help="Make it champion without an experiment, by the operator's decision.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Try a version again that was rolled back or replaced.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Reason; kept in the ledger.")] = "decided by the operator",
) -> None:
    """Take challengers through shadow and A/B (the promote deployment), or make one champion at once with --now."""
    from flows.platform.prefect_runs import PROMOTION
    from flows.promotion.decisions import ended_by, promote_now, requested_promotion

    named = versions or []
    if now and len(named) > 1:
        raise PermanentError("--now makes one version champion: name one")
    services = open_home()
    if now:
        record = promote_now(services, named[0] if named else None, reason=reason)
        for line in ended_by(services.ledger.follow()):
            say(line)
        say(f"version {record.state.champion} is champion (ledger record {record.number})")
        return
    parameters = requested_promotion(services, named, again=again)
    _require_servers(services, "prefect")
    run_id = services.deployments.start(PROMOTION, parameters)
    say(f"started: {services.home.url('prefect')}/runs/flow-run/{run_id}")


@app.command(epilog="Example: evergreen rollback --reason 'complaints about billing answers'")
def rollback(
    reason: Annotated[str, typer.Option(help="Reason; kept in the ledger.")] = "rolled back by the operator",
) -> None:
    """End the running experiment, or where none runs put the former champion back, and say what that changed.

    Works with MLflow and Prefect down.
    """
    from flows.promotion.decisions import roll_back, rollback_report

    services = open_home()
    record = roll_back(services, reason=reason)
    for line in rollback_report([each for each in services.ledger.follow() if each.number <= record.number]):
        say(line)


@app.command("forget", epilog="Example: evergreen forget --unit acct-42")
def forget_command(
    unit: Annotated[
        str | None, typer.Option(callback=arguments.given_text, help="Forget what this unit_id ever asked.")
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(callback=arguments.DAYS, help="Forget what was asked more than so many days ago."),
    ] = None,
) -> None:
    """Rewrite predictions, feedback and snapshots without a unit's texts, or without old ones; tag the versions."""
    from flows.monitoring.forgetting import forget as forget_now

    for line in forget_now(open_home(), unit=unit, days=days):
        say(line)


@app.command(epilog="Example: evergreen ledger --at 2026-11-30T12:00:00Z")
def ledger(
    action: Annotated[
        str, typer.Argument(help="show, verify (edits, gaps, a cut tail), project (aliases) or packages.")
    ] = "show",
    at: Annotated[str | None, typer.Option(help="Show the active state at this time (ISO 8601 with a zone).")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="The same as `evergreen ledger verify`.")] = False,
) -> None:
    """Print the ledger or what was champion at a time, verify it, or project it to MLflow's aliases.

    `packages` copies the packages of versions that an earlier release registered from MLflow into the lake, from which
    routers, batches and trainings load them; `evergreen up` and the worker do the same when they start.
    """
    from flows.cli.ledger_commands import show_ledger

    for line in show_ledger(open_home(), "verify" if verify else action, at):
        say(line)


@app.command(epilog="Example: evergreen shadow --export to-label.csv")
def shadow(
    gain: Annotated[
        float, typer.Option(callback=arguments.SHARE_ABOVE_0, help="Difference in right answers to find, as a share.")
    ] = 0.03,
    export: Annotated[
        Path | None,
        typer.Option(callback=arguments.new_file, help="CSV file for rows that are worth a label."),
    ] = None,
    count: Annotated[int, typer.Option(callback=arguments.ROWS, help="About how many rows.")] = 200,
) -> None:
    """Compare the challenger in shadow with the champion, request by request, and say what labels would tell."""
    from flows.cli.ledger_commands import show_shadow

    for line in show_shadow(open_home(), gain, export, count):
        say(line)


@app.command(epilog="Example: evergreen predict 'i love notion, but the mobile app is slow' 'mobile app'")
def predict(
    text: Annotated[str, typer.Argument(help="Text that the customer wrote.")],
    aspect: Annotated[str, typer.Argument(help="A phrase of the text.")],
) -> None:
    """Ask the router for the sentiment towards an aspect."""
    from flows.demo.router_client import RouterClient

    services = _with_router()
    answer = RouterClient(services.router_url, predict_key=services.settings.predict_key).predict(text, aspect)
    scores = ", ".join(f"{score:.2f}" for score in answer["scores"])
    by = f"version {answer['model_version']}, {answer['arm']}"
    say(f"{answer['sentiment']} (negative, neutral, positive: {scores}) by {by}")


@app.command(epilog="Example: evergreen simulate --seconds 30 --drift new-area")
def simulate(
    seconds: Annotated[float, typer.Option(callback=arguments.SECONDS, help="Duration in seconds.")] = 30.0,
    rate: Annotated[float, typer.Option(callback=arguments.RATE, help="Requests a second.")] = 40.0,
    drift: Annotated[str, typer.Option(help="none, new-area, vocabulary, class-shift, concept or noise.")] = "none",
    strength: Annotated[
        float, typer.Option(callback=arguments.SHARE, help="Share of the traffic that drifts, 0 to 1.")
    ] = 0.5,
    seed: Annotated[
        int | None, typer.Option(callback=arguments.SEED, help="Seed; unset: another stream each time.")
    ] = None,
) -> None:
    """Send simulated customers' traffic, with delayed feedback, to the router."""
    from flows.demo.customer_stream import named_customers
    from flows.demo.customers import TrafficReport, send_traffic

    services = _with_router()
    customers = named_customers(services, drift=drift, strength=strength, seed=seed)

    def show(report: TrafficReport) -> None:
        if sys.stdout.isatty():
            typer.echo(
                f"\r{report.answered} answered, {report.share_right:.0%} right, {report.feedback} told back", nl=False
            )

    report = send_traffic(
        customers,
        url=services.router_url,
        feedback_key=services.home.feedback_key(),
        predict_key=services.settings.predict_key,
        rate=rate,
        duration_s=seconds,
        on_tick=show,
    )
    say()
    for (arm, version), share in sorted(report.accuracy().items()):
        say(f"{arm} v{version}: {report.served[arm, version]} answered, {share:.1%} right")
    if report.failed:
        say("failed: " + ", ".join(f"{reason} × {count}" for reason, count in report.failed.most_common()))


@app.command("monitor", epilog="Example: evergreen monitor --last 60")
def monitor_command(
    window: Annotated[str | None, typer.Option(help="Key <start>_<end> of a window.")] = None,
    last: Annotated[
        float | None, typer.Option(callback=arguments.SECONDS, help="Judge the last so many seconds instead.")
    ] = None,
    retrain: Annotated[bool, typer.Option(help="Start the retraining that the verdict asks for.")] = True,
) -> None:
    """Judge a window of live traffic now, write its report, and start a retraining if one is due."""
    if window is not None and last is not None:
        raise PermanentError("--window and --last name two windows: give one of them")
    chosen = None if window is None else arguments.window_of("--window", window)
    _require_servers(open_home(), "prefect", "mlflow")
    from flows.monitoring.monitor_flow import (
        monitor as monitor_flow,  # Prefect reads its environment when it is imported
    )

    if last is not None:
        end = utc_now()
        chosen = Window(start=end - timedelta(seconds=last), end=end)
    result = monitor_flow(window=None if chosen is None else chosen.key, retrain=retrain)
    say(f"{result['verdict']}; action: {result['action']}")


@app.command(epilog="Example: evergreen demo --scale tiny --no-keep")
def demo(
    scale: Annotated[str, typer.Option(help="full or tiny.")] = "full",
    data: Annotated[Path | None, typer.Option(help="Own CSV with text, aspect, label and perhaps segment.")] = None,
    drift: Annotated[str | None, typer.Option(help="A CSV that the traffic drifts to, or none.")] = None,
    keep: Annotated[bool, typer.Option(help="Leave the servers up until Ctrl-C.")] = True,
    reset: Annotated[
        bool, typer.Option("--reset", help="Delete what this demo's home holds, but secrets and bases, first.")
    ] = False,
) -> None:
    """Run the whole loop in seven chapters."""
    from flows.demo.loop import run_demo
    from flows.demo.pace import DemoOptions

    raise typer.Exit(run_demo(DemoOptions(scale=scale, data=data, drift=drift, keep=keep, reset=reset)))


def _require_servers(services: Services, *names: str) -> None:
    """Wait until the named servers are available; one that this home does not run is not waited for. Makes nothing.

    Raises:
        UnavailableError: a server is unavailable, or needs a proxy that cannot be used.
    """
    from flows.platform.processes import Supervisor, answers_soon

    supervisor = Supervisor(services.settings)
    urls = {
        "mlflow": services.environment["MLFLOW_TRACKING_URI"].rstrip("/") + "/health",
        "prefect": services.environment["PREFECT_API_URL"].rstrip("/") + "/health",
    }
    for name in names:
        require_route(urls[name], services.environment)
        if not answers_soon(urls[name], limit_s=_ANSWER_LIMIT_S if supervisor.running(name) else 0.0):
            raise UnavailableError(f"{name} is unavailable at {urls[name]}: run `evergreen up`")


def _with_router() -> Services:
    """Return services that know the router's address: of EVERGREEN_ROUTER_URL, or of an existing home."""
    return open_home(required=Settings.load().router_url is None)


def run_command(command: Callable[[], None]) -> int:
    """Run a command; an error that is meant for the user becomes one sentence."""
    try:
        command()
    except EvergreenError as error:
        say(f"evergreen: {error}", err=True)
        return 1
    except OSError as error:
        say(f"evergreen: {error.strerror or error}{f': {error.filename}' if error.filename else ''}", err=True)
        return 1
    except KeyboardInterrupt:
        say("evergreen: stopped", err=True)
        return 130
    return 0


def main() -> None:
    """Run the `evergreen` command with the arguments of this process."""

    def command() -> None:
        arguments.check_text(sys.argv[1:])
        keep_local_direct(os.environ)
        app()

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows a question mark
    sys.exit(run_command(command))


if __name__ == "__main__":
    main()
