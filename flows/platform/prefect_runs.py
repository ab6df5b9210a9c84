"""Runs of Prefect deployments: start one, read its state, set it to Crashed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from absa.errors import UnavailableError

TRAINING: Final = "continuous-training/continuous-training"
PROMOTION: Final = "promote/promote"

RunEnd = Literal["completed", "failed"]


@dataclass(frozen=True, kw_only=True)
class RunState:
    """How a flow run stands. `end` is None while it has not ended, `began_at` while it waits for its turn."""

    name: str
    end: RunEnd | None
    began_at: datetime | None = None


def promotion_key(version: str) -> str:
    """The idempotency key of the promotion that follows a version's training."""
    return f"promote-{version}"


def start_deployment(
    name: str,
    parameters: dict[str, Any],
    *,
    key: str | None = None,
    tags: list[str] | None = None,
    at: datetime | None = None,
) -> str:
    """Ask Prefect to run a deployment and do not wait for it.

    Args:
        name: flow/deployment, such as `TRAINING`.
        parameters: of the flow.
        key: idempotency key; a second call with the same key answers with the first run.
        tags: of the run.
        at: when it shall start; by default at once.

    Returns:
        The flow run's id.

    Raises:
        UnavailableError: Prefect does not answer, or has no such deployment.
    """
    import httpx
    from prefect.deployments import run_deployment
    from prefect.exceptions import ObjectNotFound

    try:
        run: Any = run_deployment(
            name,
            parameters=parameters,
            idempotency_key=key,
            timeout=0,
            as_subflow=False,
            tags=tags,
            scheduled_time=at,
        )
    except (httpx.HTTPError, ObjectNotFound, RuntimeError) as error:
        raise UnavailableError(f"Prefect could not start {name}: {error}") from error
    return str(run.id)


def emit(event: str, resource: str, payload: dict[str, Any]) -> None:
    """Telemetry on top of the record: an event that is lost changes nothing."""
    from prefect.events import emit_event

    emit_event(event=event, resource={"prefect.resource.id": resource}, payload=payload)


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
