"""The demo's monitor: the deployment judges a window now, in the background where traffic goes on meanwhile."""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from absa.errors import UnavailableError
from absa.schema import Window
from flows.wiring import Services

if TYPE_CHECKING:
    from monitoring.verdicts import Verdict

MONITOR_LIMIT_S: Final = 120.0


class Background:
    """A window that is judged in a thread; `result` waits for the verdict and raises what was raised."""

    def __init__(self, call: Callable[[], "Verdict"]) -> None:
        self._found: Verdict | BaseException | None = None

        def work() -> None:
            try:
                self._found = call()
            except BaseException as error:  # handed on by result()
                self._found = error

        self._thread = threading.Thread(target=work, daemon=True)
        self._thread.start()

    def is_over(self) -> bool:
        """Whether `result` gives at once."""
        return not self._thread.is_alive()

    def result(self) -> "Verdict":
        """The verdict, once it is there."""
        self._thread.join()
        if isinstance(self._found, BaseException):
            raise self._found
        if self._found is None:
            raise UnavailableError("the background call gave nothing")
        return self._found


def judge_window(services: Services, window: Window, *, retrain: bool, report: bool = True) -> "Verdict":
    """Run the monitor deployment for a window and give its verdict record."""
    from prefect.deployments import run_deployment

    from monitoring.verdicts import VerdictStore

    _wait_for_deployment("monitor/monitor")
    run: Any = run_deployment(
        "monitor/monitor",
        parameters={"window": window.key, "retrain": retrain, "report": report},
        timeout=MONITOR_LIMIT_S,
        poll_interval=0.5,
        as_subflow=False,
    )
    found = VerdictStore(services.lake).latest(window)
    if found is None:
        page = f"{services.home.url('prefect')}/runs/flow-run/{run.id}"
        raise UnavailableError(f"the monitor gave no verdict ({run.state.name if run.state else 'no state'}): {page}")
    return found


def _wait_for_deployment(name: str, *, timeout_s: float = 60.0) -> None:
    """Wait until Prefect knows a deployment: its process has registered it since it was started."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    ends = time.monotonic() + timeout_s
    with get_client(sync_client=True) as client:
        while time.monotonic() < ends:
            try:
                client.read_deployment_by_name(name)
            except ObjectNotFound:
                time.sleep(0.3)
            else:
                return
    raise UnavailableError(f"Prefect has no deployment {name} after {timeout_s:.0f} s; see deployments.log")
