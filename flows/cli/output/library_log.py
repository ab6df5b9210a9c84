"""Log of a command's libraries: their output to standard error, and tracebacks, in HOME/logs/evergreen.log."""

import io
import logging
import os
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, TextIO, cast

from absa.errors import EvergreenError, TransientError
from absa.sinks import log_line
from flows.platform.settings import Settings
from flows.platform.terminal import own_error_stream, say, taking_standard_error

LOG_FILE: Final = "evergreen.log"
_LARGEST_BYTES: Final = 2_000_000
_KEPT_FILES: Final = 3
_OWNER_ONLY: Final = 0o600
_FORMAT: Final = "%(asctime)s %(process)d %(message)s"


def log_place(home: Path) -> Path:
    """Return the path of a home's log."""
    return home / "logs" / LOG_FILE


class LibraryLog(io.TextIOBase):
    """Stream that replaces standard error for libraries. Each line is logged with time and process.

    Without a home, and after `close_log`, lines go to the terminal, because a command that only reads makes no home.

    Args:
        home: folder of the home, which may not exist yet.
    """

    def __init__(self, home: Path) -> None:
        self._home, self._lock = home, threading.Lock()
        self._handler: RotatingFileHandler | None = None
        self._started, self._open = "", True

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the terminal's file descriptor, for libraries that pass it to a process."""
        return own_error_stream().fileno()

    def write(self, text: str) -> int:
        """Write the complete lines of a text; an incomplete line waits for its end."""
        with self._lock:
            *lines, self._started = (self._started + text).split("\n")
            for line in lines:
                self._line(line)
        return len(text)

    def close_log(self) -> None:
        """Write an incomplete line, and close the file."""
        with self._lock:
            if self._started:
                self._line(self._started)
            self._started, self._open = "", False
            if self._handler is not None:
                self._handler.close()

    def _line(self, line: str) -> None:
        shown = log_line(line.rpartition("\r")[2])  # only the last state of a redrawn progress bar
        if not shown.strip():
            return
        if self._handler is None and self._open and self._home.is_dir():
            self._handler = _Handler(self._home)
        if self._handler is None or not self._open:
            say(shown, err=True)
            return
        self._handler.emit(logging.makeLogRecord({"msg": shown, "levelno": logging.INFO}))


class _Handler(RotatingFileHandler):
    """File handler whose files only the owner can read, because a library's message may quote a text."""

    def __init__(self, home: Path) -> None:
        place = log_place(home)
        place.parent.mkdir(exist_ok=True)
        super().__init__(place, maxBytes=_LARGEST_BYTES, backupCount=_KEPT_FILES, encoding="utf-8")
        self.setFormatter(logging.Formatter(_FORMAT))

    def _open(self) -> io.TextIOWrapper:
        opened = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _OWNER_ONLY)
        return os.fdopen(opened, "a", encoding=self.encoding)


@contextmanager
def libraries_logged(home: Path) -> Iterator[None]:
    """Send the standard error of libraries in the body to the log of a home; own lines stay on the terminal."""
    log = LibraryLog(home)
    try:
        with taking_standard_error(cast(TextIO, log)):
            yield
    finally:
        log.close_log()


def log_error(error: BaseException) -> Path | None:
    """Write an error's traceback to the log of the home and return its path; None if there is no home."""
    try:
        home = Settings.of_home().root
    except EvergreenError:  # the name of the home itself is invalid
        return None
    if not home.is_dir():
        return None
    log = LibraryLog(home)
    log.write("".join(traceback.format_exception(error)) + "\n")
    log.close_log()
    return log_place(home)


def error_line(error: Exception) -> str:
    """Return the sentence about an error. For an outage or an error of the program it names the log."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    if isinstance(error, EvergreenError):
        outage = isinstance(error, TransientError) and error.__cause__ is not None
        place = log_error(error) if outage else None
        return f"{error}{'' if place is None else f'; details: {place}'}"
    place = log_error(error)
    if place is None:
        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line, err=True)
        return f"an error of the program, {type(error).__name__}; please report it with the lines above"
    return f"an error of the program, {type(error).__name__}; please report it with its traceback, the end of {place}"
