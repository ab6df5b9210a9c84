"""Parts that end are started again, slower each time, and a part that cannot start stops no other."""

import threading
from dataclasses import dataclass, field

import pytest

from absa.errors import PermanentError
from flows.platform.host.keep_running import keep_running, wait_before_start
from flows.platform.processes import Part

PARTS = [Part(name=name, command=(name,), environment={}) for name in ("mlflow", "router")]
LOGS = {part.name: f"logs/{part.name}.log" for part in PARTS}


@dataclass
class FakeParts:
    """Processes that live for some looks; a part that is `broken` cannot start."""

    lives: dict[str, int]
    broken: frozenset[str] = frozenset()
    stopped: set[str] = field(default_factory=set)
    started: list[str] = field(default_factory=list)

    def running(self, name: str) -> object | None:
        self.lives[name] -= 1
        return name if self.lives[name] >= 0 else None

    def is_wanted(self, name: str) -> bool:
        return name not in self.stopped

    def start(self, part: Part) -> None:
        if part.name in self.broken:
            raise PermanentError(f"port 1 is taken, so {part.name} cannot start")
        self.started.append(part.name)
        self.lives[part.name] = 5


class Looks(threading.Event):
    """Event that stops after some looks, each of which takes a second of its own clock."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.left, self.now = looks, 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.left -= 1
        self.now += timeout or 0.0
        return self.left < 0


def kept(parts: FakeParts, looks: int) -> list[str]:
    said: list[str] = []
    stop = Looks(looks)
    keep_running(PARTS, parts, stop, tell=said.append, logs=LOGS, clock=lambda: stop.now)
    return said


@pytest.mark.parametrize(
    ("ends", "now", "wait_s"),
    [([], 0, 0), ([9], 10, 1), ([1, 9], 10, 2), ([1, 2, 9], 10, 4), (range(20), 20, 60), ([0, 900], 901, 1)],
)
def test_wait_doubles_with_recent_ends(ends: list[float], now: float, wait_s: float) -> None:
    assert wait_before_start(list(ends), now) == wait_s


def test_part_that_ended_is_started_again() -> None:
    parts = FakeParts({"mlflow": 1_000, "router": 2})
    said = kept(parts, 15)
    assert parts.started == ["router", "router"]
    assert said == [
        "router has ended (its log: logs/router.log); it starts again in 1 s",
        "router has ended (its log: logs/router.log); it starts again in 2 s",
    ]


def test_part_that_cannot_start_stops_no_other() -> None:
    parts = FakeParts({"mlflow": 0, "router": 0}, broken=frozenset({"mlflow"}))
    said = kept(parts, 4)
    assert parts.started == ["router"]
    assert "mlflow cannot start: port 1 is taken, so mlflow cannot start" in said


def test_part_that_a_command_stopped_stays_down() -> None:
    parts = FakeParts({"mlflow": 0, "router": 1_000}, stopped={"mlflow"})
    assert (kept(parts, 5), parts.started) == ([], [])


def test_keeper_ends_when_everything_is_stopped() -> None:
    stop = Looks(1_000)
    parts = FakeParts({"mlflow": 0, "router": 0}, stopped={"mlflow", "router"})
    keep_running(PARTS, parts, stop, tell=print, logs=LOGS, clock=lambda: stop.now)
    assert stop.left == 999


def test_nothing_is_said_of_parts_that_run() -> None:
    assert kept(FakeParts({"mlflow": 1_000, "router": 1_000}), 5) == []
