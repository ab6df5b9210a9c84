"""Terminal: lines, progress and reports that a command prints."""

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


_OWN: list[TextIO] = []  # standard error as it was before `taking_standard_error` replaced it


def own_error_stream() -> TextIO:
    """Return the stream for a command's own messages.

    It is standard error, also while `taking_standard_error` redirects the output of libraries.
    """
    return _OWN[-1] if _OWN else sys.stderr


@contextmanager
def taking_standard_error(stream: TextIO) -> Iterator[None]:
    """Redirect standard error of libraries to a stream. A command's own messages are not redirected."""
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
        line: text to print; a line break in it becomes `\n`.
        err: print to standard error.
    """
    typer.echo(log_line(line), file=own_error_stream() if err else None)


class ProgressLine:
    """Permanent lines, and below them a progress line that is redrawn.

    If `out` is not a terminal, the progress line is printed every `every_s` seconds instead. Control characters in a
    line are shown, not executed, and words in brackets are not read as markup.

    Args:
        out: stream for the lines; None: standard error.
        every_s: seconds between two progress lines, if `out` is not a terminal.
        indent: spaces before a progress line.
    """

    def __init__(self, out: TextIO | None = None, *, every_s: float = 10.0, indent: int = 0) -> None:
        from rich.console import Console  # rich is slow to import, and few commands show progress

        out = out or own_error_stream()
        self._console = Console(file=out, force_terminal=out.isatty(), highlight=False, soft_wrap=True)
        self._every_s, self._indent, self._printed_at = every_s, " " * indent, -math.inf
        self._bar: Progress | None = None

    def update(self, share: float, text: str) -> None:
        """Show a share, clipped to 0 to 1, and a text in the progress line."""
        share = min(1.0, max(0.0, share))
        if self._console.is_terminal:
            if self._bar is None:
                self._bar = self._started()
            self._bar.update(self._bar.task_ids[0], completed=share, text=log_line(text), refresh=True)
        elif time.monotonic() - self._printed_at >= self._every_s:
            self._printed_at = time.monotonic()
            self.print(f"{self._indent}{share:4.0%}  {text}")

    def print(self, text: str = "", *, style: str = "") -> None:
        """Print a permanent line above the progress line."""
        from rich.text import Text

        self._console.print(Text(log_line(text), style=style))

    def close(self) -> None:
        """Clear the progress line."""
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
    """`Reporter` of a command: prints lines to standard error; only Prefect shows pages, tables and bars."""

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
