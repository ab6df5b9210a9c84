"""Slowdown of this machine, and the demo's pace on a slow one."""

import sys
from pathlib import Path

import pytest

from absa.errors import PermanentError
from flows.demo.machine_speed import slowdown
from flows.demo.pace import PACES


def script(folder: Path, command: str) -> str:
    """Write an executable that runs a shell command in place of Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)
    return str(path)


def test_slowdown_is_at_least_one() -> None:
    assert 1.0 <= slowdown() <= 6.0


@pytest.mark.parametrize(("speed", "times"), [(28_000, 1.0), (7_000, 2.0), (10, 6.0)])
def test_slowdown_follows_the_measured_speed(
    speed: int, times: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", script(tmp_path, f"echo {speed}"))
    assert slowdown() == times


def test_failed_measurement_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", script(tmp_path, "echo 'no module torch' >&2; exit 1"))
    with pytest.raises(PermanentError, match="cannot be measured: no module torch"):
        slowdown()


def test_slow_machine_gets_longer_trainings() -> None:
    pace = PACES["full"]
    slow = pace.on_machine(3.0)
    assert slow.first_budget_s == 3 * pace.first_budget_s
    assert slow.budget_s == 3 * pace.budget_s
    assert pace.on_machine(1.2) == pace
    assert slow.drifted_s == pace.drifted_s
