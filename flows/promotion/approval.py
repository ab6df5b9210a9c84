"""A person's word before a promotion: the flow run is shown as paused in Prefect, and Resume approves."""

import time
from typing import Any, Final, Protocol
from uuid import UUID

from absa.errors import PermanentError

_ASK_EVERY_S: Final = 2.0


class Approval(Protocol):
    """Asks once and is then asked again and again, so that guardrails are watched while a person thinks."""

    def given(self) -> bool:
        """Whether a person has approved; the first call asks."""

    def withdraw(self) -> None:
        """The question has settled itself: take it back where it was asked."""


class PrefectApproval:
    """Pauses the flow run that it is used in, without stopping its process.

    Args:
        timeout_s: how long an answer is waited for.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._asked_at: float | None = None
        self._looked_at = 0.0
        self._approved = False

    def given(self) -> bool:
        """Whether somebody pressed Resume.

        Raises:
            PermanentError: nobody did in time. The experiment stays as it is; a new run asks again.
        """
        from prefect.client.orchestration import get_client
        from prefect.states import Paused

        if self._approved or time.monotonic() - self._looked_at < _ASK_EVERY_S:
            return self._approved
        with get_client(sync_client=True) as client:
            if self._asked_at is None:
                pause: Any = Paused(timeout_seconds=round(self._timeout_s) + 60)
                client.set_flow_run_state(_run_id(), pause)
                self._asked_at = time.monotonic()
            else:
                state = client.read_flow_run(_run_id()).state
                self._approved = state is not None and state.is_running()
        self._looked_at = time.monotonic()
        if not self._approved and time.monotonic() - self._asked_at > self._timeout_s:
            self.withdraw()
            raise PermanentError(
                f"nobody approved the promotion within {self._timeout_s / 3600:.1f} h; the experiment goes on as it is"
            )
        return self._approved

    def withdraw(self) -> None:
        """Go on without an answer."""
        from prefect.client.orchestration import get_client

        if self._asked_at is None or self._approved:
            return
        with get_client(sync_client=True) as client:
            client.resume_flow_run(_run_id())
        self._asked_at = None


def _run_id() -> UUID:
    from prefect.runtime import flow_run

    return UUID(str(flow_run.get_id()))
