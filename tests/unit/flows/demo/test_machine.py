"""Slowdown of this machine, and the demo's pace on a slow one."""

from flows.demo.machine_load import slowdown
from flows.demo.pace import PACES


def test_slowdown_is_at_least_one() -> None:
    assert 1.0 <= slowdown() <= 6.0


def test_slow_machine_gets_longer_trainings() -> None:
    pace = PACES["full"]
    slow = pace.on_machine(3.0)
    assert slow.first_budget_s == 3 * pace.first_budget_s
    assert slow.budget_s == 3 * pace.budget_s
    assert pace.on_machine(1.2) == pace
    assert slow.drifted_s == pace.drifted_s
