"""Monitor and retrainings of the demo: runs of the deployments, started now instead of by their schedule."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from absa.errors import PermanentError, UnavailableError
from absa.records.schema import Window
from flows.platform.prefect_runs import MONITOR
from flows.platform.services import Services

if TYPE_CHECKING:
    from absa.records.verdict import Verdict

MONITOR_LIMIT_S: Final = 360.0  # for the monitor to judge a window on a busy machine
_REGISTERED_WITHIN_S: Final = 240.0
_LOOK_EVERY_S: Final = 0.5
LATE_S: Final = 90.0  # a retraining that has run so long beyond its budget is dead; in the demo it starts in seconds


class Background:
    """Judgement of a window in a thread. `result` waits for the verdict, and raises the error of the thread."""

    def __init__(self, call: Callable[[], "Verdict"]) -> None:
        self._found: Verdict | BaseException | None = None

        def work() -> None:
            try:
                self._found = call()
            except BaseException as error:  # result() raises it
                self._found = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def is_over(self) -> bool:
        """Return True if the thread has ended, so that `result` does not wait."""
        return not self._thread.is_alive()

    def result(self) -> "Verdict":
        """Wait for the thread and return its verdict."""
        self._thread.join()
        if isinstance(self._found, BaseException):
            raise self._found
        if self._found is None:
            raise UnavailableError("the monitor ended without a verdict")
        return self._found


def run_monitor(services: Services, window: Window, *, retrain: bool, report: bool = True) -> "Verdict":
    """Run the monitor deployment for a window, wait for its end and return the verdict.

    Raises:
        UnavailableError: Prefect is unavailable, or the monitor wrote no verdict in time.
    """
    from monitoring.verdicts import VerdictStore

    run_id = _start_monitor(services, {"window": window.key, "retrain": retrain, "report": report})
    ends, state = time.monotonic() + MONITOR_LIMIT_S, None
    while time.monotonic() < ends and (state is None or state.end is None):
        time.sleep(_LOOK_EVERY_S)
        state = services.deployments.state(run_id)
    found = VerdictStore(services.lake).latest(window)
    if found is None:
        page = services.home.flow_run_page(run_id)
        raise UnavailableError(
            f"the monitor wrote no verdict (state of its run: {state.name if state else 'unknown'}): see {page}"
        )
    return found


def last_retraining(services: Services) -> "Verdict | None":
    """Return the last verdict for which a retraining was started, or None."""
    from monitoring.verdicts import VerdictStore

    history = VerdictStore(services.lake).history(limit=20)
    return next((verdict for verdict in reversed(history) if verdict.attempts), None)


def retraining_is_pending(services: Services) -> bool:
    """Return True if a retraining runs, or if a failed one may be tried again."""
    asked = last_retraining(services)
    return asked is not None and (asked.attempts[-1].state == "started" or asked.retraining_is_due)


def retrain_again(services: Services) -> str | None:
    """Start the next attempt of a failed or dead retraining without a wait for the next window.

    Returns:
        A sentence about the new attempt; None if nothing failed, or another process has started the attempt.

    Raises:
        PermanentError: the last permitted attempt has failed.
        UnavailableError: Prefect is unavailable.
    """
    from absa.records.verdict import MAX_ATTEMPTS
    from flows.monitoring.monitor_window import settle, try_again
    from monitoring.verdicts import VerdictStore

    store = VerdictStore(services.lake)
    settle(services, store, grace_s=LATE_S)
    asked = last_retraining(services)
    if asked is None or asked.attempts[-1].state != "failed":
        return None
    failed = asked.attempts[-1]
    if failed.number >= MAX_ATTEMPTS:
        raise PermanentError(f"the retraining failed {failed.number} times: {failed.detail}")
    if try_again(services, store, asked) is None:
        return None
    return f"attempt {failed.number} failed: {failed.detail}; the next one starts"


def _start_monitor(services: Services, parameters: dict[str, Any]) -> str:
    """Start the monitor; wait for the Prefect worker, which registers the deployment after its start."""
    ends = time.monotonic() + _REGISTERED_WITHIN_S
    while True:
        try:
            return services.deployments.start(MONITOR, parameters)
        except UnavailableError:
            if time.monotonic() > ends:
                raise
            time.sleep(_LOOK_EVERY_S)
