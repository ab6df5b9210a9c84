"""The `evergreen` command line: translates words into calls, and errors into one sentence and an exit code."""

import io
import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from absa.errors import EvergreenError, TransientError
from absa.proxies import keep_local_direct
from absa.router_settings import RouterSettings
from flows.cli import cost_commands, traffic_commands
from flows.cli.batch_commands import batch_app
from flows.cli.command_places import DayGroup
from flows.cli.data import data_commands
from flows.cli.home import host_commands
from flows.cli.lab_commands import lab
from flows.cli.live_commands import live_app
from flows.cli.version_commands import version_app
from flows.platform import arguments
from flows.platform.services import absence, build_services, is_there, open_home
from flows.platform.settings import Settings
from flows.platform.terminal import say

_TRY_AGAIN = 3
app = typer.Typer(
    name="evergreen",
    cls=DayGroup,
    help="Keeps a deployed text classifier fresh: train in a budget, prove, serve, watch, retrain.",
    epilog="Exit codes: 0 done; 1 refused or a check failed, the message names the change; 2 wrong arguments; "
    "3 a server or the lake is unavailable, try again later; 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


admin = typer.Typer(help="Configuration, checks, ledger, retraining, export, backup, restore.", no_args_is_help=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"evergreen {metadata.version('evergreen')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep a deployed text classifier fresh: train in a budget, prove, serve, watch, retrain."""


@app.command(epilog="Example: evergreen doctor")
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False) -> None:
    """Check Python, packages, memory, disk and ports."""
    from flows.platform.doctor import examine

    findings = examine(Settings.load())
    wrong = [finding for finding in findings if not finding.ok]
    if as_json:
        say(json.dumps([vars(finding) for finding in findings]))
    else:
        for finding in findings:
            say(f"{'ok ' if finding.ok else 'NO '} {finding.sentence}")
        say(f"{len(wrong)} to fix: the lines with NO" if wrong else "Evergreen can run here. Next: evergreen init FILE")
    if wrong:
        raise typer.Exit(1)


@app.command("init", epilog="Example: evergreen init tickets.csv")
def init_command(
    file: Annotated[
        Path, typer.Argument(callback=arguments.existing_file, help="CSV, TSV, JSONL or Parquet with labelled texts.")
    ],
    name: Annotated[
        str | None, typer.Option(callback=arguments.given_text, help="Name of the task; unset: the file's name.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the sections task and data of an existing evergreen.toml.")
    ] = False,
) -> None:
    """Recognise columns, labels and dates of a data file, and write them to evergreen.toml."""
    from flows.cli.home.init_command import init_home

    for line in init_home(Settings.load(), file, name=name, force=force):
        say(line)


@app.command("config", epilog="Example: evergreen config --changed")
def config_command(
    changed: Annotated[bool, typer.Option("--changed", help="Leave out what has its default.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array, one object per key.")] = False,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Move HOME/settings.env of an earlier release into evergreen.toml first.")
    ] = False,
) -> None:
    """Print every effective value and its origin: environment, file, profile or default. Secrets are masked."""
    from flows.cli.home.config_command import config_json, config_lines, effective_values, origin_counts
    from flows.cli.home.settings_migration import migrate_settings_file

    settings, router = Settings.load(), RouterSettings.read()
    if migrate:
        for line in migrate_settings_file(settings, router):
            say(line, err=as_json)
        settings, router = Settings.load(), RouterSettings.read()
    values = list(effective_values(settings, router))
    if as_json:
        say(config_json(values))
        return
    for line in config_lines(values, changed=changed):
        say(line)
    say()
    say(origin_counts(values, settings.sources))
    say("To change one: write its key into evergreen.toml, or set its variable, which takes precedence")


@app.command(epilog="Example: evergreen up")
def up() -> None:
    """Start Prefect, MLflow, Evidently, the router and the deployments, and say where they are."""
    from flows.cli.home.settings_migration import migrate_settings_file
    from flows.platform.processes import bring_up, replace_taken_ports

    for line in migrate_settings_file(Settings.load(), RouterSettings.read()):
        say(line)
    for sentence in replace_taken_ports(Settings.load()):
        say(sentence)
    services = build_services()
    services.check_task()
    for part in bring_up(services.settings, services.environment):
        say(f"{part.name:<12} {part.page or 'runs'}")
    for sentence in (*services.copy_packages(), *services.project()):
        say(sentence)
    first = services.ledger.head() is None
    say(f"Next: {'evergreen train FILE' if first else 'evergreen status'}; `evergreen down` stops all of it")


@app.command(epilog="Example: evergreen down")
def down() -> None:
    """Stop what `up` and `serve` started. Data, models and the ledger stay."""
    from flows.platform.processes import take_down

    settings = Settings.of_home()
    stopped = take_down(settings)
    kept = f"everything in {settings.root} stays" if is_there(settings) else absence(settings)
    say(f"stopped: {', '.join(stopped) or 'nothing ran'}; {kept}")


@app.command(epilog="Example: evergreen status")
def status(as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False) -> None:
    """Show champion, traffic, running trainings and promotions, recent attempts, verdicts, and the pages."""
    from flows.cli.status import screen, status_facts

    facts = status_facts(open_home(announced=False))
    for line in [json.dumps(facts)] if as_json else screen(facts):
        say(line)


@app.command(epilog="Example: evergreen demo --scale tiny --no-keep")
def demo(
    scale: Annotated[str, typer.Option(help="full or tiny.")] = "full",
    task: Annotated[
        str,
        typer.Option(help="Bundled rows to use: absa (texts with a phrase) or tickets (texts alone, six intents)."),
    ] = "absa",
    data: Annotated[
        Path | None, typer.Option(help="Own labelled CSV of the task of evergreen.toml, in place of bundled rows.")
    ] = None,
    drift: Annotated[str | None, typer.Option(help="A CSV that the traffic drifts to, or none.")] = None,
    keep: Annotated[bool, typer.Option(help="Leave the servers up until Ctrl-C.")] = True,
    reset: Annotated[
        bool, typer.Option("--reset", help="Delete what this demo's home holds, but secrets and bases, first.")
    ] = False,
) -> None:
    """Run the whole loop in seven chapters."""
    from flows.demo.loop import run_demo
    from flows.demo.pace import DemoOptions

    raise typer.Exit(run_demo(DemoOptions(scale=scale, task=task, data=data, drift=drift, keep=keep, reset=reset)))


app.add_typer(version_app)
app.add_typer(live_app)
app.add_typer(batch_app, name="batch")
app.add_typer(traffic_commands.labels, name="labels")
app.command("insights", epilog="Example: evergreen insights --window 7d --csv insights.csv")(
    traffic_commands.insights_command
)
app.command("ingest", epilog="Example: evergreen ingest feedback.csv")(data_commands.ingest_command)
app.add_typer(data_commands.data, name="data")
app.add_typer(lab, name="lab")
app.add_typer(admin, name="admin")
host_commands.add_host_commands(admin)
cost_commands.add_cost_commands(app)


def run_command(command: Callable[[], None]) -> int:
    """Run a command; an error that is meant for the user becomes one sentence."""
    try:
        command()
    except EvergreenError as error:
        say(f"evergreen: {error}", err=True)
        return _TRY_AGAIN if isinstance(error, TransientError) else 1
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
