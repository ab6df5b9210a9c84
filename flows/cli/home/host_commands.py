"""Commands of operation on one host: backup and restore of the home, units of systemd."""

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from absa.records.files import write_whole
from flows.cli.output.command_result import CommandResult
from flows.cli.output.facts import BackupFacts, RestoreFacts, ServiceFacts
from flows.platform.services import open_home
from flows.platform.settings import Settings
from flows.platform.terminal import ProgressLine

_MB = 1e6
_IN_UNIT = frozenset({"EVERGREEN_HOME", "EVERGREEN_CONFIG"})


def backup_command(
    file: Annotated[
        Path | None, typer.Argument(help="File to write; unset: evergreen-TIME.tar in the working folder.")
    ] = None,
) -> CommandResult[BackupFacts]:
    """Back up the home into one file, also while servers and commands run. It holds secrets and customers' texts."""
    from flows.platform.host.home_backup import back_up, elsewhere

    services = open_home()
    settings, now = services.settings, services.clock()
    into = file or Path(f"evergreen-{now:%Y%m%dT%H%M%SZ}.tar")
    progress = ProgressLine()
    try:
        report = back_up(
            settings.root,
            into,
            now=now,
            release=metadata.version("evergreen"),
            on_progress=lambda done, all_: progress.update(done / max(1, all_), f"{done / _MB:,.0f} MB"),
        )
    finally:
        progress.close()
    stores = elsewhere(settings.lake, settings.config, settings.root, services.environment)
    notices = [*report.notices, *stores]
    size = f"{report.files:,} files, {report.size / _MB:,.0f} MB"
    written = f"{into.absolute()}: {size}, ledger up to record {report.ledger_head}"
    return CommandResult(
        facts={
            "file": str(into.absolute()), "files": report.files, "bytes": report.size,
            "ledger_head": report.ledger_head, "notices": notices,
        },
        lines=(*notices, written),
        meaning="The file holds secrets and customers' texts: protect it like a secret",
        following=f"EVERGREEN_HOME=NEW_FOLDER evergreen admin restore {into.name} tries it",
    )  # fmt: skip


def restore_command(
    file: Annotated[Path, typer.Argument(help="File that `evergreen admin backup` made.")],
) -> CommandResult[RestoreFacts]:
    """Restore a backup into EVERGREEN_HOME, which must be empty or missing. Every file is checked first."""
    from flows.platform.host.home_restore import restore_home

    home = Settings.of_home().root
    found = restore_home(file, home)
    problems = list(found.ledger_problems)
    return CommandResult(
        facts={
            "home": str(home), "at": found.at, "release": found.release, "files": found.files,
            "records": found.ledger_records, "problems": problems,
        },
        lines=(
            f"{home}: {found.files:,} files as of {found.at}, by release {found.release}",
            f"ledger: {found.ledger_records} records, {'; '.join(problems) or 'verified'}",
        ),
        meaning="Nothing runs yet. Stop the installation that was backed up before this one starts",
        following="evergreen status, then evergreen up",
        code=1 if problems else 0,
    )  # fmt: skip


def install_service_command(
    router: Annotated[
        bool, typer.Option("--router", help="Run only the router, without Prefect, MLflow and worker.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option(help="Folder to write the unit to, such as /etc/systemd/system; unset: print it.")
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Account that runs it; unset: the owner of the home, or of the working folder.")
    ] = None,
    for_user: Annotated[
        bool, typer.Option("--user", help="Write a unit of your own service manager, without root.")
    ] = False,
) -> CommandResult[ServiceFacts]:
    """Print or write a systemd unit that starts this installation at boot and restarts crashed servers."""
    from flows.platform.host.service_units import PLATFORM_UNIT, ROUTER_UNIT, service_units

    settings = Settings.load()
    owned = settings.root if settings.root.is_dir() else Path.cwd()
    units = service_units(
        (sys.executable, "-m", "flows.cli"),
        home=settings.root,
        config=settings.config,
        folder=Path.cwd(),
        user=None if for_user else account or owned.owner(),
    )
    name = ROUTER_UNIT if router else PLATFORM_UNIT
    if into is not None:
        write_whole(into / name, units[name])
    left_out = sorted(key for key in os.environ if key.startswith("EVERGREEN_") and key not in _IN_UNIT)
    notices = [f"not in the unit, so set in evergreen.toml: {', '.join(left_out)}"] if left_out else []
    manager = f"systemctl{' --user' if for_user else ''}"
    enable = f"{manager} daemon-reload && {manager} enable --now {name}"
    return CommandResult(
        facts={
            "unit": name,
            "text": units[name],
            "file": None if into is None else str(into / name),
            "notices": notices,
        },
        lines=(*(units[name].splitlines() if into is None else [f"written: {into / name}"]), *notices),
        meaning="systemd starts the unit at boot, and restarts crashed servers",
        following=enable if into is not None else f"evergreen admin install-service --into FOLDER writes {name}",
    )


def add_host_commands(admin: typer.Typer) -> None:
    """Add the commands to the group admin."""
    admin.command("install-service", epilog="Example: sudo evergreen admin install-service --into /etc/systemd/system")(
        install_service_command
    )
    admin.command("backup", epilog="Example: evergreen admin backup /mnt/backups/evergreen.tar")(backup_command)
    admin.command("restore", epilog="Example: EVERGREEN_HOME=/srv/evergreen evergreen admin restore evergreen.tar")(
        restore_command
    )
