"""Flow promote: translates `promotion_look` into a run of Prefect."""

from typing import Annotated, Any

from prefect import flow, runtime
from pydantic import Field

from absa.errors import UnavailableError
from absa.ledger.history import steps_of
from absa.ledger.record import LedgerRecord
from flows.platform.artifacts import PrefectReporter, leave_signs
from flows.platform.prefect_runs import PrefectDeployments
from flows.platform.services import build_services
from flows.promotion.approval import OperatorApproval
from flows.promotion.promotion_look import Trial, promote_versions
from flows.promotion.promotion_request import PromotionRequest
from flows.promotion.take_over import follow


def started_again(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001  Prefect's signature of a hook
    """Request a promotion again after its process died (hook of Prefect)."""
    try:
        follow(PrefectDeployments(), str(flow_run.id), flow_run.parameters)
    except UnavailableError:
        return  # the next look of a worker or monitor starts the promotion


@flow(name="promote", flow_run_name="promote-v{version}", on_running=[leave_signs], on_crashed=[started_again])
def promote(
    version: Annotated[str, Field(description="The challenger's registry version.")],
    others: Annotated[list[str] | None, Field(description="Versions that are tried beside it, each in an arm.")] = None,
    again: Annotated[bool, Field(description="Try a version that was rolled back or replaced before.")] = False,
    revision: Annotated[
        int | None, Field(description="Ledger record at which it was requested; a later champion makes it outdated.")
    ] = None,
) -> dict[str, Any]:
    """Take a challenger through shadow and A/B until it is champion or rolled back."""
    services = build_services(reporter=PrefectReporter())
    found = runtime.flow_run.get_id()
    run_id = None if found is None else str(found)
    approval = None
    if services.settings.approval and run_id is not None:
        approval = OperatorApproval(services.deployments, run_id, timeout_s=services.settings.experiment.approval_s)
    services.project()  # a killed run may have left aliases that lag behind the ledger
    request = PromotionRequest(versions=(version, *(others or [])), revision=revision, again=again)
    ended = promote_versions(Trial(services=services, request=request, run_id=run_id, approval=approval))
    services.project()
    steps = [_row(record) for record in steps_of(services.ledger.follow(), version)]
    services.reporter.table(steps, key="promotion", description=ended.reason)
    return {"version": version, "champion": ended.state.champion, "reason": ended.reason}


def _row(record: LedgerRecord) -> dict[str, Any]:
    plan = record.state.plan
    share = plan.challengers[0].share if plan is not None and plan.challengers else 0.0
    return {
        "number": record.number,
        "at": record.at.isoformat(timespec="seconds"),
        "action": record.action,
        "challenger's share": share,
        "reason": record.reason,
    }
