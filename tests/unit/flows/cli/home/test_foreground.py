"""Start of parts by a command: Ctrl-C undoes it, and each part that answers is named."""

import io
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flows.cli.home.foreground import stopped_by_command, undone_on_interrupt, waiting_lines
from flows.cli.output.command_progress import CommandProgress
from flows.platform.processes import STOP_ORDER


@dataclass
class FakeParts:
    """Parts by name; `stopped` in order."""

    alive: set[str]
    stopped: list[str] = field(default_factory=list)
    wanted: set[str] = field(default_factory=set)

    def running(self, name: str) -> object | None:
        return name if name in self.alive else None

    def is_wanted(self, name: str) -> bool:
        return name in self.wanted

    def stop(self, name: str) -> bool:
        self.stopped.append(name)
        found = name in self.alive
        self.alive.discard(name)
        return found


def test_ctrl_c_stops_what_the_start_started(capsys: pytest.CaptureFixture[str]) -> None:
    parts = FakeParts({"router"})
    with pytest.raises(KeyboardInterrupt), undone_on_interrupt(parts):
        parts.alive |= {"mlflow", "prefect"}
        raise KeyboardInterrupt
    assert parts.alive == {"router"}
    assert parts.stopped == [name for name in STOP_ORDER if name != "router"]
    assert capsys.readouterr().err == "stopped: prefect, mlflow\n"


def test_start_that_ends_well_stops_nothing() -> None:
    parts = FakeParts(set())
    with undone_on_interrupt(parts):
        parts.alive.add("mlflow")
    assert (parts.alive, parts.stopped) == ({"mlflow"}, [])


def test_part_that_answers_is_printed(tmp_path: Path) -> None:
    out = io.StringIO()
    show = waiting_lines(CommandProgress(tmp_path, "up", out))
    for waiting in (["mlflow", "prefect"], ["prefect"], []):
        show(waiting)
    assert out.getvalue().splitlines() == ["mlflow is ready", "prefect is ready"]


@pytest.mark.parametrize("by_command", [True, False])
def test_end_by_command_is_no_crash(by_command: bool) -> None:
    """`down` removes the note of a part a moment after the process has ended."""
    parts = FakeParts({"router"}, wanted={"router"})
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            parts.alive.clear()
        if by_command and len(waits) == 3:
            parts.wanted.clear()

    assert stopped_by_command(parts, "router", sleep=sleep) == by_command
    assert len(waits) == 3
