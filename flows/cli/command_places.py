"""Places of the commands: twelve on the first page in the order of a day, the others in groups."""

import copy
from collections.abc import Mapping
from typing import Any, Final

import typer
from typer.core import TyperGroup

from flows.cli.output.command_result import CommandResult, add_json_option, json_wanted, show
from flows.cli.output.library_log import libraries_logged
from flows.platform.settings import Settings

FRONT: Final[Mapping[str, tuple[str, ...]]] = {
    "Start": ("init", "train"),
    "Use": ("serve", "predict", "batch"),
    "Watch": ("status", "monitor", "labels"),
    "Decide": ("promote", "rollback"),
    "Servers": ("up", "down"),
    "Groups of further commands": ("data", "lab", "admin"),
}
"""Commands of the first page by heading, in the order of a day."""
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "data": ("ingest", "forget"),
    "lab": ("demo", "simulate", "shadow", "insights", "pretrain", "distill", "capacity", "cost"),
    "admin": ("config", "doctor", "ledger", "retrain", "export", "gate"),
}
"""Commands that are in a group. Each also works without the group's name, as in earlier releases."""


def _member(group: str, name: str, command: Any) -> Any:
    """Return a copy of a command with an example that includes the group's name."""
    member = copy.copy(command)
    member.epilog = str(command.epilog).replace(f"evergreen {name}", f"evergreen {group} {name}")
    return member


class DayGroup(TyperGroup):
    """Group of all commands. It shows the first page under headings, hides other commands, and prints results."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        add_json_option(self)
        for group, names in GROUPS.items():
            members = self.commands[group]
            assert isinstance(members, TyperGroup)
            members.commands.update({name: _member(group, name, self.commands[name]) for name in names})
        headings = {name: heading for heading, names in FRONT.items() for name in names}
        for name, command in self.commands.items():
            command.hidden = name not in headings
            command.rich_help_panel = headings.get(name)  # type: ignore[attr-defined]  # of Typer's own classes

    def invoke(self, ctx: typer.Context) -> None:  # type: ignore[override]
        """Run a command and print its result."""
        with libraries_logged(Settings.of_home().root):
            result = super().invoke(ctx)
        if isinstance(result, CommandResult):
            show(result, as_json=json_wanted(ctx))
            if result.code:
                raise typer.Exit(result.code)

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # noqa: ARG002
        """Return the names of the first page in its order, then the others."""
        first = [name for names in FRONT.values() for name in names if name in self.commands]
        return [*first, *(name for name in self.commands if name not in first)]
