"""What became of retraining attempts: a killed run is told apart from one that works, and lets the next one go.

The record in the lake says that an attempt has started; Prefect says how its run stands. A run that ended without
telling the record (cancelled, crashed, killed with its machine) ends its attempt here. One that is still PENDING or
RUNNING long after its budget is dead: it is set to Crashed, which gives its place in the concurrency limit back. While
it waits for another training, or for a worker, its budget has not begun.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from absa.errors import ConflictError, UnavailableError
from absa.schema import Window

if TYPE_CHECKING:
    from monitoring.verdicts import Verdict, VerdictStore

GRACE_S: Final = 300.0
WAIT_S: Final = 6 * 3600.0  # for its turn, for a worker or for a machine
_FEWEST_VERDICTS: Final = 50

RunEnd = Literal["completed", "failed"]


@dataclass(frozen=True, kw_only=True)
class RunState:
    """How a flow run stands. `end` is None while it has not ended, `began_at` while it waits for its turn."""

    name: str
    end: RunEnd | None
    began_at: datetime | None = None


def recent_verdicts(store: "VerdictStore", now: datetime, span_s: float) -> list["Verdict"]:
    """The last revision of every window that ended in so many seconds before now, however short windows are.

    Fifty of the newest are always there; the newest stands last.
    """
    limit = _FEWEST_VERDICTS
    while True:
        found = store.history(limit=limit)
        if len(found) < limit or found[0].window.end < now - timedelta(seconds=span_s):
            return found
        limit *= 2


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


def run_state(run_id: str) -> RunState | None:
    """How a flow run stands in Prefect.

    Raises:
        UnavailableError: Prefect does not answer.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(run_id))
    except ObjectNotFound:
        return None
    except (httpx.HTTPError, RuntimeError) as error:
        raise UnavailableError(f"Prefect is unavailable: {error}") from error
    state = run.state
    if state is None:
        return RunState(name="unknown", end=None)
    end: RunEnd | None = None if not state.is_final() else "completed" if state.is_completed() else "failed"
    began_at = run.start_time or (state.timestamp if state.is_pending() else None)  # PENDING holds a place already
    return RunState(name=state.name or state.type.value, end=end, began_at=began_at)


def crash_run(run_id: str, why: str) -> None:
    """Set a run that will never end to Crashed, so that its place in the concurrency limit is free again.

    Raises:
        UnavailableError: Prefect does not answer.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Crashed

    try:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(run_id), Crashed(message=why), force=True)
    except ObjectNotFound:
        return
    except (httpx.HTTPError, RuntimeError) as error:
        raise UnavailableError(f"Prefect is unavailable: {error}") from error
