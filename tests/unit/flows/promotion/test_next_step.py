"""Next step of a promotion, from the ledger's head and its age alone."""

from datetime import UTC, datetime, timedelta

import pytest

from absa.ledger.lifecycle import challenged, crowned, ramped, shadowed
from absa.ledger.record import LedgerRecord
from absa.ledger.state import State
from absa.policies import ExperimentPolicy
from flows.promotion.promotion_look import next_step

NOW = datetime(2026, 11, 30, 12, 0, 7, tzinfo=UTC)
POLICY = ExperimentPolicy(ramp=(0.05, 0.5), shadow_s=10, step_s=20)


def record(state: State, age_s: float) -> LedgerRecord:
    return LedgerRecord(
        number=3, at=NOW - timedelta(seconds=age_s), actor="t", action="traffic", reason="r", state=state
    )


CHALLENGED = challenged(crowned("1"), "2")


@pytest.mark.parametrize(
    ("state", "age_s", "expected"),
    [
        (CHALLENGED, 0, ("shadow", None)),
        (shadowed(CHALLENGED), 9, ("decide", None)),
        (shadowed(CHALLENGED), 11, ("ramp", 0.05)),
        (ramped(CHALLENGED, 0.05), 19, ("decide", None)),
        (ramped(CHALLENGED, 0.05), 21, ("ramp", 0.5)),
        (ramped(CHALLENGED, 0.5), 1000, ("decide", None)),
    ],
)
def test_next_step_follows_from_the_ledger(state: State, age_s: float, expected: tuple[str, float | None]) -> None:
    assert next_step(record(state, age_s), NOW, POLICY) == expected
