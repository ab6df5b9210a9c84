"""Units of systemd for an installation: the whole platform, or the router alone. Pure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

PLATFORM_UNIT: Final = "evergreen.service"
ROUTER_UNIT: Final = "evergreen-router.service"
_STOP_S: Final = 90  # routers drain and ship their log, servers end
_STOPPED: Final = 130  # exit code of a command that SIGTERM or Ctrl-C stopped during its start


def service_units(
    command: Sequence[str], *, home: Path, config: Path | None, folder: Path, user: str | None
) -> Mapping[str, str]:
    """Return the text of each unit by file name. Enable only one of them, because both start a router.

    Args:
        command: command `evergreen` on this host, such as the path of its script.
        home: folder of the installation.
        config: evergreen.toml in use, or None without one.
        folder: working folder of the processes.
        user: account that runs the processes; None: for units of a user, the account of the service manager.
    """
    given = {"EVERGREEN_HOME": str(home), **({} if config is None else {"EVERGREEN_CONFIG": str(config.absolute())})}
    units = {
        PLATFORM_UNIT: ("Evergreen: router, Prefect, MLflow, Evidently and worker", ("up", "--foreground")),
        ROUTER_UNIT: ("Evergreen: router and console", ("serve",)),
    }
    other = {PLATFORM_UNIT: ROUTER_UNIT, ROUTER_UNIT: PLATFORM_UNIT}
    return {
        name: _unit(title, [*command, *arguments], given, folder=folder, user=user, conflicts=other[name])
        for name, (title, arguments) in units.items()
    }


def _unit(
    title: str, command: Sequence[str], given: Mapping[str, str], *, folder: Path, user: str | None, conflicts: str
) -> str:
    wanted_by = "default.target" if user is None else "multi-user.target"
    lines = [
        "[Unit]",
        f"Description={title}",
        "After=network-online.target",
        "Wants=network-online.target",
        f"Conflicts={conflicts}",
        "",
        "[Service]",
        "Type=exec",
        *([] if user is None else [f"User={user}"]),
        f"WorkingDirectory={_specifiers(str(folder))}",
        *(f"Environment={quoted(f'{name}={value}')}" for name, value in given.items()),
        f"ExecStart={' '.join(quoted(word).replace('$', '$$') for word in command)}",
        "Restart=on-failure",
        "RestartSec=5",
        f"SuccessExitStatus={_STOPPED}",
        "KillMode=mixed",
        f"TimeoutStopSec={_STOP_S}",
        "",
        "[Install]",
        f"WantedBy={wanted_by}",
        "",
    ]
    return "\n".join(lines)


def quoted(word: str) -> str:
    """Return a word, quoted if systemd requires quotes in a list of words: systemd.syntax(7)."""
    escaped = _specifiers(word).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if any(mark in word for mark in " \t\"'\\;") else escaped


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
