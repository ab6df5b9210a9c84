"""Runs of Prefect deployments, through Prefect's API. Prefect is imported on first use."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

from absa.errors import UnavailableError
from flows.platform.ports import ConcurrencyLimit, HeldState, RunEnd, RunState, UnfinishedRun

TRAINING: Final = "continuous-training/continuous-training"
PROMOTION: Final = "promote/promote"
MONITOR: Final = "monitor/monitor"
SCORING: Final = "batch/batch"
TAG: Final = "evergreen"  # of every deployment of the platform
SCHEDULED: Final = "schedule"  # reason of a training that its schedule starts
_PAGE: Final = 200
_LOOK_EVERY_S: Final = 0.5


def promotion_key(version: str) -> str:
    """Return the idempotency key of the promotion that follows a version's training."""
    return f"promote-{version}"


class PrefectDeployments:
    """`Deployments` on Prefect's server.

    Methods raise UnavailableError if the server is unavailable, or if an object was deleted meanwhile.

    Args:
        registered_within_s: seconds to wait for a deployment that is not registered yet.
    """

    def __init__(self, *, registered_within_s: float = 90.0) -> None:
        self._registered_within_s = registered_within_s

    def start(
        self,
        name: str,
        parameters: Mapping[str, Any],
        *,
        key: str | None = None,
        tags: Sequence[str] = (),
        at: datetime | None = None,
    ) -> str:
        """Request a run and do not wait for it; see `Deployments`."""
        import httpx
        from prefect.deployments import run_deployment
        from prefect.exceptions import ObjectNotFound

        ends = time.monotonic() + self._registered_within_s
        while True:
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
            except ObjectNotFound as error:  # `evergreen up` may return before the worker has registered it
                if time.monotonic() > ends:
                    raise UnavailableError(f"Prefect has no deployment {name}: `evergreen up` registers it") from error
                time.sleep(_LOOK_EVERY_S)
            except (httpx.HTTPError, RuntimeError) as error:
                raise UnavailableError(f"Prefect could not start {name}: {error}") from error
            else:
                return str(run.id)

    def state(self, run_id: str) -> RunState | None:
        """Return the state of a run, or None if it was deleted."""
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
        began_at = run.start_time or (state.timestamp if state.is_pending() else None)  # PENDING holds a slot
        return RunState(name=state.name or state.type.value, end=end, began_at=began_at)

    def crash(self, run_id: str, why: str) -> None:
        """Set a run that will never end to Crashed, so that its concurrency slot is free again."""
        from prefect.states import Crashed

        self._end(run_id, Crashed(message=why))

    def cancel(self, run_id: str, why: str) -> None:
        """Set a run that was being cancelled to Cancelled, so that its concurrency slot is free again."""
        from prefect.states import Cancelled

        self._end(run_id, Cancelled(message=why))

    def _end(self, run_id: str, state: Any) -> None:
        from prefect.exceptions import ObjectNotFound

        with _client() as client, suppress(ObjectNotFound):  # the run may have been deleted
            client.set_flow_run_state(UUID(run_id), state, force=True)

    def unfinished(self) -> list[UnfinishedRun]:
        """Return every run of the platform's deployments that is PENDING, RUNNING or CANCELLING."""
        from prefect.client.schemas.filters import FlowRunFilter

        held = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}})
        found: list[Any] = []
        with _client() as client:
            names = {each.id: name for each, name in _deployments(client)}
            while len(found) % _PAGE == 0:
                page = client.read_flow_runs(
                    flow_run_filter=held, deployment_filter=_tagged(), limit=_PAGE, offset=len(found)
                )
                if not page:
                    break
                found += page
        return [
            UnfinishedRun(
                run_id=str(run.id),
                name=run.name,
                deployment=names[run.deployment_id],
                state=cast(HeldState, run.state.type.value),
                state_id=str(run.state.id),
                since=run.state.timestamp,
                parameters=run.parameters,
            )
            for run in found
            if run.state is not None and run.deployment_id in names
        ]

    def limits(self) -> list[ConcurrencyLimit]:
        """Return the concurrency limit of each deployment that has one."""
        with _client() as client:
            return [
                ConcurrencyLimit(deployment=name, name=limit.name, taken=limit.active_slots)
                for each, name in _deployments(client)
                if (limit := each.global_concurrency_limit) is not None
            ]

    def set_taken(self, limit: ConcurrencyLimit, taken: int) -> None:
        """Correct the number of slots that Prefect counts as taken."""
        from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

        with _client() as client:
            client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(active_slots=taken))

    def pause(self, run_id: str, timeout_s: float) -> None:
        """Show a run as Paused; see `Deployments`."""
        from prefect.states import Paused

        state: Any = Paused(timeout_seconds=round(timeout_s))
        with _client() as client:
            client.set_flow_run_state(UUID(run_id), state)

    def resume(self, run_id: str) -> None:
        """Set a paused run to Running."""
        with _client() as client:
            client.resume_flow_run(UUID(run_id))

    def emit(self, event: str, resource: str, payload: Mapping[str, Any]) -> None:
        """Send an event to Prefect."""
        from prefect.events import emit_event

        emit_event(event=event, resource={"prefect.resource.id": resource}, payload=dict(payload))


def _tagged() -> Any:
    from prefect.client.schemas.filters import DeploymentFilter

    return DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})


def _deployments(client: Any) -> list[tuple[Any, str]]:
    """Return the platform's deployments, each with `flow/deployment`, its name."""
    found = client.read_deployments(deployment_filter=_tagged())
    return [(each, f"{client.read_flow(each.flow_id).name}/{each.name}") for each in found]


@contextmanager
def _client() -> Iterator[Any]:
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    try:
        with get_client(sync_client=True) as client:
            yield client
    except ObjectNotFound as error:
        raise UnavailableError("a flow run or deployment in Prefect was deleted meanwhile: try again") from error
    except (httpx.HTTPError, RuntimeError) as error:
        raise UnavailableError(f"Prefect is unavailable: {error}") from error
