"""Terminal: every line that a command prints to the operator."""

import typer

from absa.sinks import log_line


def say(line: str = "", *, err: bool = False) -> None:
    """Print one line; control characters in it are shown, not executed.

    Args:
        line: what to print; a line break in it becomes `\\n`.
        err: print to standard error.
    """
    typer.echo(log_line(line), err=err)
