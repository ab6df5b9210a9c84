"""Terminal: every line that a command prints to the operator."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import typer

from absa.sinks import log_line

if TYPE_CHECKING:
    from rich.progress import Progress


_OWN: list[TextIO] = []  # standard error as it was before libraries got another one


def own_error_stream() -> TextIO:
    """Return the stream of own lines beside the result: standard error, whatever libraries write to."""
    return _OWN[-1] if _OWN else sys.stderr


@contextmanager
def taking_standard_error(stream: TextIO) -> Iterator[None]:
    """Make a stream standard error for the body: what libraries write goes there, own lines do not."""
    before = sys.stderr
    _OWN.append(own_error_stream())
    sys.stderr = stream
    try:
        yield
    finally:
        sys.stderr = before
        _OWN.pop()


def say(line: str = "", *, err: bool = False) -> None:
    r"""Print one line; control characters in it are shown, not executed.

    Args:
        line: what to print; a line break in it becomes `\n`.
        err: print to standard error.
    """
    typer.echo(log_line(line), file=own_error_stream() if err else None)


class ProgressLine:
    """Lasting lines, and below them one that rich redraws on a terminal; elsewhere it is printed now and then.

    Control characters in any line are shown, not executed, and words in brackets are not markup.

    Args:
        out: where the lines go; None: standard error.
        every_s: seconds between two states where `out` is not a terminal.
        indent: spaces before a state.
    """

    def __init__(self, out: TextIO | None = None, *, every_s: float = 10.0, indent: int = 0) -> None:
        from rich.console import Console  # rich is slow, and few commands show progress

        out = out or own_error_stream()
        self._console = Console(file=out, force_terminal=out.isatty(), highlight=False, soft_wrap=True)
        self._every_s, self._indent, self._printed_at = every_s, " " * indent, -math.inf
        self._bar: Progress | None = None

    def update(self, share: float, text: str) -> None:
        """Show a new state: a share, clipped to 0 to 1, and a text."""
        share = min(1.0, max(0.0, share))
        if self._console.is_terminal:
            if self._bar is None:
                self._bar = self._started()
            self._bar.update(self._bar.task_ids[0], completed=share, text=log_line(text), refresh=True)
        elif time.monotonic() - self._printed_at >= self._every_s:
            self._printed_at = time.monotonic()
            self.print(f"{self._indent}{share:4.0%}  {text}")

    def print(self, text: str = "", *, style: str = "") -> None:
        """Print a lasting line above it."""
        from rich.text import Text

        self._console.print(Text(log_line(text), style=style))

    def close(self) -> None:
        """Clear the redrawn line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _started(self) -> "Progress":
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
        from rich.table import Column

        bar = Progress(
            TextColumn(self._indent),
            BarColumn(24),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True)),
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        bar.add_task("", total=1.0, text="")
        bar.start()
        return bar


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
