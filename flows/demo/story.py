"""Printed story of the demo: numbered chapters, live progress, elapsed time, links to pages."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from flows.platform.terminal import ProgressLine


class Story:
    """Printed story.

    Args:
        out: stream for the story; None: standard output.
        chapters: number of chapters.
    """

    def __init__(self, *, out: TextIO | None = None, chapters: int = 7) -> None:
        self._out = ProgressLine(out or sys.stdout, every_s=5.0, indent=6)
        self._chapters, self._started = chapters, time.monotonic()

    def elapsed_s(self) -> float:
        """Return the seconds since the story began."""
        return time.monotonic() - self._started

    def line(self, text: str = "", *, style: str = "") -> None:
        """Print a permanent line in place of the progress line."""
        self._out.close()
        self._out.print(text, style=style)

    @contextmanager
    def chapter(self, number: int, sentence: str) -> Iterator[None]:
        """Print a chapter's sentence, and its duration at the end."""
        began = time.monotonic()
        self.line()
        self.line(f"[{number}/{self._chapters}] {sentence}", style="bold")
        yield
        self.line(f"      done in {time.monotonic() - began:.0f} s ({self.elapsed_s():.0f} s since the start)")

    def link(self, what: str, url: str) -> None:
        """Print a page's name and address."""
        self.fact(f"{what:<12} {url}")

    def fact(self, text: str) -> None:
        """Print an indented line."""
        self.line(f"      {text}")

    def progress(self, share: float, text: str) -> None:
        """Show a share, 0 to 1, and a text in the progress line."""
        self._out.update(share, text)
