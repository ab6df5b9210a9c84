"""Progress of a command whose steps vary: the step, and the time left, estimated from its last run in this home."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TextIO, TypeVar

from absa.records.files import write_whole
from flows.platform.ports import Steps
from flows.platform.terminal import ProgressLine

_T = TypeVar("_T")
DURATIONS_FILE: Final = "durations.json"
"""File in the home with the duration of each command's last run, in seconds."""
_QUIET_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.5


def left_text(elapsed_s: float, usual_s: float | None) -> str:
    """Return the time left as text. Pure.

    Args:
        elapsed_s: seconds since the start.
        usual_s: seconds of the last run; None if unknown.
    """
    if usual_s is None:
        return f"{elapsed_s:.0f} s so far"
    left_s = usual_s - elapsed_s
    return f"about {left_s:.0f} s left" if left_s >= 1.0 else f"{elapsed_s:.0f} s so far, {usual_s:.0f} s last time"


class CommandProgress:
    """Context of a command's work: one redrawn line on a terminal, else a line every ten seconds, after two seconds.

    Args:
        home: folder of the home; the duration is kept there if it exists. None for work whose duration varies.
        name: name of the command; a command with other work has another name.
        out: stream for the lines; None: standard error.
        quiet_s: seconds before the first line.
    """

    def __init__(self, home: Path | None, name: str, out: TextIO | None = None, *, quiet_s: float = _QUIET_S) -> None:
        self._file, self._name, self._quiet_s = home and home / DURATIONS_FILE, name, quiet_s
        self._line, self._ended = ProgressLine(out), threading.Event()
        self._text, self._began = "starting", time.monotonic()
        self._usual_s = None if self._file is None else _durations(self._file).get(name)
        self._share: float | None = None
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def now(self, text: str, share: float | None = None) -> None:
        """Set the step that is shown. With `share`, the finished share of the work (0 to 1), the time left is shown."""
        self._text, self._share = text, share

    def print(self, line: str) -> None:
        """Print a lasting line above the progress."""
        self._line.print(line)

    def steps(self, run: Steps) -> Steps:
        """Return a runner of steps that shows the running step."""

        def step(name: str, action: Callable[[], _T], *, again: bool = False) -> _T:
            self.now(name.replace("-", " "))
            return run(name, action, again=again)

        return step

    def __enter__(self) -> Self:
        """Start showing the progress."""
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        """Clear the line, and keep the duration of work that succeeded."""
        self._ended.set()
        self._thread.join()
        self._line.close()
        if kind is None and self._file is not None and self._file.parent.is_dir():
            durations = _durations(self._file) | {self._name: round(time.monotonic() - self._began, 2)}
            write_whole(self._file, json.dumps(durations, indent=1))

    def _follow(self) -> None:
        if self._ended.wait(self._quiet_s):
            return
        while True:
            elapsed_s = time.monotonic() - self._began
            share, text = self._share, self._text
            if share is None:
                share = 0.0 if self._usual_s is None else elapsed_s / max(self._usual_s, elapsed_s, 1e-9)
                text = f"{text}, {left_text(elapsed_s, self._usual_s)}"
            self._line.update(share, text)
            if self._ended.wait(_LOOK_EVERY_S):
                return


def _durations(file: Path) -> dict[str, float]:
    try:
        return {str(name): float(seconds) for name, seconds in json.loads(file.read_text()).items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):  # no file, or one cut by a power failure
        return {}
