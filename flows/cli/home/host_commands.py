"""Commands of operation on one host: backup and restore of the home, units of systemd."""

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from absa.records.files import write_whole
from flows.platform.services import open_home
from flows.platform.settings import Settings
from flows.platform.terminal import ProgressLine, say

_MB = 1e6
_IN_UNIT = frozenset({"EVERGREEN_HOME", "EVERGREEN_CONFIG"})


def backup_command(
    file: Annotated[
        Path | None, typer.Argument(help="File to make; unset: evergreen-TIME.tar in the working folder.")
    ] = None,
) -> None:
    """Back up the home into one file, also while servers and commands run. It holds secrets and customers' texts."""
    from flows.platform.host.home_backup import back_up, elsewhere

    services = open_home()
    settings, now = services.settings, services.clock()
    into = file or Path(f"evergreen-{now:%Y%m%dT%H%M%SZ}.tar")
    progress = ProgressLine(sys.stderr)
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
    found = elsewhere(settings.lake, settings.config, settings.root, services.environment)
    for sentence in (*report.notices, *found):
        say(sentence)
    say(f"{into.absolute()}: {report.files:,} files, {report.size / _MB:,.0f} MB, ledger up to {report.ledger_head}")
    say(f"Keep it as you keep secrets. Next: evergreen admin restore {into.name} with another EVERGREEN_HOME tries it")


def restore_command(
    file: Annotated[Path, typer.Argument(help="File that `evergreen admin backup` made.")],
) -> None:
    """Restore a backup into EVERGREEN_HOME, which must be empty or missing. Every file is checked first."""
    from flows.platform.host.home_restore import restore_home

    home = Settings.of_home().root
    found = restore_home(file, home)
    ledger = "; ".join(found.ledger_problems) or "verified"
    say(f"{home}: {found.files:,} files as of {found.at} (release {found.release})")
    say(f"ledger: {found.ledger_records} records, {ledger}")
    say("Nothing runs yet. Next: evergreen status, then evergreen up; stop the installation that was backed up first")


def install_service_command(
    router: Annotated[
        bool, typer.Option("--router", help="The router alone, without Prefect, MLflow and worker.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option(help="Folder to write the unit to, such as /etc/systemd/system; unset: print it.")
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Account that runs it; unset: the owner of the home, or of the working folder.")
    ] = None,
    for_user: Annotated[bool, typer.Option("--user", help="A unit of your own service manager, without root.")] = False,
) -> None:
    """Print or write the systemd unit that runs this installation, starts it at boot and restarts what crashes."""
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
    if into is None:
        for line in units[name].splitlines():
            say(line)
    else:
        write_whole(into / name, units[name])
        say(f"written: {into / name}")
    given = sorted(key for key in os.environ if key.startswith("EVERGREEN_") and key not in _IN_UNIT)
    if given:
        say(f"not in the unit: {', '.join(given)}: set them in evergreen.toml (`evergreen config`)", err=True)
    manager = f"systemctl{' --user' if for_user else ''}"
    if into is None:
        say(f"Next: evergreen admin install-service --into FOLDER writes it as {name}", err=True)
    else:
        say(f"Next: {manager} daemon-reload && {manager} enable --now {name}")


def add_host_commands(admin: typer.Typer) -> None:
    """Add the commands to the group admin."""
    admin.command("install-service", epilog="Example: sudo evergreen admin install-service --into /etc/systemd/system")(
        install_service_command
    )
    admin.command("backup", epilog="Example: evergreen admin backup /mnt/backups/evergreen.tar")(backup_command)
    admin.command("restore", epilog="Example: EVERGREEN_HOME=/srv/evergreen evergreen admin restore evergreen.tar")(
        restore_command
    )
