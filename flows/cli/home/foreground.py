"""Start of parts by a command: Ctrl-C undoes the start; with `up --foreground` the command keeps the parts running."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Protocol

from flows.cli.output.command_progress import CommandProgress
from flows.platform.host.keep_running import keep_running
from flows.platform.processes import STOP_ORDER, Part, Supervisor, take_down
from flows.platform.settings import Settings
from flows.platform.terminal import say

_LOOK_EVERY_S: Final = 0.5
_NOTED_S: Final = 1.0  # a command that stops a part removes its note after the process has ended


@contextmanager
def stopping(settings: Settings) -> Iterator[None]:
    """Context that stops every part of the home when it ends, also by an error. SIGTERM ends it like Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        say(f"stopped: {', '.join(take_down(settings)) or 'nothing ran'}", err=True)
        signal.signal(signal.SIGTERM, before)


class StartedParts(Protocol):
    """Part of `Supervisor` that is used to undo a start."""

    def running(self, name: str) -> object | None:
        """Return the process of a part; None if the part does not run."""

    def stop(self, name: str) -> bool:
        """End a part."""


@contextmanager
def undone_on_interrupt(parts: StartedParts, names: Sequence[str] = STOP_ORDER) -> Iterator[None]:
    """Context that stops the parts that its body started if Ctrl-C ends it; parts that ran before keep running."""
    before = {name for name in names if parts.running(name) is not None}
    try:
        yield
    except KeyboardInterrupt:
        stopped = [name for name in names if name not in before and parts.stop(name)]
        say(f"stopped: {', '.join(stopped) or 'nothing'}", err=True)
        raise


class WatchedParts(Protocol):
    """Part of `Supervisor` that is used to wait for the end of a part."""

    def running(self, name: str) -> object | None:
        """Return the process of a part; None if the part does not run."""

    def is_wanted(self, name: str) -> bool:
        """Return True if a part was started and has not been stopped since."""


def stopped_by_command(parts: WatchedParts, name: str, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Wait until a part has ended; return True if a command such as `evergreen down` stopped it, False if it crashed.

    Args:
        parts: parts of the home.
        name: name of the part.
        sleep: waits some seconds.
    """
    while parts.running(name) is not None:
        sleep(_LOOK_EVERY_S)
        if parts.running(name) is None:
            sleep(_NOTED_S)  # `evergreen up`, which replaces a router, has started its own by then
    return not parts.is_wanted(name)


def waiting_lines(progress: CommandProgress) -> Callable[[Sequence[str]], None]:
    """Return a listener of `bring_up` that shows the parts that are starting, and prints each part that is ready."""
    known: list[str] = []

    def show(waiting: Sequence[str]) -> None:
        for name in set(known) - set(waiting):
            progress.print(f"{name} is ready")
        known[:] = waiting
        progress.now(f"waiting for {', '.join(waiting)}" if waiting else "starting the next part")

    return show


def stay(settings: Settings, parts: Sequence[Part], lines: Sequence[str]) -> None:
    """Print lines to standard error, then restart ended parts until Ctrl-C, SIGTERM or `evergreen down`."""
    supervisor = Supervisor(settings)

    def tell(line: str) -> None:
        say(line, err=True)

    for line in lines:
        tell(line)
    logs = {part.name: supervisor.log(part.name) for part in parts}
    with suppress(KeyboardInterrupt):
        keep_running(parts, supervisor, threading.Event(), tell=tell, logs=logs)
