"""`evergreen up --foreground`: stays, starts parts again that end, and stops all of them when it ends."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from flows.platform.host.keep_running import keep_running
from flows.platform.processes import Part, Supervisor, take_down
from flows.platform.settings import Settings
from flows.platform.terminal import say


@contextmanager
def stopping(settings: Settings) -> Iterator[None]:
    """Context that stops every part of the home at its end, however it ends; SIGTERM ends it as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        say(f"stopped: {', '.join(take_down(settings)) or 'nothing ran'}", err=True)
        signal.signal(signal.SIGTERM, before)


def stay(settings: Settings, parts: Sequence[Part], lines: Sequence[str]) -> None:
    """Print lines to standard error, then start parts again that end, until Ctrl-C, SIGTERM or `evergreen down`."""
    supervisor = Supervisor(settings)

    def tell(line: str) -> None:
        say(line, err=True)

    for line in lines:
        tell(line)
    logs = {part.name: supervisor.log(part.name) for part in parts}
    with suppress(KeyboardInterrupt):
        keep_running(parts, supervisor, threading.Event(), tell=tell, logs=logs)
