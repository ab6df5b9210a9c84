"""How the demo talks: numbered chapters, a live progress line, elapsed time, links as they come alive."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TextIO

from absa.sinks import log_line

_QUIET_EVERY_S: Final = 5.0  # without a terminal a progress line is printed this often, not redrawn
_BAR_CELLS: Final = 24


class Story:
    """Prints to one stream; redraws the progress line where the stream is a terminal.

    Args:
        out: where to print.
        chapters: how many there will be.
    """

    def __init__(self, *, out: TextIO | None = None, chapters: int = 7) -> None:
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._chapters = chapters
        self._started = time.monotonic()
        self._printed_at = 0.0
        self._width = 0

    def elapsed_s(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._started

    def line(self, text: str = "") -> None:
        """One lasting line."""
        self._write(log_line(text))

    @contextmanager
    def chapter(self, number: int, sentence: str) -> Iterator[None]:
        """A chapter: its sentence first, how long it took last."""
        began = time.monotonic()
        self._printed_at = began
        self.line()
        self._write(self._bold(log_line(f"[{number}/{self._chapters}] {sentence}")))
        yield
        self.line(f"      done in {time.monotonic() - began:.0f} s ({self.elapsed_s():.0f} s since the start)")

    def link(self, what: str, url: str) -> None:
        """A page that has just come alive."""
        self.line(f"      {what:<12} {url}")

    def fact(self, text: str) -> None:
        """One indented line."""
        self.line(f"      {text}")

    def progress(self, share: float, text: str) -> None:
        """Show the live line: a bar for a share of 0 to 1 (others are clipped), and a text."""
        share = max(0.0, min(1.0, share))
        filled = round(share * _BAR_CELLS)
        bar = "█" * filled + "·" * (_BAR_CELLS - filled)
        line = f"      {bar} {share:4.0%} {log_line(text)}"
        if self._live:
            self._out.write("\r" + line.ljust(self._width)[:160])
            self._width = len(line)
            self._out.flush()
        elif time.monotonic() - self._printed_at >= _QUIET_EVERY_S:
            self._printed_at = time.monotonic()
            self._out.write(line + "\n")
            self._out.flush()

    def _write(self, line: str) -> None:
        self._clear()
        self._out.write(line + "\n")
        self._out.flush()

    def _clear(self) -> None:
        if self._live and self._width:
            self._out.write("\r" + " " * self._width + "\r")
            self._width = 0

    def _bold(self, text: str) -> str:
        return f"\033[1m{text}\033[0m" if self._live else text
