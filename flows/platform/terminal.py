"""Terminal: every line that a command prints to the operator."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer

from absa.sinks import log_line


def say(line: str = "", *, err: bool = False) -> None:
    """Print one line; control characters in it are shown, not executed.

    Args:
        line: what to print; a line break in it becomes `\\n`.
        err: print to standard error.
    """
    typer.echo(log_line(line), err=err)


class TerminalReporter:
    """`Reporter` of a command: lines go to standard error; pages, tables and bars exist in Prefect alone."""

    def page(self, page: str, *, key: str, description: str) -> None:
        """Show nothing."""

    def table(self, rows: Sequence[Mapping[str, Any]], *, key: str, description: str) -> None:
        """Show nothing."""

    def progress(self, *, key: str, description: str) -> Callable[[float], None]:  # noqa: ARG002  of the protocol
        """Show nothing."""
        return lambda _: None

    def log(self, line: str) -> None:
        """Print a line to standard error."""
        say(line, err=True)
