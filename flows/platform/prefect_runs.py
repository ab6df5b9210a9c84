"""Runs of Prefect deployments: start one, read its state, set it to Crashed. Prefect is imported on first use."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from absa.errors import UnavailableError
from flows.platform.ports import RunEnd, RunState

TRAINING: Final = "continuous-training/continuous-training"
PROMOTION: Final = "promote/promote"


def promotion_key(version: str) -> str:
    """Return the idempotency key of the promotion that follows a version's training."""
    return f"promote-{version}"


class PrefectDeployments:
    """`Deployments` of Prefect's server."""

    def start(
        self,
        name: str,
        parameters: Mapping[str, Any],
        *,
        key: str | None = None,
        tags: Sequence[str] = (),
        at: datetime | None = None,
    ) -> str:
        """Request a run and do not wait for it; see `Deployments`.

        Raises:
            UnavailableError: Prefect is unavailable, or has no such deployment.
        """
        import httpx
        from prefect.deployments import run_deployment
        from prefect.exceptions import ObjectNotFound

        try:
            run: Any = run_deployment(
                name,
                parameters=dict(parameters),
                idempotency_key=key,
                timeout=0,
                as_subflow=False,
                tags=list(tags),
                scheduled_time=at,
            )
        except (httpx.HTTPError, ObjectNotFound, RuntimeError) as error:
            raise UnavailableError(f"Prefect could not start {name}: {error}") from error
        return str(run.id)

    def state(self, run_id: str) -> RunState | None:
        """Return the state of a run, None where it was deleted.

        Raises:
            UnavailableError: Prefect is unavailable.
        """
        from prefect.exceptions import ObjectNotFound

        with _client() as client:
            try:
                run = client.read_flow_run(UUID(run_id))
            except ObjectNotFound:
                return None
        state = run.state
        if state is None:
            return RunState(name="unknown", end=None)
        end: RunEnd | None = None if not state.is_final() else "completed" if state.is_completed() else "failed"
        began_at = run.start_time or (state.timestamp if state.is_pending() else None)  # PENDING holds a place already
        return RunState(name=state.name or state.type.value, end=end, began_at=began_at)

    def crash(self, run_id: str, why: str) -> None:
        """Set a run that will never end to Crashed, so that its concurrency slot is free again.

        Raises:
            UnavailableError: Prefect is unavailable.
        """
        from prefect.exceptions import ObjectNotFound
        from prefect.states import Crashed

        with _client() as client:
            try:
                client.set_flow_run_state(UUID(run_id), Crashed(message=why), force=True)
            except ObjectNotFound:
                return

    def pause(self, run_id: str, timeout_s: float) -> None:
        """Show a run as Paused; see `Deployments`.

        Raises:
            UnavailableError: Prefect is unavailable.
        """
        from prefect.states import Paused

        state: Any = Paused(timeout_seconds=round(timeout_s))
        with _client() as client:
            client.set_flow_run_state(UUID(run_id), state)

    def resume(self, run_id: str) -> None:
        """Set a paused run to Running.

        Raises:
            UnavailableError: Prefect is unavailable.
        """
        with _client() as client:
            client.resume_flow_run(UUID(run_id))

    def emit(self, event: str, resource: str, payload: Mapping[str, Any]) -> None:
        """Send an event to Prefect."""
        from prefect.events import emit_event

        emit_event(event=event, resource={"prefect.resource.id": resource}, payload=dict(payload))


@contextmanager
def _client() -> Iterator[Any]:
    import httpx
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, RuntimeError) as error:
        raise UnavailableError(f"Prefect is unavailable: {error}") from error
