"""Slowdown of this machine, and the demo's pace on a slow one."""

import sys
from pathlib import Path

import pytest

from absa.errors import PermanentError
from flows.demo.machine_load import slowdown
from flows.demo.pace import PACES


def test_slowdown_is_at_least_one() -> None:
    assert 1.0 <= slowdown() <= 6.0


@pytest.mark.parametrize(("speed", "times"), [(28_000, 1.0), (7_000, 2.0), (10, 6.0)])
def test_slowdown_follows_the_measured_speed(
    speed: int, times: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measures = tmp_path / "python"
    measures.write_text(f"#!/bin/sh\necho {speed}\n")
    measures.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(measures))
    assert slowdown() == times


def test_failed_measurement_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = tmp_path / "python"
    fails.write_text("#!/bin/sh\necho 'no module torch' >&2\nexit 1\n")
    fails.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fails))
    with pytest.raises(PermanentError, match="cannot be measured: no module torch"):
        slowdown()


def test_slow_machine_gets_longer_trainings() -> None:
    pace = PACES["full"]
    slow = pace.on_machine(3.0)
    assert slow.first_budget_s == 3 * pace.first_budget_s
    assert slow.budget_s == 3 * pace.budget_s
    assert pace.on_machine(1.2) == pace
    assert slow.drifted_s == pace.drifted_s
