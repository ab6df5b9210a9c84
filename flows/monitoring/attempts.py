"""What became of retraining attempts: a killed run is told apart from one that works, and lets the next one go.

The record in the lake says that an attempt has started; Prefect says how its run stands. A run that ended without
telling the record (cancelled, crashed, killed with its machine) ends its attempt here. One that is still PENDING or
RUNNING long after its budget is dead: it is set to Crashed, which gives its place in the concurrency limit back. While
it waits for another training, or for a worker, its budget has not begun.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from absa.errors import ConflictError
from absa.records.schema import Window
from flows.platform.ports import RunEnd, RunState

if TYPE_CHECKING:
    from monitoring.verdicts import Verdict, VerdictStore

GRACE_S: Final = 300.0
WAIT_S: Final = 6 * 3600.0  # for its turn, for a worker or for a machine
_FEWEST_VERDICTS: Final = 50


def recent_verdicts(store: "VerdictStore", now: datetime, span_s: float) -> list["Verdict"]:
    """Return the last revision of every window that ended within `span_s` seconds before now, the newest last.

    However short windows are, at least the fifty newest are returned.
    """
    found: list[Verdict] = []
    for verdict in store.newest_first():
        if len(found) >= _FEWEST_VERDICTS and verdict.window.end < now - timedelta(seconds=span_s):
            break
        found.append(verdict)
    return found[::-1]


def settle_attempts(
    store: "VerdictStore",
    state_of: Callable[[str], RunState | None],
    give_up: Callable[[str, str], None],
    is_in_force: Callable[[Window, datetime], bool] = lambda *_: False,
    *,
    budget_s: float,
    now: datetime,
    grace_s: float = GRACE_S,
    wait_s: float = WAIT_S,
) -> list[str]:
    """End the attempts whose runs have ended or will never end.

    Args:
        store: the verdict records.
        state_of: how a flow run stands; None where Prefect knows no such run.
        give_up: sets a run to Crashed, with a reason.
        is_in_force: whether a training for a window has brought its version into the ledger since a time. Its run has
            done its work then, however it ended.
        budget_s: of a retraining, from its run's begin; a run is dead `grace_s` after it should have ended. An attempt
            without a run (the monitor was killed between the record and Prefect) is dead after `grace_s`.
        now: the time of looking.
        grace_s: how long a run may be late.
        wait_s: how long a run may wait for its begin.

    Returns:
        A sentence for each attempt that was ended.

    Raises:
        UnavailableError: Prefect does not answer; the next look settles what is left.
    """
    said = []
    for verdict in recent_verdicts(store, now, wait_s + budget_s + grace_s):
        for attempt in verdict.attempts:
            if attempt.state != "started":
                continue
            run = None if attempt.flow_run_id is None else state_of(attempt.flow_run_id)
            began_at = None if run is None else run.began_at
            age_s = (now - (began_at or attempt.at)).total_seconds()
            end: RunEnd | None = None if run is None else run.end
            detail = "its run is unknown to Prefect" if run is None else f"its run is {run.name}"
            late_s = grace_s if run is None else wait_s if began_at is None else budget_s + grace_s
            if end is None and age_s > late_s:
                end, detail = "failed", f"{detail} after {age_s:.0f} s"
                if run is not None and attempt.flow_run_id is not None:
                    give_up(attempt.flow_run_id, f"given up: {detail}")
            if end is None:
                continue
            if end == "failed" and is_in_force(verdict.window, attempt.at):
                end, detail = "completed", f"{detail}, and its version is in the ledger"
            try:
                store.end_attempt(verdict.window, attempt.number, end, detail=detail, at=now)
            except ConflictError:
                continue  # someone else wrote meanwhile; the next look sees what is left
            said.append(f"attempt {attempt.number} of window {verdict.window.key} {end}: {detail}")
    return said
