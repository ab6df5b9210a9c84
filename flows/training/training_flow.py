"""Flow continuous-training: snapshot → train inside the budget → judge → register → challenger or first champion."""

from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import Field

from absa.policies import RecipeName
from flows.platform.artifacts import flow_services, leave_signs
from flows.training.requested_training import run_training
from flows.training.train_version import TrainingRequest


def _run_name() -> str:
    return f"train-{flow_run.parameters.get('reason', 'manual')}-{datetime.now(UTC):%m%d-%H%M%S}"


@flow(name="continuous-training", flow_run_name=_run_name, on_running=[leave_signs])
def continuous_training(
    window: Annotated[str | None, Field(description="Key of the window whose verdict requested this run.")] = None,
    budget_s: Annotated[float | None, Field(description="Budget of the whole run, in seconds.")] = None,
    sources: Annotated[list[str] | None, Field(description="Files to ingest beside the feedback in the lake.")] = None,
    reason: Annotated[str, Field(description="Origin: schedule, drift, labels, or an operator's name.")] = "manual",
    start_promotion: Annotated[bool, Field(description="Start the promote deployment for a new challenger.")] = True,
    recipe: Annotated[
        RecipeName | None, Field(description="fast, best or distilled; empty: as the settings say.")
    ] = None,
    teachers: Annotated[
        list[str] | None, Field(description="Encoders that teach, folders or hub names; empty: as the settings say.")
    ] = None,
    teacher_budget_s: Annotated[
        float | None, Field(description="Seconds of each teacher, before the budget; empty: as the settings say.")
    ] = None,
    unlabelled: Annotated[list[str] | None, Field(description="Files without labels for teachers.")] = None,
    base: Annotated[str | None, Field(description="Folder of a base model to start from, not the champion.")] = None,
) -> dict[str, Any]:
    """Train on the newest snapshot inside a budget, judge against the champion, register."""
    services = flow_services()
    request = TrainingRequest(
        budget_s=budget_s or services.settings.budget_s,
        sources=tuple(sources or ()),
        reason=reason,
        window=window,
        base=base,
        recipe=recipe,
        teachers=tuple(teachers or ()),
        teacher_budget_s=teacher_budget_s,
        unlabelled=tuple(unlabelled or ()),
        start_promotion=start_promotion,
    )
    return run_training(services, request, flow_run_id=str(flow_run.id))
