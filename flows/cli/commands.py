"""The `evergreen` command line: translates words into calls, and errors into one sentence and an exit code."""

import io
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from absa.errors import TransientError
from absa.proxies import keep_local_direct
from absa.router_settings import RouterSettings
from flows.cli import cost_commands, traffic_commands
from flows.cli.batch_commands import batch_app
from flows.cli.command_places import DayGroup
from flows.cli.data import data_commands
from flows.cli.home import host_commands
from flows.cli.home.foreground import stay, stopping, undone_on_interrupt, waiting_lines
from flows.cli.lab_commands import lab
from flows.cli.live_commands import live_app
from flows.cli.output.command_progress import CommandProgress
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import ConfigFacts, DownFacts, FindingFacts, InitFacts, StatusFacts, UpFacts
from flows.cli.output.library_log import error_line
from flows.cli.promotion import gate_command
from flows.cli.version_commands import version_app
from flows.platform import arguments
from flows.platform.services import absence, build_services, is_there, open_home
from flows.platform.settings import Settings
from flows.platform.terminal import say

_TRY_AGAIN = 3
app = typer.Typer(
    name="evergreen",
    cls=DayGroup,
    help="Keep a deployed text classifier correct: train within a budget, test, serve, monitor, retrain.",
    epilog="Exit codes: 0 done; 1 request refused or check failed, see the message; 2 wrong arguments; "
    "3 a server or the lake is unavailable, try again later; 4 HOLD and 5 REJECT of `gate`; 130 stopped by Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


admin = typer.Typer(
    help="Configure and check the installation, read the ledger, retrain, export, back up, restore.",
    no_args_is_help=True,
)


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
    """Keep a deployed text classifier correct: train within a budget, test, serve, monitor, retrain."""


@app.command(epilog="Example: evergreen doctor")
def doctor() -> CommandResult[list[FindingFacts]]:
    """Check Python, packages, memory, disk and ports."""
    from flows.platform.doctor import examine

    findings = examine(Settings.load())
    wrong = [finding for finding in findings if not finding.ok]
    return CommandResult(
        facts=[{"ok": finding.ok, "sentence": finding.sentence} for finding in findings],
        lines=tuple(f"{'ok ' if finding.ok else 'NO '} {finding.sentence}" for finding in findings),
        meaning=f"Fix these problems before a start: {len(wrong)}, the lines with NO"
        if wrong
        else "Evergreen can run here",
        following="evergreen doctor, after the fix" if wrong else "evergreen init FILE",
        code=1 if wrong else 0,
    )


@app.command("init", epilog="Example: evergreen init tickets.csv")
def init_command(
    file: Annotated[
        Path,
        typer.Argument(
            callback=arguments.existing_file, help="CSV, TSV, JSON, JSONL, Parquet or .xlsx with labelled texts."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(callback=arguments.given_text, help="Name of the task; unset: the file's name.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the sections task and data of an existing evergreen.toml.")
    ] = False,
) -> CommandResult[InitFacts]:
    """Recognise columns, labels and dates of a data file, and write them to evergreen.toml."""
    from flows.cli.home.init_command import configuration_place, init_home

    settings = Settings.load()
    lines = tuple(init_home(settings, file, name=name, force=force))
    written = Settings.load()
    return CommandResult(
        facts={
            "config": str(configuration_place(settings)),
            "task": written.task.to_json(),
            "columns": dict(written.data.columns),
        },
        lines=lines,
        meaning="Every later command reads the file. Correct wrong columns and labels in it before a training",
        following="evergreen train",
    )


@app.command("config", epilog="Example: evergreen config --changed")
def config_command(
    changed: Annotated[bool, typer.Option("--changed", help="Print only values that differ from the default.")] = False,
    migrate: Annotated[
        bool, typer.Option("--migrate", help="Move HOME/settings.env of an earlier release into evergreen.toml first.")
    ] = False,
) -> CommandResult[list[ConfigFacts]]:
    """Print every effective value and its origin: environment, file, profile or default. Secrets are masked."""
    from flows.cli.home.config_command import config_lines, effective_values, origin_counts
    from flows.cli.home.settings_migration import migrate_settings_file

    settings, router = Settings.load(), RouterSettings.read()
    if migrate:
        for line in migrate_settings_file(settings, router):
            say(line, err=True)
        settings, router = Settings.load(), RouterSettings.read()
    values = list(effective_values(settings, router))
    return CommandResult(
        facts=[
            {"section": each.section, "key": each.key, "value": each.value, "origin": each.origin,
             "variable": each.variable}
            for each in values
        ],
        lines=(*config_lines(values, changed=changed), ""),
        meaning=origin_counts(values, settings.sources),
        following="to change a value, write its key into evergreen.toml or set its variable, which takes precedence",
    )  # fmt: skip


@app.command(epilog="Example: evergreen up")
def up(
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Keep running: restart crashed servers, stop all at Ctrl-C or SIGTERM.")
    ] = False,
) -> CommandResult[UpFacts]:
    """Start Prefect, MLflow, Evidently, the router and the deployments, and print their addresses."""
    from flows.cli.home.settings_migration import migrate_settings_file
    from flows.platform.host.router_health import wait_for_version
    from flows.platform.processes import Supervisor, bring_up, replace_taken_ports

    notices = [*migrate_settings_file(Settings.load(), RouterSettings.read()), *replace_taken_ports(Settings.load())]
    services = build_services()
    services.check_task()
    undone = undone_on_interrupt(Supervisor(services.settings))
    with stopping(services.settings) if foreground else undone:
        with CommandProgress(services.home.root, "up") as progress:
            parts = bring_up(services.settings, services.environment, on_waiting=waiting_lines(progress))
            progress.now("waiting for the router to load its version")
            notices += [*services.copy_packages(), *services.project(), *wait_for_version(services)]
        lines = (*(f"{part.name:<12} {part.page or 'runs'}" for part in parts), *notices)
        if foreground:
            stay(services.settings, parts, (*lines, "Ctrl-C or SIGTERM stops all servers"))
    first = services.ledger.head() is None
    stay_up = "The servers run until `evergreen down`, also when this terminal closes"
    return CommandResult(
        facts={"pages": {part.name: part.page for part in parts}, "notices": notices},
        lines=() if foreground else lines,
        meaning="All parts are stopped; data, models and the ledger stay" if foreground else stay_up,
        following="evergreen up" if foreground else "evergreen train FILE" if first else "evergreen status",
    )


@app.command(epilog="Example: evergreen down")
def down() -> CommandResult[DownFacts]:
    """Stop the servers that `up` and `serve` started. Data, models and the ledger stay."""
    from flows.platform.processes import take_down

    settings = Settings.of_home()
    stopped = take_down(settings)
    there = is_there(settings)
    return CommandResult(
        facts={"stopped": stopped, "home": str(settings.root)},
        lines=(f"stopped: {', '.join(stopped) or 'nothing ran'}",),
        meaning=f"everything in {settings.root} stays: data, models, the ledger" if there else absence(settings),
        following="evergreen serve or evergreen up starts them again" if there else "evergreen init FILE",
    )


@app.command(epilog="Example: evergreen status")
def status() -> CommandResult[StatusFacts]:
    """Show champion, traffic, running trainings and promotions, recent attempts, verdicts, and the pages."""
    from flows.cli.status import following_step, screen, status_facts

    facts = status_facts(open_home(announced=False))
    meaning, following = following_step(facts)
    return CommandResult(facts=facts, lines=tuple(screen(facts)), meaning=meaning, following=following)


@app.command(epilog="Example: evergreen demo --scale tiny --no-keep")
def demo(
    scale: Annotated[str, typer.Option(help="full or tiny.")] = "full",
    task: Annotated[
        str,
        typer.Option(help="Bundled rows to use: absa (texts with a phrase) or tickets (texts alone, six intents)."),
    ] = "absa",
    data: Annotated[
        Path | None, typer.Option(help="Your labelled CSV instead of bundled rows; evergreen.toml describes its task.")
    ] = None,
    drift: Annotated[str | None, typer.Option(help="CSV to whose rows the traffic drifts, or none.")] = None,
    keep: Annotated[bool, typer.Option(help="Keep the servers running until Ctrl-C.")] = True,
    reset: Annotated[
        bool, typer.Option("--reset", help="Delete the rows, models, ledger and logs of this demo's home first.")
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
app.command("gate", epilog="Example: evergreen gate candidate/ champion/ --data test.csv --markdown")(
    gate_command.gate_command
)
app.add_typer(lab, name="lab")
app.add_typer(admin, name="admin")
host_commands.add_host_commands(admin)
cost_commands.add_cost_commands(app)


def run_command(command: Callable[[], None]) -> int:
    """Run a command; an error becomes one sentence, and its traceback is in the log of the home."""
    try:
        command()
    except (TyperException, typer.Exit, typer.Abort):
        raise
    except Exception as error:
        say(f"evergreen: {error_line(error)}", err=True)
        return _TRY_AGAIN if isinstance(error, TransientError) else 1
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
