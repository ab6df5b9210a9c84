"""The durable trigger: a verdict record decides whether a retraining is due, an attempt carries its own key."""

from datetime import datetime
from typing import Any, Final

from absa.errors import UnavailableError

TRAINING: Final = "continuous-training/continuous-training"
PROMOTION: Final = "promote/promote"


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
