"""Attempts of retrainings: end those whose flow runs died, so that the next attempt can start.

The record in the lake states that an attempt has started; Prefect has the state of its run. A run that ended without
an update of the record (cancelled, crashed, killed with its machine) ends its attempt. A run that is still PENDING or
RUNNING long after its budget is dead: it is set to Crashed, which frees its concurrency slot. The budget does not run
while it waits for another training or for a worker.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from absa.errors import ConflictError
from absa.ledger.store import Ledger
from absa.records.schema import Window
from flows.platform.ports import RunEnd, RunState

if TYPE_CHECKING:
    from absa.records.verdict import Verdict
    from monitoring.verdicts import VerdictStore

GRACE_S: Final = 300.0
WAIT_S: Final = 6 * 3600.0  # longest wait for another training, a worker or a machine
_FEWEST_VERDICTS: Final = 50


def recent_verdicts(store: "VerdictStore", now: datetime, span_s: float) -> list["Verdict"]:
    """Return the last revision of every window that ended within `span_s` seconds before now, the newest last.

    At least the fifty newest are returned, also if windows are very short.
    """
    found: list[Verdict] = []
    for verdict in store.newest_first():
        if len(found) >= _FEWEST_VERDICTS and verdict.window.end < now - timedelta(seconds=span_s):
            break
        found.append(verdict)
    return found[::-1]


def is_in_ledger(ledger: Ledger, window: Window, since: datetime) -> bool:
    """Return True if a training for the window has appended every record of its version since a time."""
    for record in reversed(ledger.follow()):
        if record.at < since:
            break
        if record.action not in {"register", "challenge", "promote"}:
            continue
        evidence = ledger.evidence(record)
        complete = record.action != "register" or evidence.get("verdict") != "PROMOTE"  # a challenge follows then
        if complete and (evidence.get("training") or {}).get("window") == window.key:
            return True
    return False


def settle_attempts(
    store: "VerdictStore",
    state_of: Callable[[str], RunState | None],
    give_up: Callable[[str, str], None],
    in_ledger: Callable[[Window, datetime], bool] = lambda *_: False,
    *,
    budget_s: float,
    now: datetime,
    grace_s: float = GRACE_S,
    wait_s: float = WAIT_S,
) -> list[str]:
    """End the attempts whose runs have ended or will never end.

    Args:
        store: the verdict records.
        state_of: returns the state of a flow run; None if Prefect has no such run.
        give_up: sets a run to Crashed, with a reason.
        in_ledger: returns True if a training for a window has recorded its version in the ledger since a time. Its run
            has then done its work, in any state.
        budget_s: seconds of a retraining, from its run's start; a run is dead `grace_s` after it should have ended.
            An attempt without a run (the monitor was killed between the record and Prefect) is dead after `grace_s`.
        now: current time.
        grace_s: seconds that a run may be late.
        wait_s: seconds that a run may wait for its start.

    Returns:
        A sentence for each attempt that was ended.

    Raises:
        UnavailableError: Prefect is unavailable; the next call settles the rest.
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
            if end == "failed" and in_ledger(verdict.window, attempt.at):
                end, detail = "completed", f"{detail}, and its version is in the ledger"
            try:
                store.end_attempt(verdict.window, attempt.number, end, detail=detail, at=now)
            except ConflictError:
                continue  # another writer was first; the next call settles the rest
            said.append(f"attempt {attempt.number} of window {verdict.window.key} {end}: {detail}")
    return said
