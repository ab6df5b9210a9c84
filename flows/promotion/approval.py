"""Operator's approval before a promotion: Prefect shows the flow run as paused, and Resume approves."""

import time
from collections.abc import Callable
from typing import Final

from absa.errors import PermanentError
from flows.platform.ports import Deployments

_LOOK_EVERY_S: Final = 2.0


class OperatorApproval:
    """Pauses a flow run without stopping its process.

    Args:
        deployments: port to the flow runs.
        run_id: flow run of this process.
        timeout_s: seconds until the request expires.
        clock: monotonic time in seconds.
    """

    def __init__(
        self, deployments: Deployments, run_id: str, *, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._deployments, self._run_id, self._timeout_s, self._clock = deployments, run_id, timeout_s, clock
        self._requested_at: float | None = None
        self._look_at = clock()
        self._approved = False

    def given(self) -> bool:
        """Return True once the operator has resumed the run; the first call pauses it.

        Raises:
            PermanentError: the request expired. The experiment stays as it is; a new run requests approval again.
            UnavailableError: Prefect is unavailable.
        """
        now = self._clock()
        if self._approved or now < self._look_at:
            return self._approved
        if self._requested_at is None:
            self._deployments.pause(self._run_id, self._timeout_s + 60)
            self._requested_at = now
        else:
            state = self._deployments.state(self._run_id)
            self._approved = state is not None and state.name == "Running"
        self._look_at = now + _LOOK_EVERY_S
        if not self._approved and now - self._requested_at > self._timeout_s:
            self.withdraw()
            raise PermanentError(
                f"no operator approved the promotion within {self._timeout_s / 3600:.1f} h; the experiment continues: "
                "start the promotion again to request approval again"
            )
        return self._approved

    def withdraw(self) -> None:
        """Resume the run without an approval."""
        if self._requested_at is not None and not self._approved:
            self._deployments.resume(self._run_id)
            self._requested_at = None
