"""Restart of parts that have ended, for `evergreen up --foreground`."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from absa.errors import EvergreenError
from flows.platform.processes import Part

_LOOK_EVERY_S: Final = 1.0
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0
_REMEMBERED_S: Final = 600.0  # earlier ends of a part do not lengthen its wait


class Parts(Protocol):
    """Part processes of a home; `Supervisor` is one."""

    def running(self, name: str) -> object | None:
        """Return the process of a part, or None if it has ended."""

    def is_wanted(self, name: str) -> bool:
        """Return True if a part was started and not stopped since. It may have ended by itself."""

    def start(self, part: Part) -> None:
        """Start a part if it does not run."""


def wait_before_start(ends: Sequence[float], now: float) -> float:
    """Return the seconds to wait before a part starts again: 1, 2, 4, ... 60. Pure.

    Args:
        ends: times at which the part ended, in seconds of any clock.
        now: present time of the same clock.
    """
    recent = sum(now - at <= _REMEMBERED_S for at in ends)
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** max(0, recent - 1)) if recent else 0.0


def keep_running(
    parts: Sequence[Part],
    supervisor: Parts,
    stop: threading.Event,
    *,
    tell: Callable[[str], None],
    logs: Mapping[str, object],
    clock: Callable[[], float] = time.monotonic,
    look_every_s: float = _LOOK_EVERY_S,
) -> None:
    """Restart each part that has ended, after a wait that grows with the number of its ends.

    Return when `stop` is set, or when another command has stopped every part. The function itself stops no part.

    Args:
        parts: in the order of their start.
        supervisor: of the home.
        stop: set by a signal.
        tell: receives a line for each end of a part and for each failed start.
        logs: log of each part, by name.
        clock: monotonic seconds.
        look_every_s: seconds between two checks.
    """
    ends: dict[str, list[float]] = {part.name: [] for part in parts}
    due: dict[str, float] = {}
    while not stop.wait(look_every_s):
        wanted = [part for part in parts if supervisor.is_wanted(part.name)]
        if not wanted:
            return
        for part in wanted:
            if supervisor.running(part.name) is not None:
                continue
            now = clock()
            if part.name not in due:
                ends[part.name].append(now)
                wait_s = wait_before_start(ends[part.name], now)
                due[part.name] = now + wait_s
                tell(f"{part.name} has ended (its log: {logs[part.name]}); it starts again in {wait_s:.0f} s")
            if now < due[part.name]:
                continue
            del due[part.name]
            try:
                supervisor.start(part)
            except (EvergreenError, OSError) as error:
                tell(f"{part.name} cannot start: {error}")
