"""Result of a command: lines for the user, their meaning and the next step; or the facts as JSON."""

import inspect
import json
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Final, Generic, TypeVar, get_args, get_origin

import typer
from typer.core import TyperGroup
from typer.main import get_command

from flows.platform.terminal import say

F = TypeVar("F")
_JSON: Final = "evergreen.json"
"""Key of a context's meta; the value is True if --json was given."""


@dataclass(frozen=True, kw_only=True)
class CommandResult(Generic[F]):
    """Result of a command; every command but the demo returns one.

    Attributes:
        facts: the result for programs, a type of `flows.cli.output.facts`.
        lines: the result for users.
        meaning: consequence for the user, in a sentence or two.
        following: next step: a command, or the reason why none is needed.
        code: exit code; 1 if a check failed.
    """

    facts: F
    lines: tuple[str, ...]
    meaning: str
    following: str
    code: int = 0


def show(result: CommandResult[Any], *, as_json: bool) -> None:
    """Print a result to standard output."""
    if as_json:
        say(json.dumps(result.facts))
        return
    for line in result.lines:
        say(line)
    say(result.meaning)
    say(f"Next: {result.following}")


def facts_of(callback: Any) -> Any | None:
    """Return the type of the facts that a command's function returns; None if it returns no facts."""
    annotated = inspect.unwrap(callback).__annotations__.get("return") if callback is not None else None
    each = (annotated, *get_args(annotated))  # a group's callback returns no facts if a command of the group follows
    return next((get_args(kind)[0] for kind in each if get_origin(kind) is CommandResult), None)


def json_wanted(context: typer.Context) -> bool:
    """Return True if --json was given to the command of a context."""
    return bool(context.meta.get(_JSON))


def add_json_option(command: Any) -> None:
    """Add the option --json to every command below a group that returns a result."""
    if facts_of(command.callback) is not None and not any("--json" in each.opts for each in command.params):
        command.params.append(_json_option())
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            add_json_option(each)


@cache
def _json_option() -> Any:
    """Return Typer's option --json. It sets a value in the context and passes nothing to the command."""
    declaring = typer.Typer(add_completion=False)

    @declaring.command()
    def command(as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False) -> None:
        """Declare the option."""

    def note(context: typer.Context, _: Any, value: bool) -> bool:
        context.meta[_JSON] = value or context.meta.get(_JSON, False)  # set by the group or by its command
        return value

    option: Any = get_command(declaring).params[0]
    option.expose_value, option.callback = False, note
    return option
